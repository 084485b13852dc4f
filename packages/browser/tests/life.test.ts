/** A page's life: shown before it has started, back from the browser's cache, signed out early, told no while a request is under way. */
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { describe, expect, it } from "vitest";

import { STORAGE_KEY } from "../src/identity";
import { SLICE_MS } from "../src/outbox";
import { MOST_SEND_MS } from "../src/transport";
import { accept, balance, createStage, refuse, rest } from "./stage";

globalThis.IDBKeyRange = IDBKeyRange;

const KNOWN = "ada-1 visit-1";
const written = (at: number): string => `${KNOWN} ${at} ${at} 7`;

/** A store answers in turns of the event loop, not of the clock. */
const turns = async (): Promise<void> => {
  for (let n = 0; n < 20; n++) await rest();
};

describe("a page", () => {
  it("that is shown before it has started starts all the same", async () => {
    const stage = createStage();
    stage.open();
    stage.show();
    await stage.pass(1);
    expect(stage.asked).toHaveLength(1);
  });

  it("back from the browser's cache goes on as who another page signed in since", async () => {
    const stage = createStage();
    const analytics = stage.open();
    analytics.trackEvent({ name: "before" });
    await stage.pass(100);
    stage.hide();
    // No event of storage reaches a page that lies in the cache.
    stage.items.set(STORAGE_KEY, written(stage.now()));
    stage.show();
    analytics.trackEvent({ name: "after" });
    await analytics.flush();
    expect(stage.events().find((event) => event.event_name === "after")?.anonymous_id).toBe("ada-1");
    expect(stage.items.get(STORAGE_KEY)).toContain(KNOWN);
  });

  it("that signs out before it is allowed keeps the earlier visitor to what was tracked before", async () => {
    const stage = createStage();
    stage.items.set(STORAGE_KEY, written(stage.now()));
    const analytics = stage.open({ requireConsent: true });
    analytics.trackEvent({ name: "before" });
    await stage.pass(100);
    analytics.reset();
    analytics.trackEvent({ name: "after" });
    await stage.pass(100);
    analytics.consent("granted");
    await stage.pass(100);
    await analytics.flush();
    const [before, after] = ["before", "after"].map((name) => stage.events().find((event) => event.event_name === name)?.anonymous_id);
    expect(before).toBe("ada-1");
    expect(after).not.toBe(before);
    expect(stage.items.get(STORAGE_KEY)).toContain(String(after));
  });
});

describe("an event that waits for consent", () => {
  it("is not lost for what cannot be written as JSON", async () => {
    const stage = createStage();
    const analytics = stage.open({ requireConsent: true });
    const metadata: Record<string, unknown> = {};
    metadata["self"] = metadata;
    const ids = [analytics.trackMessage({ content: "a", metadata }).id, analytics.trackEvent({ name: "b", value: 1n as unknown as number }).id];
    await stage.pass(100);
    expect(analytics.stats()).toMatchObject({ held: 2, rejected: 0 });
    analytics.consent("granted");
    await analytics.flush();
    expect(stage.ids()).toEqual(ids);
    expect(balance(analytics)).toBe(0);
  });
});

