/** What the project decides from afar, and how soon its browsers know. */
import { describe, expect, it } from "vitest";

import type { Configuration } from "../src/client";
import type { Destination, VendorEvent } from "../src/event";
import { SLICE_MS } from "../src/outbox";
import { position } from "../src/rollout";
import { accept, balance, createStage, refuse, type Sent } from "./stage";

const vendor = (seen: VendorEvent[], more: Partial<Destination> = {}): Destination => ({ vendor: "statsig", send: (event) => seen.push(event) > 0, ...more });
const answering = (version: number, kill = false) => async (sent: Sent): Promise<Response> => Response.json({ ...((await accept(sent).json()) as object), config: { version, kill } });

describe("the configuration", () => {
  it("is asked for at the start, beside the endpoint and with the key, and once a minute while the page is visible", async () => {
    const stage = createStage();
    stage.open({ endpoint: "https://t.example/x/e", writeKey: "w k" });
    await stage.pass(0);
    expect(stage.asked).toEqual([{ at: stage.now(), address: "https://t.example/x/config?write_key=w%20k", cache: "default" }]);
    await stage.pass(5 * 75_000);
    expect(stage.asked).toHaveLength(6);
    stage.hide();
    await stage.pass(600_000);
    expect(stage.asked).toHaveLength(6);
    stage.show();
    await stage.pass(0);
    expect(stage.asked).toHaveLength(7);
    await stage.pass(75_000);
    expect(stage.asked).toHaveLength(8);
  });

  it("is not asked for without consent, nor kept without it", async () => {
    const stage = createStage();
    stage.configure({ version: 2 });
    const analytics = stage.open({ requireConsent: true });
    stage.hide();
    stage.show();
    await stage.pass(300_000);
    expect(stage.asked).toEqual([]);
    analytics.consent("granted");
    await stage.pass(0);
    expect([stage.asked.length, stage.items.size]).toEqual([1, 1]);
    analytics.consent("denied");
    await stage.pass(300_000);
    expect([stage.asked.length, stage.items.size]).toEqual([1, 0]);
  });

  it("is asked for anew, once, when an answer names another version", async () => {
    const stage = createStage();
    stage.configure({ version: 1 });
    const analytics = stage.open();
    await stage.pass(0);
    stage.respond(answering(2));
    for (let n = 0; n < 3; n++) {
      analytics.trackEvent({ name: "a" });
      await analytics.flush();
    }
    expect(stage.asked.map(({ cache }) => cache)).toEqual(["default", "no-cache"]);
  });

  it("that cannot be had or read changes nothing", async () => {
    for (const wild of [undefined, { version: "x" }, { version: 3, batch: null, sampling: 5, share: "x", gate: 1, endpoint: 7, queue: [] }]) {
      const stage = createStage();
      stage.configure(wild);
      const id = stage.open().trackEvent({ name: "a" }).id;
      await stage.pass(2_000);
      expect(stage.ids()).toEqual([id]);
      expect(stage.sent[0]?.address).toBe("/api/analytics/events");
    }
  });

  it("sets sizes and times of batches where the page has not", async () => {
    const stage = createStage();
    stage.configure({ batch: { events: 3, bytes: 49_152, interval_milliseconds: 500 } });
    const analytics = stage.open();
    await stage.pass(0);
    analytics.trackEvent({ name: "a" });
    await stage.pass(500);
    expect(stage.sent).toHaveLength(1);
    for (let n = 0; n < 4; n++) analytics.trackEvent({ name: "b" });
    await stage.pass(SLICE_MS);
    expect(stage.sent.map(({ envelope }) => envelope.events.length)).toEqual([1, 3, 1]);
    const own = createStage();
    own.configure({ batch: { events: 3, bytes: 49_152, interval_milliseconds: 500 } });
    own.open({ flushInterval: 5_000 }).trackEvent({ name: "a" });
    await own.pass(4_999);
    expect(own.sent).toHaveLength(0);
  });

  it("sends batches elsewhere, and is itself still asked for where it was", async () => {
    const stage = createStage();
    stage.configure({ endpoint: "https://eu.example/e" });
    const analytics = stage.open();
    await stage.pass(0);
    analytics.trackEvent({ name: "a" });
    await analytics.flush();
    await stage.pass(75_000);
    expect(stage.sent.map(({ address }) => address)).toEqual(["https://eu.example/e"]);
    expect(new Set(stage.asked.map(({ address }) => address))).toEqual(new Set(["/api/analytics/config?write_key=wk"]));
  });
});

