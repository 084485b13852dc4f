/** What a page may hang in: before an event is sent, on each of its steps, and from a tap. */
import { describe, expect, it } from "vitest";

import type { Destination, VendorEvent, WireEvent } from "../src/event";
import { SLICE_MS } from "../src/outbox";
import { accept, balance, createStage } from "./stage";

const vendor = (seen: VendorEvent[], more: Partial<Destination> = {}): Destination => ({ vendor: "gtm", send: (event) => seen.push(event) > 0, ...more });

describe("beforeSend", () => {
  it("changes an event for every destination, but not its id", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)], beforeSend: (event) => ({ ...event, event_id: "other", event_name: "renamed", event_metadata: { plan: "pro" } }) });
    const { id } = analytics.trackEvent({ name: "a" });
    await analytics.flush();
    expect(stage.events()).toMatchObject([{ event_id: id, event_name: "renamed", event_metadata: { plan: "pro" } }]);
    expect(seen).toMatchObject([{ id, name: "renamed", metadata: { plan: "pro" } }]);
  });

  it.each([null, undefined])("drops an event by %s, everywhere and counted", async (nothing) => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)], beforeSend: () => nothing });
    const tracked = analytics.trackEvent({ name: "a" });
    expect(await Promise.all([tracked, analytics.flush()])).toEqual(["discarded", undefined]);
    expect([stage.sent, seen, analytics.stats().discarded, balance(analytics)]).toEqual([[], [], 1, 0]);
  });

  it("that throws costs no event", async () => {
    const stage = createStage();
    const analytics = stage.open({ beforeSend: (event) => { event.event_name = "half done"; delete event.event_metadata?.["plan"]; throw new Error("no"); } });
    analytics.trackEvent({ name: "a", metadata: { plan: "pro" } });
    await analytics.flush();
    expect(stage.events()).toMatchObject([{ event_name: "a", event_metadata: { plan: "pro" } }]);
  });

  it("that takes a message's text out keeps its copies from vendors too", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)], beforeSend: ({ message_content: _, ...event }) => event });
    analytics.trackMessage({ content: "secret", metadata: { copy: "secret", tone: "calm" } });
    await analytics.flush();
    expect(seen).toMatchObject([{ metadata: { tone: "calm" } }]);
    expect(JSON.stringify(seen)).not.toContain("secret");
  });

  it("is not called in the page's own call", async () => {
    const stage = createStage();
    let calls = 0;
    const analytics = stage.open({ beforeSend: (event) => { calls += 1; return event; } });
    analytics.trackEvent({ name: "a" });
    expect(calls).toBe(0);
    await stage.pass(SLICE_MS);
    expect(calls).toBe(1);
  });
});

describe("a mask", () => {
  it("is over every text before anything leaves or is handed on, and leaves ids as they are", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)], mask: (text) => text.replace(/ada|e/g, "*") });
    analytics.identify("ada");
    const { id } = analytics.trackEvent({ name: "e", value: "ada", metadata: { who: "ada", deep: [{ of: "ada" }] } });
    await analytics.flush();
    expect(stage.events()[1]).toMatchObject({ event_id: id, event_name: "e", user_id: "ada", event_value: "*", event_metadata: { who: "*", deep: [{ of: "*" }] } });
    expect(seen[1]).toMatchObject({ id, value: "*", metadata: { who: "*", deep: [{ of: "*" }] } });
  });

  it("that fails lets nothing of the text through", async () => {
    const stage = createStage();
    const analytics = stage.open({ mask: () => { throw new Error("no"); } });
    analytics.trackMessage({ content: "secret" });
    await analytics.flush();
    expect(stage.events()).toMatchObject([{ event_name: "message_sent", message_content: "" }]);
  });
});

describe("debug", () => {
  it("is told of each step of an event, and costs nothing when it throws", async () => {
    const stage = createStage();
    const steps: unknown[] = [];
    const analytics = stage.open({
      destinations: [vendor([])],
      debug: (stage, id, detail) => {
        steps.push([stage, id, typeof detail === "object" ? "" : detail]);
        throw new Error("no");
      },
    });
    stage.respond((sent) => accept(sent, { [id]: "retry" }));
    const { id } = analytics.trackEvent({ name: "a" });
    await analytics.flush();
    stage.respond((sent) => accept(sent));
    await stage.pass(4_000);
    expect(steps).toEqual([["tracked", id, "a"], ["vendor", id, ""], ["stored", id, "memory"], ["sent", id, false], ["retry", id, 200], ["sent", id, false], ["settled", id, "accepted"]]);
  });
});

