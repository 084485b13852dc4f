// @vitest-environment happy-dom
import { StatsigClient } from "@statsig/js-client";
import { afterEach, describe, expect, it, vi } from "vitest";

import { gtm } from "../src/destinations/gtm";
import { statsig } from "../src/destinations/statsig";
import { plain } from "../src/plain";
import { tapDataLayer, tapStatsig } from "../src/taps";
import { createStage } from "./stage";
import "./google.js";

type Layer = unknown[] & { push(...items: unknown[]): number };
const page = globalThis as unknown as { dataLayer: Layer; layer2: Layer; loadGoogle(options?: object): { fired: { event: string }[] } };
const stops: (() => void)[] = [];

afterEach(() => {
  vi.useRealTimers();
  stops.splice(0).forEach((stop) => stop());
  for (const name of ["dataLayer", "layer2", "google_tag_manager"]) delete (globalThis as Record<string, unknown>)[name];
});

/** Once the page's later task has run, what our own service was sent: name, value and metadata of each event. */
function watched() {
  const stage = createStage();
  const analytics = stage.open({ destinations: [gtm()] });
  const seen = async (): Promise<unknown[]> => {
    await new Promise((resolve) => setTimeout(resolve, 1));
    await analytics.flush();
    return stage.events().filter(({ source }) => source !== "sdk").map((event) => [event.event_name, event.event_value, event.event_metadata]);
  };
  const names = async (): Promise<unknown[]> => (await seen()).map((event) => (event as unknown[])[0]);
  return { stage, analytics, seen, names, tap: (options = {}) => stops[stops.push(tapDataLayer(analytics, options)) - 1] as () => void };
}

const gtag = (...words: unknown[]): number =>
  (function (..._: unknown[]) {
    return page.dataLayer.push(arguments);
  })(...words);