describe("another place for batches", () => {
  const misplaced = (answer: (sent: Sent) => Response | Promise<Response>) => {
    const stage = createStage();
    stage.configure({ endpoint: "/t/e" });
    stage.respond((sent) => (sent.address === "/t/e" ? answer(sent) : accept(sent)));
    return stage;
  };

  it.each<[string, () => Response | Promise<Response>]>([
    ["the site does not pass on", () => new Response("Not found", { status: 404 })],
    ["the site takes no POST at", () => new Response("", { status: 405 })],
    ["the site answers with its own page", () => new Response("<!doctype html>")],
    ["cannot be reached", () => Promise.reject(new TypeError("failed to fetch"))],
  ])("that %s costs nothing: batches go at once to the page's own, which hears of it", async (_, answer) => {
    const stage = misplaced(answer);
    const analytics = stage.open();
    await stage.pass(0);
    const ids = [analytics.trackEvent({ name: "a" }).id];
    await stage.pass(2_000);
    expect(stage.sent.map(({ address }) => address)).toEqual(["/t/e", "/api/analytics/events"]);
    ids.push(analytics.trackEvent({ name: "b" }).id);
    await stage.pass(2_000);
    expect(stage.sent.slice(2).map(({ address }) => address)).toEqual(["/api/analytics/events"]);
    expect((JSON.parse(stage.sent[2]?.body ?? "") as { sdk: { health: object } }).sdk.health).toMatchObject({ blocked: true, refused: 0 });
    expect(new Set(stage.ids())).toEqual(new Set(ids));
    expect(analytics.stats()).toMatchObject({ sent: 2, queued: 0 });
  });

  it("is tried again when the page's own fails, and stays where our own service only asks for patience", async () => {
    const stage = misplaced(() => new Response("", { status: 404 }));
    const analytics = stage.open({ batchSize: 1 });
    await stage.pass(0);
    analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    stage.respond((sent) => (sent.address === "/t/e" ? accept(sent) : new Response("", { status: 403 })));
    analytics.trackEvent({ name: "b" });
    await stage.pass(10_000);
    expect(stage.sent.map(({ address }) => address)).toEqual(["/t/e", "/api/analytics/events", "/api/analytics/events", "/t/e"]);
    stage.respond(() => refuse(503));
    analytics.trackEvent({ name: "c" });
    await stage.pass(10_000);
    expect(new Set(stage.sent.slice(4).map(({ address }) => address))).toEqual(new Set(["/t/e"]));
    expect(analytics.stats()).toMatchObject({ sent: 2, queued: 1, blocked: false });
  });
});

describe("a killed project", () => {
  it("goes on with its vendors, queues nothing new, and offers what waits until each has its verdict", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)] });
    const before = analytics.trackEvent({ name: "a" }).id;
    await stage.pass(SLICE_MS);
    stage.configure({ version: 2, kill: true, queue: "drain" });
    stage.show();
    await stage.pass(0);
    const after = analytics.trackEvent({ name: "b" });
    expect(await Promise.all([after, stage.pass(SLICE_MS)])).toEqual(["dropped", undefined]);
    stage.respond((sent) => accept(sent, { [before]: "dropped" }));
    await stage.pass(3_000);
    expect(stage.ids()).toEqual([before]);
    expect(seen.map(({ id }) => id)).toEqual([before, after.id]);
    expect(analytics.stats()).toMatchObject({ killed: true, excluded: 2, queued: 0 });
    expect(balance(analytics)).toBe(0);
  });

  it("drops what waits where it is told so, and counts it", async () => {
    const stage = createStage();
    const analytics = stage.open();
    analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    stage.configure({ version: 2, kill: true, queue: "discard" });
    stage.show();
    await stage.pass(60_000);
    expect([stage.sent, analytics.stats().excluded, balance(analytics)]).toEqual([[], 1, 0]);
  });

  it("is heard of in an answer, remembered over a load, and hears when it is on again", async () => {
    const stage = createStage();
    const first = stage.open();
    first.trackEvent({ name: "a" });
    stage.respond(answering(2, true));
    stage.configure({ version: 2, kill: true });
    await first.flush();
    await stage.pass(0);
    expect(first.stats().killed).toBe(true);
    stage.configure(undefined);
    const next = stage.open();
    next.trackEvent({ name: "b" });
    await stage.pass(SLICE_MS);
    expect(next.stats()).toMatchObject({ killed: true, excluded: 1 });
    stage.configure({ version: 3 });
    await stage.pass(75_000);
    const { id } = next.trackEvent({ name: "c" });
    stage.respond(answering(3));
    await stage.pass(3_000);
    expect([stage.ids().at(-1), next.stats().killed]).toEqual([id, false]);
  });
});

