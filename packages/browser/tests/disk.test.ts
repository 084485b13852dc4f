/** What lies on disk outlives the page: several pages over one store, as tabs and visits have it. */
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { describe, expect, it } from "vitest";

import { SLICE_MS } from "../src/outbox";
import { claimLease, LEASE_MS } from "../src/turn";
import { accept, balance, createStage, refuse, type Sent } from "./stage";

globalThis.IDBKeyRange = IDBKeyRange;

const many = 20;

/** A stage whose pages have a store, that of another page where one is given, and where things come to rest before anything is looked at. */
const shop = (other?: { factory: IDBFactory; stage: ReturnType<typeof createStage> }) => {
  const stage = createStage();
  const factory = other?.factory ?? new IDBFactory();
  Object.assign(stage.page, { indexedDB: factory, ...(other && { localStorage: other.stage.page.localStorage }) });
  return {
    stage,
    factory,
    /** Moves the clock in small steps: a store answers in turns of the event loop, not of the clock. */
    async pass(milliseconds: number) {
      for (let n = 0; n < many; n++) {
        await stage.pass(milliseconds / many);
        for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 0));
      }
    },
  };
};

describe("an event on disk", () => {
  it("is there once it is awaited, and not before its slice", async () => {
    const { stage, pass } = shop();
    const tracked = stage.open().trackEvent({ name: "a" });
    let fate: string | undefined;
    void tracked.then((told) => (fate = told));
    await pass(SLICE_MS - 5);
    expect(fate).toBeUndefined();
    await pass(10);
    expect(fate).toBe("disk");
  });

  it("is sent by the next page when its own is gone before it could", async () => {
    const first = shop();
    const id = first.stage.open().trackEvent({ name: "a" }).id;
    await first.pass(SLICE_MS * 2);
    expect(first.stage.sent).toHaveLength(0);
    const next = shop(first);
    const analytics = next.stage.open();
    await next.pass(3_000);
    expect(next.stage.ids()).toEqual([id]);
    expect(analytics.stats()).toMatchObject({ recovered: 1, sent: 1, queued: 0, storage: "disk" });
    expect(balance(analytics)).toBe(0);
  });

  it("is not sent by a third page once it is settled", async () => {
    const first = shop();
    first.stage.open().trackEvent({ name: "a" });
    await first.pass(3_000);
    expect(first.stage.sent).toHaveLength(1);
    const next = shop(first);
    next.stage.open();
    await next.pass(3_000);
    expect(next.stage.sent).toHaveLength(0);
  });

  it("of a tab that died is found by an idle one that is visible, within little more than a minute", async () => {
    const idle = shop();
    idle.stage.open();
    await idle.pass(3_000);
    const dead = shop(idle);
    const id = dead.stage.open().trackEvent({ name: "a" }).id;
    await dead.pass(SLICE_MS * 2);
    await idle.pass(80_000);
    expect([dead.stage.sent, idle.stage.ids()]).toEqual([[], [id]]);
  });

  it.each([
    ["discarded, not offered, by the next page that knows of a kill that said so", "discard", 0],
    ["offered by the next page that knows of a kill that said to drain it", "drain", 1],
  ])("is %s", async (_, queue, offered) => {
    const first = shop();
    first.stage.open().trackEvent({ name: "a" });
    await first.pass(SLICE_MS * 2);
    const next = shop(first);
    // Told to another tab; the service itself is away.
    next.stage.page.localStorage.setItem("twintrack /api/analytics/events wk", JSON.stringify({ version: 2, kill: true, queue }));
    const analytics = next.stage.open();
    await next.pass(3_000);
    expect(next.stage.sent).toHaveLength(offered);
    expect(await records(first.factory)).toEqual([]);
    expect(balance(analytics)).toBe(0);
  });

  it("is forgotten when consent is withdrawn, also for later pages", async () => {
    const first = shop();
    const analytics = first.stage.open();
    analytics.trackEvent({ name: "a" });
    await first.pass(SLICE_MS * 2);
    analytics.consent("denied");
    await first.pass(100);
    const next = shop(first);
    next.stage.open();
    await next.pass(3_000);
    expect([...first.stage.sent, ...next.stage.sent]).toEqual([]);
  });

  it("is not written while consent is pending", async () => {
    const { stage, pass, factory } = shop();
    stage.open({ requireConsent: true }).trackEvent({ name: "a" });
    stage.fire("online");
    stage.hide();
    await pass(5_000);
    expect(await factory.databases()).toEqual([]);
  });
});