describe("the data layer's tap", () => {
  it("observes what was pushed before it and after it, once and in order", async () => {
    page.dataLayer = [{ event: "before", plan: "pro", value: 3 }, { no: "event" }] as unknown as Layer;
    const { tap, seen, stage } = watched();
    tap();
    page.dataLayer.push({ event: "after", n: 1 }, { event: "with it" });
    expect(await seen()).toEqual([["before", "3", { plan: "pro" }], ["after", undefined, { n: 1 }], ["with_it", undefined, {}]]);
    expect(stage.events()[0]?.source).toBe("tap:gtm");
  });

  it("understands gtag, and leaves out what is no event of the page", async () => {
    page.dataLayer = [] as unknown as Layer;
    const { tap, seen } = watched();
    gtag("js", new Date());
    gtag("config", "G-1");
    tap();
    gtag("event", "purchase", { value: 12, currency: "EUR", event_callback: () => undefined });
    gtag("consent", "update", {});
    page.dataLayer.push(["dataLayer.push", { event: "command" }], () => ({ event: "function" }), { event: "gtm.click" }, { event: 7 }, null);
    expect(await seen()).toEqual([["purchase", "12", { currency: "EUR" }]]);
  });

  it("observes Google's events where asked", async () => {
    const { tap, names } = watched();
    tap({ googleEvents: true });
    page.dataLayer.push({ event: "gtm.click" });
    expect(await names()).toEqual(["gtm.click"]);
  });

  it("reads a layer of another name", async () => {
    page.layer2 = [{ event: "two" }] as unknown as Layer;
    const { tap, names } = watched();
    tap({ dataLayerName: "layer2" });
    page.layer2.push({ event: "more" });
    expect(await names()).toEqual(["two", "more"]);
  });

  it("does not echo our own events, copied by others or not", async () => {
    const { tap, names, analytics, stage } = watched();
    analytics.trackEvent({ name: "ours" });
    await stage.pass(50);
    tap();
    const inner = page.dataLayer.push;
    page.dataLayer.push = (...items) => inner.apply(page.dataLayer, items.map((item) => ({ ...(item as object) })));
    analytics.trackEvent({ name: "ours again" });
    await stage.pass(50);
    page.dataLayer.push({ event: "theirs", event_id: "of their own" });
    expect(await names()).toEqual(["theirs"]);
    expect(page.dataLayer).toHaveLength(3);
  });

  it("knows our own event by its id, however large it is", async () => {
    const { tap, names, analytics, stage } = watched();
    analytics.trackEvent({ name: "ours", metadata: Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`k${n}`, "y".repeat(1_000)])) });
    await stage.pass(50);
    tap();
    expect(page.dataLayer).toHaveLength(1);
    expect(await names()).toEqual([]);
  });

  it("lets Google's script work, before and after it, and misses nothing when that trims the array", async () => {
    const { tap, names } = watched();
    const early = page.loadGoogle({ most: 5 });
    tap();
    const late = page.loadGoogle({ most: 5, container: "GTM-LATE" });
    const pushed = Array.from({ length: 40 }, (_, n) => `event_${n}`);
    for (const event of pushed) page.dataLayer.push({ event });
    expect(page.dataLayer).toHaveLength(5);
    expect(await names()).toEqual(pushed);
    for (const google of [early, late]) expect(google.fired.map(({ event }) => event).filter((name) => !name.startsWith("gtm."))).toEqual(pushed);
  });

  it("changes neither what push returns nor what it throws nor what passes", async () => {
    const { tap, names } = watched();
    const passed: unknown[] = [];
    page.dataLayer = [] as unknown as Layer;
    page.dataLayer.push = function (this: unknown, ...items: unknown[]) {
      passed.push(this === page.dataLayer, ...items);
      if ((items[0] as { bad?: boolean }).bad) throw new RangeError("theirs");
      return 77;
    };
    const theirs = page.dataLayer.push;
    const stop = tap();
    const item = Object.freeze({ event: "a" });
    expect(page.dataLayer.push(item)).toBe(77);
    expect(() => page.dataLayer.push({ event: "b", bad: true })).toThrow(RangeError);
    expect(passed.slice(0, 2)).toEqual([true, item]);
    expect(passed[1]).toBe(item);
    expect(await names()).toEqual(["a", "b"]);
    stop();
    expect(page.dataLayer.push).toBe(theirs);
  });

  it("does its work after the page's call", async () => {
    const { tap, names } = watched();
    tap();
    let read = 0;
    const call = { event: "a", get slow() { return ++read; } };
    page.dataLayer.push(call);
    expect(read).toBe(0);
    await names();
    expect(read).toBe(1);
  });

  it("that stops takes itself off where it is the outermost, and else falls silent in its place", async () => {
    const { tap, names } = watched();
    page.dataLayer = [] as unknown as Layer;
    const first = tap();
    first();
    expect(Object.hasOwn(page.dataLayer, "push")).toBe(false);
    const second = tap();
    const inner = page.dataLayer.push;
    const wrapper = (...items: unknown[]): number => inner.apply(page.dataLayer, items);
    page.dataLayer.push = wrapper;
    second();
    expect(page.dataLayer.push).toBe(wrapper);
    expect(page.dataLayer.push({ event: "unseen" })).toBe(1);
    expect(await names()).toEqual([]);
  });

  it("that is mounted twice, as StrictMode does, observes nothing twice", async () => {
    page.dataLayer = [{ event: "before" }] as unknown as Layer;
    const { tap, names } = watched();
    tap()();
    page.dataLayer.push({ event: "between" });
    tap();
    const again = { event: "again" };
    page.dataLayer.push(again, again);
    expect(await names()).toEqual(["before", "between", "again", "again"]);
  });

  it("harms nothing where the layer is none or cannot be wrapped", () => {
    const { tap } = watched();
    for (const layer of ["text", 5, Object.freeze([])]) {
      (globalThis as Record<string, unknown>)["dataLayer"] = layer;
      expect(() => tap()()).not.toThrow();
    }
  });
});

describe("a copy", () => {
  const node = { nodeType: 1, ownerDocument: {} };
  class Widget {
    inner = 1;
  }

  it("is plain data: no functions, no instances, no getter's error", () => {
    const bad = { get thrown() { throw new Error("theirs"); } };
    expect(plain({ a: 1, f: () => 1, s: Symbol("x"), w: new Widget(), big: 5n, d: new Date(0), u: undefined, ...{}, n: null, list: [1, () => 1] })).toEqual({ a: 1, big: "5", d: "1970-01-01T00:00:00.000Z", n: null, list: [1, null] });
    expect(plain(bad)).toEqual({});
    expect(plain({ element: Object.setPrototypeOf(node, { kind: "Element" }) })).toEqual({});
  });

  it("is bounded in depth, keys, parts and characters, and ends in a circle", () => {
    const circle: Record<string, unknown> = { name: "x" };
    circle["self"] = circle;
    expect(JSON.stringify(plain(circle))).toBe('{"name":"x","self":{"name":"x","self":{"name":"x","self":{"name":"x"}}}}');
    const wide = Object.fromEntries(Array.from({ length: 1_000 }, (_, n) => [`k${n}`, "y".repeat(5_000)]));
    const copy = plain(wide) as Record<string, string>;
    expect(Object.keys(copy).length).toBeLessThanOrEqual(64);
    expect(JSON.stringify(copy).length).toBeLessThan(20_000);
    const bushy = (depth: number): unknown => (depth === 0 ? 1 : Array.from({ length: 60 }, () => bushy(depth - 1)));
    expect(JSON.stringify(plain(bushy(3))).length).toBeLessThan(5_000);
  });

  it("cannot change the prototype of anything", () => {
    const copy = plain(JSON.parse('{"__proto__": {"polluted": true}, "a": 1}')) as object;
    expect([Object.getPrototypeOf(copy) === Object.prototype, (copy as { polluted?: boolean }).polluted]).toEqual([true, undefined]);
  });
});