describe("a share", () => {
  it("holds for a person's events, vendors left alone, until a sign-out draws another", async () => {
    const stage = createStage();
    const seen: VendorEvent[] = [];
    const analytics = stage.open({ destinations: [vendor(seen)] });
    stage.configure({ share: 0.5 });
    await stage.pass(0);
    let excluded = 0;
    for (let n = 0; n < 40; n++) {
      analytics.trackEvent({ name: "a" });
      analytics.trackEvent({ name: "b" });
      analytics.reset();
    }
    await stage.pass(60_000);
    ({ excluded } = analytics.stats());
    expect(stage.events().every(({ anonymous_id }) => position(anonymous_id ?? "", "rollout") < 0.5)).toBe(true);
    expect(stage.events().length + excluded).toBe(80);
    expect(excluded).toBeGreaterThan(8);
    expect(stage.events().length).toBeGreaterThan(8);
    expect(seen).toHaveLength(80);
    expect(balance(analytics)).toBe(0);
  });

  it("may be a vendor's gate", async () => {
    const stage = createStage();
    stage.configure({ gate: "new_analytics", share: 1 });
    const asked: string[] = [];
    const analytics = stage.open({ destinations: [vendor([], { gate: () => { throw new Error("no"); } }), vendor([], { gate: (name) => asked.push(name) < 0 })] });
    await stage.pass(0);
    analytics.trackEvent({ name: "a" });
    await stage.pass(60_000);
    expect([stage.events(), asked, analytics.stats().excluded]).toEqual([[], ["new_analytics"], 1]);
  });
});

describe("a vendor's gate", () => {
  it.each<[string, Partial<Configuration>, boolean]>([
    ["said no to", { respectDoNotTrack: true }, true],
    ["has not answered for", { requireConsent: true }, false],
    ["is kept from by Global Privacy Control", {}, false],
  ])("is not asked about a person who %s it", async (_, configuration, doNotTrack) => {
    const stage = createStage();
    Object.assign(stage.page.navigator, { globalPrivacyControl: !doNotTrack && !configuration.requireConsent, doNotTrack: doNotTrack ? "1" : null });
    stage.configure({ gate: "new_analytics", share: 1 });
    const asked: string[] = [];
    const analytics = stage.open({ ...configuration, destinations: [vendor([], { gate: (name) => asked.push(name) > 0 })] });
    analytics.consent({ backend: "granted" });
    await stage.pass(0);
    const { id } = analytics.trackEvent({ name: "a" });
    await stage.pass(60_000);
    expect([asked, stage.ids()]).toEqual([[], [id]]);
  });
});

describe("a driven browser", () => {
  it("is marked, not left out", async () => {
    const stage = createStage();
    Object.assign(stage.page.navigator, { webdriver: true });
    const analytics = stage.open();
    analytics.trackEvent({ name: "a", metadata: { plan: "pro" } });
    analytics.trackEvent({ name: "b" });
    await analytics.flush();
    expect(stage.events().map((event) => event.event_metadata)).toEqual([{ plan: "pro", tt_automation: true }, { tt_automation: true }]);
  });
});

describe("the health in each batch", () => {
  it("tells how the SDK is doing on this page", async () => {
    const stage = createStage();
    const analytics = stage.open();
    analytics.trackEvent({ name: "a" });
    await analytics.flush();
    analytics.trackEvent({ name: "b" });
    await analytics.flush();
    const health = stage.sent.map(({ body }) => (JSON.parse(body) as { sdk: { health: Record<string, unknown> } }).sdk.health);
    expect(health[1]).toMatchObject({ tracked: 2, sent: 1, queued: 1, held: 0, discarded: 0, dropped: 0, excluded: 0, retried: 0, rejected: 0, refused: 0, recovered: 0, elsewhere: 0, storage: "memory", blocked: false });
    expect([typeof health[0]?.["page"], typeof health[0]?.["main_thread_milliseconds"]]).toEqual(["string", "number"]);
    expect(health[0]?.["page"]).toBe(health[1]?.["page"]);
  });
});