describe("consent that is withdrawn while a request is under way", () => {
  it.each([
    ["normal", false],
    ["last", true],
  ])("asks for no configuration when a %s request is answered", async (_, leaving) => {
    const stage = createStage();
    const analytics = stage.open();
    let answer: (response: Response) => void = () => undefined;
    stage.respond(() => new Promise((resolve) => (answer = resolve)));
    analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    if (leaving) stage.hide();
    else void analytics.flush();
    await rest();
    const asked = stage.asked.length;
    analytics.consent("denied");
    answer(accept(stage.sent[0] as (typeof stage.sent)[0]));
    await stage.pass(100);
    expect(stage.sent).toHaveLength(1);
    expect(stage.asked).toHaveLength(asked);
  });

  it("writes nothing when it fails", async () => {
    const stage = createStage();
    const factory = new IDBFactory();
    Object.assign(stage.page, { indexedDB: factory });
    const analytics = stage.open();
    await stage.pass(1);
    await turns();
    let answer: (response: Response) => void = () => undefined;
    stage.respond(() => new Promise((resolve) => (answer = resolve)));
    analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    await turns();
    void analytics.flush();
    await turns();
    expect(stage.sent.map(({ keepalive }) => keepalive)).toEqual([false]);
    analytics.consent("denied");
    await turns();
    answer(refuse(503));
    await turns();
    expect(await factory.databases()).toEqual([]);
  });

  it("and given again at once loses no later event", async () => {
    const stage = createStage();
    Object.assign(stage.page, { indexedDB: new IDBFactory() });
    const analytics = stage.open();
    await stage.pass(SLICE_MS);
    await turns();
    analytics.consent("denied");
    analytics.consent("granted");
    const { id } = analytics.trackEvent({ name: "a" });
    void analytics.flush();
    await turns();
    await stage.pass(5_000);
    await turns();
    expect(stage.ids()).toEqual([id]);
    expect(analytics.stats()).toMatchObject({ sent: 1, elsewhere: 0 });
  });
});

describe("a browser that hangs", () => {
  it("in its store does not make each slice a request", async () => {
    const stage = createStage();
    Object.assign(stage.page, { indexedDB: { open: () => ({}) } });
    stage.respond(() => refuse(503));
    const analytics = stage.open();
    analytics.trackEvent({ name: "first" });
    await stage.pass(20_000);
    const before = stage.sent.length;
    for (let n = 0; n < 10; n++) {
      analytics.trackEvent({ name: "a" });
      await stage.pass(SLICE_MS);
    }
    expect(stage.sent.length - before).toBeLessThan(3);
  });

  it("in a request that cannot be broken off holds up the rest no longer than its time limit", async () => {
    const stage = createStage();
    const { clockwork } = stage.environment;
    const { fetch } = clockwork;
    let hang = true;
    clockwork.fetch = (address, init) => (init?.method === "POST" && hang ? new Promise(() => undefined) : fetch(address, init));
    const { id } = stage.open().trackEvent({ name: "a" });
    await stage.pass(3_000);
    hang = false;
    await stage.pass(MOST_SEND_MS + 5_000);
    expect(stage.ids()).toEqual([id]);
  });
});

describe("consent", () => {
  it("that is denied at first leaves nothing of an earlier visit", async () => {
    const stage = createStage();
    stage.configure({ version: 2 });
    stage.open().trackEvent({ name: "a" });
    await stage.pass(3_000);
    expect(stage.items.size).toBe(2);
    stage.open({ requireConsent: true }).consent("denied");
    expect([...stage.items.keys()]).toEqual([]);
  });

  it("that is taken back to pending sends, asks and keeps nothing more", async () => {
    const stage = createStage();
    stage.configure({ version: 2 });
    const analytics = stage.open();
    await stage.pass(1);
    analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    const asked = stage.asked.length;
    analytics.consent("pending");
    analytics.trackEvent({ name: "b" });
    stage.configure({ version: 3 });
    await stage.pass(120_000);
    expect(stage.sent).toEqual([]);
    expect(stage.asked).toHaveLength(asked);
    expect([...stage.items.keys()]).toEqual([]);
    expect(analytics.stats()).toMatchObject({ held: 1, discarded: 1, queued: 0 });
  });
});

describe("a browser that asks not to be tracked", () => {
  it("keeps nothing of an earlier visit where the page follows it", async () => {
    const factory = new IDBFactory();
    const stage = createStage();
    Object.assign(stage.page, { indexedDB: factory });
    stage.respond(() => refuse(503));
    stage.open().trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    await turns();
    await stage.pass(3_000);
    await turns();
    expect([stage.items.size, (await factory.databases()).length]).toEqual([2, 1]);
    stage.hide();
    stage.page.navigator.doNotTrack = "1";
    stage.open({ respectDoNotTrack: true });
    await turns();
    expect([stage.items.size, (await factory.databases()).length]).toEqual([0, 0]);
  });
});