/** The ids of each record on disk. */
const records = async (factory: IDBFactory): Promise<string[][]> => {
  const [{ name = "" } = {}] = await factory.databases();
  const database = await new Promise<IDBDatabase>((resolve) => {
    const request = factory.open(name);
    request.onsuccess = () => resolve(request.result);
  });
  const found = await new Promise<{ text?: string }[]>((resolve) => {
    const request = database.transaction("slices").objectStore("slices").getAll();
    request.onsuccess = () => resolve(request.result as { text?: string }[]);
  });
  database.close();
  return found.flatMap(({ text }) => (text ? [text.split("\n").map((line) => (JSON.parse(line) as { event_id: string }).event_id)] : []));
};

describe("the events of one slice", () => {
  it("are one record, which gets shorter, and goes with its last event", async () => {
    const { stage, factory, pass } = shop();
    const analytics = stage.open({ batchSize: 2 });
    const [a, b] = [analytics.trackEvent({ name: "a" }).id, analytics.trackEvent({ name: "b" }).id];
    await pass(SLICE_MS - 5);
    expect(await records(factory)).toEqual([]);
    const c = analytics.trackEvent({ name: "c" }).id;
    stage.respond(() => refuse(503));
    await pass(20);
    expect(await records(factory)).toEqual([[a, b, c]]);
    stage.respond((sent) => accept(sent, { [a]: "retry" }));
    await pass(60_000);
    expect((await records(factory)).flat()).toEqual([a]);
    stage.respond((sent) => accept(sent));
    await pass(300_000);
    expect(await records(factory)).toEqual([]);
  });

  it("go without those of another tab that lie between them", async () => {
    const one = shop();
    const two = shop(one);
    const [a, b] = [one.stage.open(), two.stage.open()];
    const others: string[] = [];
    await Promise.all([one.pass(100), two.pass(100)]);
    for (let n = 0; n < 3; n++) {
      a.trackEvent({ name: "one" });
      await one.pass(SLICE_MS * 2);
      await two.pass(SLICE_MS * 2);
    }
    // Stored after the first tab has looked at the disk, before it forgets what it sent.
    one.stage.respond(async (sent) => {
      others.push(b.trackEvent({ name: "two" }).id);
      await two.pass(SLICE_MS * 2);
      return accept(sent);
    });
    for (let n = 0; n < 5; n++) await one.pass(1_000);
    expect(a.stats()).toMatchObject({ queued: 0, sent: 3 });
    expect(others).toHaveLength(1);
    expect(await records(one.factory)).toEqual([others]);
  });
});

describe("two tabs", () => {
  it("send one another's events, and each knows what became of its own", async () => {
    const one = shop();
    const two = shop(one);
    const [a, b] = [one.stage.open(), two.stage.open()];
    a.trackEvent({ name: "a" });
    b.trackEvent({ name: "b" });
    await Promise.all([one.pass(100), two.pass(100)]);
    await one.pass(3_000);
    expect(one.stage.events().map(({ event_name }) => event_name).sort()).toEqual(["a", "b"]);
    await two.pass(3_000);
    expect(two.stage.sent).toHaveLength(0);
    expect(a.stats()).toMatchObject({ sent: 2, recovered: 1, queued: 0 });
    expect(b.stats()).toMatchObject({ elsewhere: 1, queued: 0 });
    expect([balance(a), balance(b)]).toEqual([0, 0]);
  });

  it("keep together the silence that the service asked one of them for, also over a load", async () => {
    const one = shop();
    one.stage.respond(() => refuse(503, { "Retry-After": "120" }));
    one.stage.open().trackEvent({ name: "a" });
    await one.pass(3_000);
    expect(one.stage.sent).toHaveLength(1);
    const two = shop(one);
    two.stage.open().trackEvent({ name: "b" });
    await two.pass(60_000);
    expect(two.stage.sent).toHaveLength(0);
    await two.pass(70_000);
    expect(two.stage.ids()).toHaveLength(2);
  });
});

