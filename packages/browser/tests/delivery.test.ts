import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { describe, expect, it } from "vitest";

import type { Analytics } from "../src/client";
import type { Destination } from "../src/event";
import { SLICE_MS } from "../src/outbox";
import { MOST_SEND_MS } from "../src/transport";
import { accept, balance, createStage, refuse, rest } from "./stage";

globalThis.IDBKeyRange = IDBKeyRange;

const track = (analytics: Pick<Analytics, "trackEvent">, many: number): string[] => Array.from({ length: many }, (_, n) => analytics.trackEvent({ name: `e${n}` }).id);

describe("a batch", () => {
  it("goes when an event has waited for the interval, not before", async () => {
    const stage = createStage();
    const id = stage.open().trackEvent({ name: "one" }).id;
    await stage.pass(1_999);
    expect(stage.sent).toHaveLength(0);
    await stage.pass(1);
    expect(stage.ids()).toEqual([id]);
  });

  it("goes at once when it is full", async () => {
    const stage = createStage();
    const ids = track(stage.open({ batchSize: 5 }), 5);
    await stage.pass(SLICE_MS);
    expect(stage.ids()).toEqual(ids);
  });

  it("goes at once when it is heavy, and stays within its bytes", async () => {
    const stage = createStage();
    const analytics = stage.open();
    for (let n = 0; n < 6; n++) analytics.trackMessage({ content: "ü".repeat(6_000) });
    await stage.pass(SLICE_MS);
    expect(stage.events()).toHaveLength(6);
    for (const { body } of stage.sent) expect(new TextEncoder().encode(body).length).toBeLessThan(50 * 1024);
  });

  it("needs no preflight and carries key and token in its envelope", async () => {
    const stage = createStage();
    let n = 0;
    const analytics = stage.open({ getToken: async () => `token ${++n}` });
    analytics.trackEvent({ name: "a" });
    await analytics.flush();
    expect(stage.sent[0]?.headers).toEqual({ "Content-Type": "text/plain" });
    expect(stage.sent[0]?.envelope).toMatchObject({ key: "wk", token: "token 1", sdk: { name: "@twintrack/browser" } });
    expect([...stage.items.values()].join()).not.toContain("token");
  });

  it("goes without a token when the page cannot give one", async () => {
    const stage = createStage();
    const analytics = stage.open({ getToken: () => { throw new Error("signed out"); } });
    const id = analytics.trackEvent({ name: "a" }).id;
    await analytics.flush();
    expect(stage.ids()).toEqual([id]);
    expect(stage.sent[0]?.envelope).not.toHaveProperty("token");
  });

  it("never mixes identities, also at page hide", async () => {
    for (const leaving of [false, true]) {
      const stage = createStage();
      const analytics = stage.open();
      track(analytics, 2);
      analytics.identify("ada");
      analytics.reset();
      track(analytics, 2);
      if (leaving) stage.hide();
      else void analytics.flush();
      await rest();
      expect(stage.sent.map(({ envelope }) => envelope.events.map((e) => e.event_name))).toEqual([["e0", "e1"], ["identify"], ["e0", "e1"]]);
    }
  });
});

