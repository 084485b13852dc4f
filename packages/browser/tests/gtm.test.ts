import { afterEach, describe, expect, it, vi } from "vitest";

import { gtm } from "../src/destinations/gtm";
import type { Receipt, VendorEvent } from "../src/event";
import "./google.js";

interface Google {
  fired: { event: string; model: Record<string, unknown> }[];
  model: Record<string, unknown>;
}
const page = globalThis as unknown as { dataLayer?: Record<string, unknown>[]; google_tag_manager?: object; loadGoogle(options?: object): Google };

const event = (id: string, metadata = {}): VendorEvent => ({ id, name: "sign_up", value: undefined, metadata, category: "event", action: "sign_up", label: "sign_up" });

function started(options = {}) {
  const told: Pick<Receipt, "event_id" | "status">[] = [];
  const destination = gtm({ timeout: 20, ...options });
  const stop = destination.start?.((receipt) => told.push(receipt)) as () => void;
  return { told, destination, stop };
}

afterEach(() => {
  delete page.dataLayer;
  delete page.google_tag_manager;
});

describe("a push", () => {
  it("that GTM takes is delivered, once, however many containers there are", () => {
    const { told, destination } = started();
    page.loadGoogle();
    page.loadGoogle({ container: "GTM-OTHER" });
    destination.send(event("1"));
    expect(told).toEqual([{ event_id: "1", status: "delivered" }]);
  });

  it("made before GTM came is delivered when it comes", () => {
    const { told, destination } = started({ timeout: 60_000 });
    destination.send(event("1"));
    expect(told).toEqual([]);
    page.loadGoogle();
    expect(told).toEqual([{ event_id: "1", status: "delivered" }]);
  });

  it("that nobody takes is absent, and delivered if GTM comes after all", async () => {
    const { told, destination } = started();
    destination.send(event("1"));
    destination.send(event("2"));
    await vi.waitUntil(() => told.length === 2);
    expect(told.map(({ status }) => status)).toEqual(["absent", "absent"]);
    page.loadGoogle();
    expect(told.slice(2).map(({ status }) => status)).toEqual(["delivered", "delivered"]);
  });

  it("that a loaded GTM never calls back for is failed", async () => {
    const { told, destination } = started();
    page.google_tag_manager = { "GTM-TEST": {} };
    destination.send(event("1"));
    await vi.waitUntil(() => told.length > 0);
    expect(told).toEqual([{ event_id: "1", status: "failed" }]);
  });

  it("is told of no more after the stop", () => {
    const { told, destination, stop } = started();
    destination.send(event("1"));
    stop();
    page.loadGoogle();
    expect(told).toEqual([]);
  });

  it("leaves the callbacks of others alone", () => {
    const { told, destination } = started();
    page.loadGoogle();
    const called: string[] = [];
    page.dataLayer?.push({ event: "theirs", eventCallback: () => called.push("theirs") });
    destination.send(event("1"));
    page.dataLayer?.push({ event: "without" });
    expect([called, told]).toEqual([["theirs"], [{ event_id: "1", status: "delivered" }]]);
  });

  it("gives GTM none of the parameters of an earlier event", () => {
    const google = page.loadGoogle();
    const { destination } = started();
    destination.send({ ...event("1", { plan: "pro" }), value: "9" });
    destination.send(event("2", { seats: 3 }));
    expect(google.model["custom_parameters"]).toEqual({ seats: 3 });
    expect(google.model["value"]).toBeUndefined();
  });

  it("is refused where the layer is no array", () => {
    (page as { dataLayer?: unknown }).dataLayer = "taken";
    expect(started().destination.send(event("1"))).toBe(false);
  });

  it("goes to the layer of the configured name", () => {
    started({ dataLayerName: "otherLayer" }).destination.send(event("1"));
    const other = (globalThis as unknown as { otherLayer: object[] }).otherLayer;
    expect([other.length, page.dataLayer]).toEqual([1, undefined]);
  });
});