describe("what a tap observes", () => {
  it("goes to our own service alone, under its source", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)] });
    analytics.observe({ name: "Add To Cart", value: 3, metadata: { sku: "1" }, source: "tap:gtm" });
    await analytics.flush();
    expect(stage.events()).toMatchObject([{ event_name: "add_to_cart", event_value: "3", event_metadata: { sku: "1" }, source: "tap:gtm" }]);
    expect(stage.sent[0]?.envelope.receipts).toBeUndefined();
    expect(seen).toEqual([]);
  });
});

describe("a destination", () => {
  it("is started once, may report later, and is stopped at shutdown", async () => {
    const stage = createStage();
    const calls: string[] = [];
    let report: Parameters<NonNullable<Destination["start"]>>[0] | undefined;
    const start: Destination["start"] = (sink) => {
      report = sink;
      calls.push("start");
      return () => void calls.push("stop");
    };
    const analytics = stage.open({ requireConsent: true, destinations: [vendor([], { start })] });
    expect(calls).toEqual([]);
    analytics.consent("granted");
    analytics.consent("pending");
    analytics.consent("granted");
    const { id } = analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    report?.({ event_id: id, status: "delivered" });
    await analytics.flush();
    expect(stage.sent[0]?.envelope.receipts?.map(({ vendor, status, event_id }) => [vendor, status, event_id])).toEqual([["gtm", "handed", id], ["gtm", "delivered", id]]);
    await analytics.shutdown();
    expect(calls).toEqual(["start", "stop"]);
  });

  it("that cannot be started costs no event", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen, { start: () => { throw new Error("no"); } })] });
    const { id } = analytics.trackEvent({ name: "a" });
    await analytics.flush();
    expect([stage.ids(), seen.map((event) => event.id)]).toEqual([[id], [id]]);
  });
});

describe("consent of each vendor", () => {
  it("stops what a vendor gets, says so on the event, and leaves the others alone", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)] });
    analytics.consent({ gtm: "denied" });
    const { id } = analytics.trackEvent({ name: "a" });
    await analytics.flush();
    expect(seen).toEqual([]);
    expect(stage.events()).toMatchObject([{ event_id: id, consent: { state: "granted", at: "2026-01-05T12:00:00.000Z", denied: ["gtm"] } }]);
    expect(stage.sent[0]?.envelope.receipts).toMatchObject([{ vendor: "gtm", status: "blocked" }]);
  });

  it("holds an event for a vendor alone, and hands it over on the grant", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)] });
    analytics.consent({ gtm: "pending" });
    const { id } = analytics.trackEvent({ name: "a" });
    await analytics.flush();
    expect([stage.ids(), seen]).toEqual([[id], []]);
    analytics.consent({ gtm: "granted" });
    await analytics.flush();
    expect([stage.ids(), seen.map((event) => event.id)]).toEqual([[id], [id]]);
    expect(balance(analytics)).toBe(0);
  });

  it("may be given where our own service has none: the vendor gets the event, we store nothing", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ requireConsent: true, destinations: [vendor(seen)] });
    analytics.consent({ backend: "denied", gtm: "granted" });
    const { id } = analytics.trackEvent({ name: "a" });
    await stage.pass(60_000);
    expect([stage.sent, stage.items.size, seen.map((event) => event.id)]).toEqual([[], 0, [id]]);
    const last = analytics.trackEvent({ name: "b" }).id;
    stage.hide();
    expect(seen.map((event) => event.id)).toEqual([id, last]);
    expect([analytics.stats().discarded, balance(analytics)]).toEqual([2, 0]);
  });

  it("withdrawn in the same moment keeps an event from all of them", async () => {
    const stage = createStage();
    const seen: WireEvent[] | VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen as VendorEvent[])] });
    analytics.trackEvent({ name: "a" });
    analytics.consent("denied");
    await stage.pass(60_000);
    expect([stage.sent, seen, analytics.stats().discarded, balance(analytics)]).toEqual([[], [], 1, 0]);
  });

  it("takes no answer that is none", () => {
    const stage = createStage();
    const analytics = stage.open();
    for (const wild of [{ gtm: "yes" }, {}, null, 5, "toString", { backend: ["granted"] }]) analytics.consent(wild as never);
    analytics.trackEvent({ name: "a" });
    stage.hide();
    expect(stage.events()).toMatchObject([{ consent: "granted" }]);
  });
});