describe("an outage", () => {
  it.each([
    ["no network", () => Promise.reject(new TypeError("failed to fetch"))],
    ["503", () => refuse(503)],
    ["an answer that cannot be read", () => new Response("<html>", { status: 200 })],
    ["counts that do not add up", () => Response.json({ accepted: 1, duplicate: 0, rejected: 0, dropped: 0, retry: 0, results: [] })],
  ])("of %s ends with the whole batch again under the same ids", async (_, broken) => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 3 });
    stage.respond(broken);
    const ids = track(analytics, 3);
    await stage.pass(SLICE_MS);
    stage.respond((sent) => accept(sent));
    await stage.pass(4_000);
    expect(stage.ids()).toEqual([...ids, ...ids]);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 3 });
  });

  it("is asked about ever more rarely", async () => {
    const stage = createStage();
    stage.respond(() => refuse(500));
    stage.open({ batchSize: 1 }).trackEvent({ name: "a" });
    await stage.pass(70_000);
    expect(stage.sent.map(({ at }) => at - (stage.sent[0]?.at ?? 0))).toEqual([0, 4_000, 12_000, 28_000, 60_000]);
  });

  it("is not asked about sooner than the service wants, whatever the page tracks, flushes or goes online", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 1 });
    stage.respond(() => refuse(429, { "Retry-After": "60" }));
    analytics.trackEvent({ name: "a" });
    await stage.pass(1_000);
    stage.respond((sent) => accept(sent));
    analytics.trackEvent({ name: "b" });
    await analytics.flush();
    stage.fire("online");
    await stage.pass(58_000);
    expect(stage.sent).toHaveLength(1);
    await stage.pass(1_100);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 2 });
  });

  it("is not asked about sooner than whatever stands before it wants", async () => {
    const stage = createStage();
    stage.respond(() => refuse(502, { "Retry-After": "60" }));
    stage.open().trackEvent({ name: "a" });
    await stage.pass(55_000);
    expect(stage.sent).toHaveLength(1);
    await stage.pass(10_000);
    expect(stage.sent).toHaveLength(2);
  });

  it("does not silence the SDK when the page flushes during the wait", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 1 });
    stage.respond(() => refuse(500));
    analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    await analytics.flush();
    await analytics.flush();
    stage.respond((sent) => accept(sent));
    await stage.pass(4_000);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 1 });
  });

  it("rests after its retries, keeps the events, and goes on when the network is back", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 1, maxRetries: 2 });
    stage.respond(() => refuse(500));
    analytics.trackEvent({ name: "a" });
    await stage.pass(299_000);
    expect(stage.sent).toHaveLength(3);
    await stage.pass(14_000);
    expect(stage.sent).toHaveLength(4);
    stage.respond((sent) => accept(sent));
    stage.fire("online");
    await stage.pass(SLICE_MS);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 1 });
  });

  it("of a request that hangs ends after its time limit", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 1 });
    stage.respond(() => new Promise(() => undefined));
    analytics.trackEvent({ name: "a" });
    await stage.pass(MOST_SEND_MS + SLICE_MS);
    stage.respond((sent) => accept(sent));
    await stage.pass(4_000);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 1 });
  });

  it("drops the oldest beyond the cap and counts them", async () => {
    const stage = createStage();
    const analytics = stage.open();
    stage.respond(() => refuse(503));
    const ids = track(analytics, 1_030);
    await stage.pass(SLICE_MS);
    expect(analytics.stats()).toMatchObject({ queued: 1_000, dropped: 30 });
    stage.respond((sent) => accept(sent));
    await stage.pass(600_000);
    expect(new Set(stage.ids())).toEqual(new Set(ids.slice(30)));
    for (let n = 0; n < 40; n++) analytics.trackMessage({ content: "x".repeat(60_000) });
    await stage.pass(SLICE_MS);
    expect(analytics.stats().queued).toBeLessThan(18);
    expect(balance(analytics)).toBe(0);
  });
});