describe("a page that goes", () => {
  it.each(["visibilitychange", "pagehide"])("has what a client flushed at its end looked at before the last send (%s)", (name) => {
    const observed: string[] = [];
    page.dataLayer = [] as unknown as Layer;
    stops.push(tapDataLayer({ observe: (event) => (observed.push(event.name), { id: "" }) as never }));
    page.dataLayer.push({ event: "late" });
    expect(observed).toEqual([]);
    document.addEventListener(name, () => observed.push("last send"), { once: true });
    window.addEventListener(name, () => observed.push("last send"), { once: true });
    (name === "pagehide" ? window : document).dispatchEvent(new Event(name));
    expect(observed.slice(0, 2)).toEqual(["late", "last send"]);
  });

  it("is looked at at once when it is hidden already", () => {
    const observed: string[] = [];
    page.dataLayer = [] as unknown as Layer;
    stops.push(tapDataLayer({ observe: (event) => (observed.push(event.name), { id: "" }) as never }));
    Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
    page.dataLayer.push({ event: "late" });
    delete (document as { visibilityState?: unknown }).visibilityState;
    expect(observed).toEqual(["late"]);
  });
});

describe("Statsig's tap", () => {
  const realClient = (): StatsigClient => {
    const networkConfig = { networkOverrideFunc: () => Promise.resolve(new Response("{}", { status: 202 })) };
    const client = new StatsigClient(`client-${Math.random()}`, {}, { networkConfig, loggingEnabled: "always", disableStorage: true, logLevel: 0 });
    client.initializeSync({ disableBackgroundCacheRefresh: true });
    return client;
  };

  it("observes what others log, and what waited before it came, but not Statsig's own and ours", async () => {
    const stage = createStage();
    // Statsig sends its first events 200 ms after they came; on a slow machine that would be before the tap does.
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const client = realClient();
    const analytics = stage.open({ destinations: [statsig(client)] });
    client.logEvent("early", 1, { a: "b" });
    client.logEvent("same");
    client.checkGate("a_gate");
    vi.useRealTimers();
    analytics.trackEvent({ name: "ours, early" });
    await stage.pass(50);
    const stop = tapStatsig(analytics, client);
    client.logEvent("same");
    client.logEvent({ eventName: "late", value: "v", metadata: { c: "d" } });
    analytics.trackEvent({ name: "ours, late" });
    await stage.pass(50);
    await client.flush();
    await client.flush();
    stop();
    client.logEvent("after the stop");
    await client.shutdown();
    await new Promise((resolve) => setTimeout(resolve, 1));
    await analytics.flush();
    const tapped = stage.events().filter(({ source }) => source === "tap:statsig").map((event) => [event.event_name, event.event_value, event.event_metadata]);
    const wanted = [["early", "1", { a: "b" }], ["late", "v", { c: "d" }], ["same", undefined, {}], ["same", undefined, {}]];
    expect(tapped.sort((a, b) => String(a[0]).localeCompare(String(b[0])))).toEqual(wanted);
  });

  it("that is mounted twice, as StrictMode does, observes nothing twice", async () => {
    const stage = createStage();
    const client = realClient();
    const analytics = stage.open();
    client.logEvent("before");
    tapStatsig(analytics, client)();
    const stop = tapStatsig(analytics, client);
    client.logEvent("after");
    await client.flush();
    stop();
    tapStatsig(analytics, client);
    await client.shutdown();
    await new Promise((resolve) => setTimeout(resolve, 1));
    await analytics.flush();
    expect(stage.events().map((event) => event.event_name).sort()).toEqual(["after", "before"]);
  });

  it("lives with a client that is none, and one that throws", () => {
    for (const none of [undefined, null, 5, {}]) expect(() => tapStatsig(createStage().open(), none as never)()).not.toThrow();
    const analytics = createStage().open();
    const broken = { on: vi.fn(() => { throw new Error("theirs"); }), off: vi.fn(() => { throw new Error("theirs"); }) };
    expect(() => tapStatsig(analytics, broken)()).not.toThrow();
    expect(broken.on.mock.calls.length).toBeGreaterThan(0);
  });
});