describe("an event that waits for consent and is awaited", () => {
  it.each([
    ["granted", "accepted"],
    ["denied", "discarded"],
  ] as const)("is told what became of it when that is %s, and not before", async (answer, fate) => {
    const stage = createStage();
    const analytics = stage.open({ requireConsent: true, awaitAnswer: true });
    const fates: string[] = [];
    void analytics.trackEvent({ name: "a" }).then((told) => fates.push(told));
    await stage.pass(5_000);
    expect([fates, analytics.stats().held]).toEqual([[], 1]);
    analytics.consent(answer);
    await stage.pass(5_000);
    expect([fates, analytics.stats().held]).toEqual([[fate], 0]);
    expect(balance(analytics)).toBe(0);
  });

  it("is told when it had to make room", async () => {
    const stage = createStage();
    const analytics = stage.open({ requireConsent: true, awaitAnswer: true });
    const fates: string[] = [];
    void analytics.trackEvent({ name: "a" }).then((told) => fates.push(told));
    for (let n = 0; n < 1_000; n++) analytics.trackEvent({ name: "b" });
    await stage.pass(100);
    expect([fates, analytics.stats().held, analytics.stats().dropped]).toEqual([["no room"], 1_000, 1]);
    expect(balance(analytics)).toBe(0);
  });
});

describe("a person", () => {
  it("is nobody where the page names none, and their traits are told all the same", async () => {
    const stage = createStage();
    const analytics = stage.open();
    const { identify } = analytics as { identify(user?: unknown, metadata?: object): unknown };
    identify(undefined, { plan: "a" });
    identify(null, { plan: "b" });
    identify({ plan: "c" });
    identify("", { plan: "d" });
    await analytics.flush();
    expect(stage.events().map(({ user_id, event_metadata }) => [user_id, event_metadata?.["plan"]])).toEqual(["a", "b", "c", "d"].map((plan) => [undefined, plan]));
  });
});

describe("an event", () => {
  it("that lay on disk for seven days still arrives", async () => {
    const stage = createStage();
    Object.assign(stage.page, { indexedDB: new IDBFactory() });
    const { id } = stage.open().trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    await turns();
    stage.environment.clockwork.after = () => undefined;
    stage.jump(7 * 86_400_000);
    const next = stage.open();
    await turns();
    await next.flush();
    await turns();
    expect(stage.ids()).toEqual([id]);
    expect(next.stats()).toMatchObject({ recovered: 1, sent: 1 });
  });
});

describe("a service that is down", () => {
  it.each(["0", "Mon, 05 Jan 2026 11:00:00 GMT"])("and names no time to come (%s) is asked ever more rarely all the same", async (header) => {
    const stage = createStage();
    let left = 50;
    stage.respond((sent) => (left-- > 0 ? refuse(503, { "Retry-After": header }) : accept(sent)));
    stage.open({ batchSize: 1 }).trackEvent({ name: "a" });
    await stage.pass(8_000);
    expect(stage.sent.length).toBeLessThanOrEqual(4);
  });
});

describe("a full store", () => {
  it("of an earlier page makes room for what is tracked now", async () => {
    const factory = new IDBFactory();
    const first = createStage();
    Object.assign(first.page, { indexedDB: factory });
    first.respond(() => refuse(503));
    const before = first.open();
    await first.pass(1);
    await turns();
    for (let n = 0; n < 999; n++) before.trackEvent({ name: "old" });
    await first.pass(SLICE_MS);
    await turns();
    const stage = createStage();
    stage.jump(60_000);
    Object.assign(stage.page, { indexedDB: factory });
    const analytics = stage.open({ batchSize: 1_000 });
    await stage.pass(1);
    await turns();
    const ids = Array.from({ length: 5 }, () => analytics.trackEvent({ name: "new" }).id);
    await stage.pass(SLICE_MS);
    await turns();
    void analytics.flush();
    await turns();
    expect(analytics.stats()).toMatchObject({ recovered: 999, dropped: 4 });
    const sent = stage.ids();
    expect(ids.filter((id) => !sent.includes(id))).toEqual([]);
  });
});