describe("an event's own result", () => {
  it("settles it, and only `retry` is sent again", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 5 });
    const ids = track(analytics, 5);
    const fates = Object.fromEntries(ids.map((id, n) => [id, ["accepted", "duplicate", "rejected", "dropped", "retry"][n] ?? ""]));
    stage.respond((sent) => accept(sent, fates));
    await stage.pass(SLICE_MS);
    expect(analytics.stats()).toMatchObject({ queued: 1, sent: 2, rejected: 1, excluded: 1 });
    stage.respond((sent) => accept(sent));
    await stage.pass(4_000);
    expect(stage.ids().slice(5)).toEqual([ids[4]]);
    expect(balance(analytics)).toBe(0);
  });

  it.each([
    ["a firewall's 403", () => new Response("<html>challenge", { status: 403 })],
    ["a site without the path", () => new Response("Not found", { status: 404 })],
    ["a site that answers everything", () => new Response("<!doctype html>")],
    ["our own service, where the key is revoked", () => refuse(401)],
  ])("is no answer of %s: events stay, are asked for ever more rarely, and arrive", async (_, broken) => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 2 });
    stage.respond(broken);
    const ids = track(analytics, 2);
    await stage.pass(60_100);
    expect(stage.sent).toHaveLength(5);
    expect(analytics.stats()).toMatchObject({ queued: 2, refused: 0 });
    stage.respond((sent) => accept(sent));
    await stage.pass(300_000);
    expect(stage.ids().slice(-2)).toEqual(ids);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 2, blocked: false });
  });

  it("that is someone else's again and again is told as blocked, our own service's is not", async () => {
    for (const [broken, blocked] of [[() => new Response("", { status: 403 }), true], [() => refuse(403), false]] as const) {
      const stage = createStage();
      const analytics = stage.open({ batchSize: 1 });
      stage.respond(broken);
      track(analytics, 1);
      await stage.pass(13_000);
      expect([stage.sent.length, analytics.stats().blocked]).toEqual([3, blocked]);
    }
  });

  it("is reached by halving when the batch is too large, and one event alone is refused", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 8 });
    const ids = track(analytics, 8);
    stage.respond((sent) => (sent.envelope.events.length > 2 || sent.envelope.events[0]?.event_id === ids[0] ? refuse(413) : accept(sent)));
    await stage.pass(SLICE_MS);
    expect(stage.sent.slice(0, 4).map(({ envelope }) => envelope.events.length)).toEqual([8, 4, 2, 1]);
    expect(analytics.stats()).toMatchObject({ queued: 0, refused: 1, sent: 7 });
    track(analytics, 8);
    stage.respond((sent) => accept(sent));
    await stage.pass(SLICE_MS);
    // Each request that is taken lets the next one be twice as large.
    expect(Math.max(...stage.sent.slice(-3).map(({ envelope }) => envelope.events.length))).toBeGreaterThan(2);
  });
});