describe("a store that fails", () => {
  it("costs no event: all goes on in memory, and is reported", async () => {
    const { stage, pass } = shop();
    Object.assign(stage.page, { indexedDB: { open: () => { throw new DOMException("no", "SecurityError"); } } });
    const analytics = stage.open();
    const tracked = analytics.trackEvent({ name: "a" });
    await pass(SLICE_MS * 2);
    expect(await tracked).toBe("memory");
    await pass(3_000);
    expect(stage.ids()).toEqual([tracked.id]);
    expect(analytics.stats()).toMatchObject({ sent: 1, queued: 0, storage: "memory" });
    expect((JSON.parse(stage.sent[0]?.body ?? "") as { sdk: { health: object } }).sdk.health).toMatchObject({ storage: "memory" });
  });

  it.each([
    ["throws", () => { throw new DOMException("no", "SecurityError"); }],
    ["fails", () => { const request = {} as IDBOpenDBRequest; queueMicrotask(() => request.onerror?.(new Event("error"))); return request; }],
  ])("at first and %s is tried again later, seldom, and then keeps what waits in memory", async (_, open) => {
    const { stage, pass, factory } = shop();
    let tries = 0;
    Object.assign(stage.page, { indexedDB: { open: () => (tries++, open()) } });
    stage.respond(() => refuse(503, { "Retry-After": "3600" }));
    const analytics = stage.open();
    const ids: string[] = [];
    const track = async (milliseconds: number): Promise<void> => {
      ids.push(analytics.trackEvent({ name: "a" }).id);
      await pass(milliseconds);
    };
    for (let n = 0; n < 10; n++) await track(2_000);
    expect([tries, analytics.stats().storage]).toEqual([1, "memory"]);
    await pass(80_000);
    expect(tries).toBe(2);
    Object.assign(stage.page, { indexedDB: factory });
    await pass(160_000);
    await track(100);
    await track(100);
    expect(analytics.stats()).toMatchObject({ storage: "disk", queued: ids.length });
    expect((await records(factory)).flat().sort()).toEqual(ids.sort());
    stage.respond((sent) => accept(sent));
    await pass(3_600_000);
    expect(analytics.stats()).toMatchObject({ sent: ids.length, queued: 0 });
    expect(await records(factory)).toEqual([]);
  }, 20_000);

  it("that never answers holds up nothing for long", async () => {
    const { stage, pass } = shop();
    Object.assign(stage.page, { indexedDB: { open: () => ({}) } });
    const analytics = stage.open();
    const { id } = analytics.trackEvent({ name: "a" });
    await pass(20_000);
    expect(stage.ids()).toEqual([id]);
    expect(analytics.stats()).toMatchObject({ sent: 1, storage: "memory" });
  });
});

describe("a clock that is set", () => {
  it("back by a year delays nothing, in this page or the next", async () => {
    const first = shop();
    first.stage.respond(() => refuse(503, { "Retry-After": "60" }));
    first.stage.open().trackEvent({ name: "a" });
    await first.pass(3_000);
    const next = shop(first);
    next.stage.jump(-365 * 86_400_000);
    next.stage.open();
    await next.pass(70_000);
    expect(next.stage.ids()).toHaveLength(1);
  });
});

describe("what an awaited event waits for", () => {
  it("is the service's answer where the page wants that", async () => {
    const { stage, pass } = shop();
    const answers: ((sent: Sent) => Response)[] = [() => refuse(500), (sent) => accept(sent)];
    stage.respond((sent) => (answers.shift() as (sent: Sent) => Response)(sent));
    let fate: string | undefined;
    void stage.open({ awaitAnswer: true }).trackEvent({ name: "a" }).then((told) => (fate = told));
    await pass(3_000);
    expect(fate).toBeUndefined();
    await pass(6_000);
    expect(fate).toBe("accepted");
  });
});

describe("the lease", () => {
  const held = { id: "~" as const, owner: "a", until: 1_000 };

  it("is another tab's until it ends or is given back", () => {
    expect(claimLease(held, "b", 999)).toBeUndefined();
    expect(claimLease(held, "b", 1_000)).toEqual({ id: "~", owner: "b", until: 1_000 + LEASE_MS });
    expect(claimLease({ ...held, until: 0 }, "b", 1)).toMatchObject({ owner: "b" });
    expect(claimLease(held, "a", 1)).toMatchObject({ owner: "a" });
    expect(claimLease(undefined, "b", 1)).toEqual({ id: "~", owner: "b", until: 1 + LEASE_MS });
  });

  it("that would last longer than any was made by a clock that went back, and holds nobody up", () => {
    expect(claimLease({ ...held, until: LEASE_MS + 10 }, "b", 5)).toMatchObject({ owner: "b" });
  });
});
