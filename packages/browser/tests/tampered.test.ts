/** What lies on disk is what anyone who can run script here left there: none of it may throw into the page or stop the queue. */
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { describe, expect, it } from "vitest";

import { balance, createStage } from "./stage";

globalThis.IDBKeyRange = IDBKeyRange;

const LANE = "twintrack /api/analytics/events wk 3";

const open = (factory: IDBFactory, store = "slices"): Promise<IDBDatabase> =>
  new Promise((resolve) => {
    const request = factory.open(LANE);
    request.onupgradeneeded = () => request.result.createObjectStore(store, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
  });

/** A disk on which these records lie. */
const holding = async (...records: object[]): Promise<IDBFactory> => {
  const factory = new IDBFactory();
  const database = await open(factory);
  const transaction = database.transaction("slices", "readwrite");
  for (const record of records) transaction.objectStore("slices").put(record);
  await new Promise((resolve) => (transaction.oncomplete = resolve));
  database.close();
  return factory;
};

const left = async (factory: IDBFactory): Promise<{ id: unknown }[]> => {
  const database = await open(factory);
  const request = database.transaction("slices").objectStore("slices").getAll() as IDBRequest<{ id: unknown }[]>;
  await new Promise((resolve) => (request.onsuccess = resolve));
  database.close();
  return request.result.filter(({ id }) => id !== "~");
};

/** A page over that disk, which tracks one event of its own. */
const visit = async (factory: IDBFactory) => {
  const stage = createStage();
  Object.assign(stage.page, { indexedDB: factory });
  const analytics = stage.open();
  const { id } = analytics.trackEvent({ name: "own" });
  for (let n = 0; n < 20; n++) {
    await stage.pass(200);
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return { stage, analytics, id };
};

const line = (id: string): string => JSON.stringify({ event_id: id, event_name: "kept" });

describe("a record on disk", () => {
  it.each<[string, object, number]>([
    ["without events", { id: ["p", 1] }, 1],
    ["of another form", { id: "events", list: [1] }, 1],
    ["of the form before this one", { id: ["p", 1], rows: [{ id: "x", who: "[]", text: line("x") }] }, 1],
    ["whose events are a number", { id: ["p", 1], text: 7 }, 1],
    ["whose events are an object", { id: ["p", 1], text: { event_id: "x" } }, 1],
    ["that is empty", { id: ["p", 1], text: "" }, 1],
    ["with nothing in place of events", { id: ["p", 1], text: null }, 1],
    ["whose event is half written", { id: ["p", 1], text: '{"event_id":"x","event' }, 1],
    ["whose event is a list", { id: ["p", 1], text: "[1]" }, 1],
    ["whose event has no id", { id: ["p", 1], text: '{"event_name":"kept"}' }, 1],
    ["whose event has an id of another form", { id: ["p", 1], text: '{"event_id":5}' }, 1],
    ["under a key of another form", { id: 5, text: "null\nnull" }, 2],
  ])("%s is dropped, and reported where there was an event", async (_, record, events) => {
    const factory = await holding(record);
    const { stage, analytics, id } = await visit(factory);
    expect(stage.ids()).toEqual([id]);
    expect(analytics.stats()).toMatchObject({ recovered: events, rejected: events, sent: 1, queued: 0, storage: "disk" });
    expect(balance(analytics)).toBe(0);
    expect(await left(factory)).toEqual([]);
  });

  it("with one bad event among good ones loses that one alone", async () => {
    const factory = await holding({ id: ["p", 1], text: [line("a"), "}", line("b")].join("\n") });
    const { stage, analytics, id } = await visit(factory);
    expect(stage.ids().sort()).toEqual(["a", "b", id].sort());
    expect(analytics.stats()).toMatchObject({ recovered: 3, rejected: 1, sent: 3, queued: 0 });
    expect(await left(factory)).toEqual([]);
  });

  it("that is huge makes room for what the page tracks, and is counted", async () => {
    const text = Array.from({ length: 200_000 }, (_, n) => line(`e${n}`)).join("\n");
    const factory = await holding({ id: ["p", 1], text });
    const { stage, analytics, id } = await visit(factory);
    expect(stage.ids()).toContain(id);
    expect(analytics.stats()).toMatchObject({ recovered: 200_000, dropped: 199_001 });
    expect(balance(analytics)).toBe(0);
  }, 60_000);
});

describe("a wait in storage", () => {
  it.each([
    ["of texts", "x y z no"],
    ["of nothing", " "],
    ["without numbers", "NaN NaN NaN 1"],
    ["of infinities", "Infinity Infinity Infinity Infinity"],
    ["that would last a year", "1e9 1e18 3e10 0"],
    ["that would last for ever", "1e9 Infinity Infinity 1"],
  ])("%s stops the queue for an hour at most", async (_, text) => {
    const stage = createStage();
    stage.items.set(`${LANE.slice(0, -2)} wait`, text);
    const analytics = stage.open();
    const { id } = analytics.trackEvent({ name: "own" });
    for (let n = 0; n < 62 && !stage.sent.length; n++) await stage.pass(60_000);
    expect(stage.ids()).toEqual([id]);
    expect(analytics.stats()).toMatchObject({ sent: 1, queued: 0 });
  }, 20_000);

  it("that cannot be written anew is no news", async () => {
    const stage = createStage();
    stage.items.set(`${LANE.slice(0, -2)} wait`, "0 0 0 0");
    stage.page.localStorage.setItem = () => {
      throw new DOMException("full", "QuotaExceededError");
    };
    stage.respond(() => new Response("", { status: 503 }));
    stage.open({ batchSize: 1 }).trackEvent({ name: "own" });
    await stage.pass(8_000);
    expect(stage.sent.length).toBeGreaterThan(0);
    expect(stage.sent.length).toBeLessThan(4);
  });
});

describe("a lease on disk", () => {
  it.each<[string, object]>([
    ["of texts", { owner: 5, until: "w" }],
    ["of nothing", {}],
    ["that would last for ever", { owner: "x", until: Infinity }],
  ])("%s stops nothing", async (_, lease) => {
    const { stage, analytics, id } = await visit(await holding({ id: "~", ...lease }));
    expect(stage.ids()).toEqual([id]);
    expect(analytics.stats()).toMatchObject({ sent: 1, queued: 0 });
  });
});

describe("a database of another form", () => {
  it("costs no event: all goes on in memory", async () => {
    const factory = new IDBFactory();
    (await open(factory, "other")).close();
    const { stage, analytics, id } = await visit(factory);
    expect(stage.ids()).toEqual([id]);
    expect(analytics.stats()).toMatchObject({ sent: 1, queued: 0, storage: "memory" });
  });
});