describe("a page that goes", () => {
  it("sends what waits in requests that outlive it, with the last token, once for both of its signals", async () => {
    const stage = createStage();
    const analytics = stage.open({ getToken: () => "t" });
    analytics.trackEvent({ name: "a" });
    await analytics.flush();
    const id = analytics.trackEvent({ name: "b" }).id;
    stage.hide();
    stage.fire("pagehide");
    expect(stage.sent).toHaveLength(2);
    expect(stage.sent[1]).toMatchObject({ keepalive: true, headers: { "Content-Type": "text/plain" }, envelope: { key: "wk", token: "t" } });
    expect(stage.sent[1]?.envelope.events.map((e) => e.event_id)).toEqual([id]);
    await stage.pass(60_000);
    expect(stage.sent).toHaveLength(2);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 2 });
  });

  it("sends what a short visit tracked with its user's token, asked for as soon as the user is known", async () => {
    const stage = createStage();
    let asked = 0;
    const analytics = stage.open({ getToken: async () => `token ${++asked}` });
    analytics.identify("ada");
    await stage.pass(SLICE_MS);
    stage.hide();
    expect(stage.sent.map(({ envelope }) => envelope.token)).toEqual(["token 1"]);
  });

  it("has a token at once where the page has it at hand", () => {
    const stage = createStage();
    const analytics = stage.open({ getToken: () => "at hand" });
    analytics.identify("ada");
    stage.hide();
    expect(stage.sent.map(({ envelope }) => envelope.token)).toEqual(["at hand"]);
  });

  it("never sends a person's events with another's token, also after a sign-out", async () => {
    for (const leaving of [true, false]) {
      const stage = createStage();
      let signedIn: string | undefined = "ada";
      const analytics = stage.open({ getToken: async () => signedIn && `token of ${signedIn}` });
      for (const user of ["ada", "bob"]) {
        signedIn = user;
        analytics.identify(user);
        analytics.trackEvent({ name: "a" });
        await stage.pass(SLICE_MS);
        analytics.reset();
        signedIn = undefined;
      }
      if (leaving) stage.hide();
      else await analytics.flush();
      await rest();
      expect(stage.sent.map(({ envelope }) => [envelope.events.map(({ user_id }) => user_id), envelope.token])).toEqual([
        [["ada", "ada"], "token of ada"],
        [["bob", "bob"], "token of bob"],
      ]);
    }
  });

  it("leaves on disk what has no token yet, for the next page to send with one", async () => {
    const stage = createStage();
    const factory = new IDBFactory();
    Object.assign(stage.page, { indexedDB: factory });
    const turns = async (): Promise<void> => {
      for (let n = 0; n < 20; n++) await rest();
    };
    const analytics = stage.open({ getToken: () => new Promise<string>(() => undefined) });
    const first = analytics.trackEvent({ name: "before" }).id;
    const id = analytics.identify("ada").id;
    await stage.pass(SLICE_MS);
    await turns();
    stage.hide();
    expect(stage.ids()).toEqual([first]);
    const next = createStage();
    Object.assign(next.page, { indexedDB: factory });
    next.open({ getToken: () => "token" });
    await next.pass(1);
    await turns();
    await next.pass(2_000);
    await turns();
    expect(next.sent.filter(({ envelope }) => envelope.events.some(({ event_id }) => event_id === id)).map(({ envelope }) => envelope.token)).toEqual(["token"]);
  });

  it("asks a service in trouble for nothing while it waits, however often it goes", async () => {
    const stage = createStage();
    Object.assign(stage.page, { indexedDB: new IDBFactory() });
    const turns = async (): Promise<void> => {
      for (let n = 0; n < 20; n++) await rest();
    };
    const analytics = stage.open({ batchSize: 100, maxRetries: 0 });
    await stage.pass(1);
    await turns();
    stage.respond(() => refuse(503));
    const ids = track(analytics, 40);
    await stage.pass(SLICE_MS);
    await turns();
    for (let n = 0; n < 10; n++) {
      stage.hide();
      await rest();
      stage.show();
      await stage.pass(1_000);
    }
    expect(stage.sent).toHaveLength(1);
    expect(analytics.stats()).toMatchObject({ retried: 1, queued: 40 });
    // The next load ends the rest, and asks once when it goes; nothing was lost meanwhile.
    const next = stage.open({ batchSize: 100, maxRetries: 0 });
    stage.respond((sent) => accept(sent));
    await stage.pass(1);
    await turns();
    await stage.pass(2_100);
    await turns();
    expect(new Set(stage.ids().slice(40))).toEqual(new Set(ids));
    expect(next.stats()).toMatchObject({ recovered: 40, queued: 0 });
  }, 20_000);

  it("asks a service that failed often with one event, also when it goes", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 100 });
    stage.respond(() => refuse(503));
    track(analytics, 40);
    await stage.pass(4_000 + 8_000 + 16_000 + 32_000 + 64_000 + 3_000);
    expect(stage.sent.map(({ envelope }) => envelope.events.length)).toEqual([40, 40, 40, 40, 40, 1]);
    stage.hide();
    expect(stage.sent.map(({ envelope }) => envelope.events.length).slice(6)).toEqual([1]);
  });

  it("keeps within the browser's budget for requests in flight, and the rest is sent when it lives on", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 500 });
    const answers: (() => void)[] = [];
    stage.respond((sent) => (sent.keepalive ? new Promise((resolve) => answers.push(() => resolve(refuse(503)))) : accept(sent)));
    analytics.trackMessage({ content: "y".repeat(60_000) });
    for (let n = 0; n < 12; n++) analytics.trackMessage({ content: "é".repeat(3_000) });
    stage.hide();
    stage.fire("pagehide");
    const flying = stage.sent.filter(({ keepalive }) => keepalive).map(({ body }) => new TextEncoder().encode(body).length);
    const total = flying.reduce((a, b) => a + b, 0);
    expect(total).toBeGreaterThan(45 * 1024);
    expect(total).toBeLessThanOrEqual(56 * 1024);
    answers.forEach((settle) => settle());
    await stage.pass(10_000);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 13 });
  });

  it("does not let receipts take the room of events", () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 900, destinations: new Array<Destination>(4).fill({ vendor: "gtm", send: () => true }) });
    stage.respond(() => new Promise(() => undefined));
    const ids = track(analytics, 100);
    stage.hide();
    expect(stage.ids()).toEqual(ids);
    expect(new TextEncoder().encode(stage.sent.map(({ body }) => body).join("")).length).toBeLessThanOrEqual(56 * 1024);
  });

  it("keeps the silence that the service asks for in its last words, and tells the next page of it", async () => {
    const stage = createStage();
    Object.assign(stage.page, { indexedDB: new IDBFactory() });
    const turns = async (): Promise<void> => {
      for (let n = 0; n < 20; n++) await rest();
    };
    const analytics = stage.open();
    await stage.pass(1);
    await turns();
    stage.respond(() => refuse(429, { "Retry-After": "120" }));
    analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    await turns();
    stage.hide();
    await turns();
    stage.show();
    stage.fire("online");
    const next = stage.open();
    for (let n = 0; n < 11; n++) {
      await stage.pass(10_000);
      void analytics.flush();
      await turns();
    }
    expect(stage.sent).toHaveLength(1);
    expect(analytics.stats()).toMatchObject({ retried: 1, queued: 1 });
    // Visits so short that nothing of theirs is due, and their store may not even be open.
    for (let n = 0; n < 6; n++) {
      stage.show();
      stage.open().trackEvent({ name: "short" });
      if (n % 2) await stage.pass(300);
      stage.hide();
      await turns();
    }
    stage.show();
    expect(stage.sent).toHaveLength(1);
    stage.respond((sent) => accept(sent));
    for (let n = 0; n < 8; n++) {
      await stage.pass(5_000);
      await turns();
    }
    expect(new Set(stage.ids()).size).toBe(7);
    expect([analytics.stats().queued, next.stats().queued]).toEqual([0, 0]);
  }, 20_000);

  it("does not forget such a silence when another of its requests was taken", async () => {
    const stage = createStage();
    const analytics = stage.open();
    let good: (response: Response) => void = () => undefined;
    stage.respond((sent) => (sent.envelope.events[0]?.user_id ? refuse(503, { "Retry-After": "120" }) : new Promise((resolve) => (good = resolve))));
    analytics.trackEvent({ name: "a" });
    analytics.identify("ada");
    stage.hide();
    await stage.pass(0);
    expect(stage.sent).toHaveLength(2);
    good(accept(stage.sent[0] as (typeof stage.sent)[0]));
    stage.respond((sent) => accept(sent));
    stage.show();
    await stage.pass(110_000);
    expect(stage.sent).toHaveLength(2);
    await stage.pass(20_000);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 2 });
  });

  it("sends again what was only under way", async () => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 1 });
    stage.respond((sent) => (sent.keepalive ? accept(sent) : new Promise(() => undefined)));
    const id = analytics.trackEvent({ name: "a" }).id;
    await stage.pass(SLICE_MS);
    stage.hide();
    await rest();
    expect(stage.ids()).toEqual([id, id]);
    expect(analytics.stats()).toMatchObject({ queued: 0, sent: 1 });
  });

  it("leaves nothing behind after shutdown", async () => {
    const stage = createStage();
    const analytics = stage.open();
    const id = analytics.trackEvent({ name: "a" }).id;
    await analytics.shutdown();
    analytics.trackEvent({ name: "late" });
    await stage.pass(60_000);
    expect(stage.ids()).toEqual([id]);
    expect([stage.listening(), stage.timers(), analytics.stats().tracked]).toEqual([0, 0, 1]);
  });
});
