import { describe, expect, it } from "vitest";

import { createBackendClient, type Clockwork } from "../src/backend";
import { createClient, type Analytics, type Configuration } from "../src/client";
import type { Page } from "../src/environment";
import { uuid7, type Destination, type VendorEvent, type WireEvent } from "../src/event";
import { backoff, retryAfter } from "../src/retry";
import { Window } from "happy-dom";

interface Sent {
  events: WireEvent[];
  receipts?: { event_id: string; vendor: string; status: string }[];
  key: string;
  token?: string;
}

/** A page on which nothing ever happens. */
const page = { addEventListener: () => undefined, document: { addEventListener: () => undefined }, navigator: {} } as unknown as Page;

/** A clock and timers that move when told, and a service that answers as the contract says. */
function world() {
  let now = 1_767_225_600_000;
  let timers: { at: number; work: () => void }[] = [];
  const sent: Sent[] = [];
  const keepalive: boolean[] = [];
  let respond: (events: WireEvent[]) => Response = (events) => accepted(events);
  const clockwork: Clockwork = {
    now: () => now,
    ticks: () => now,
    random: () => 0.5,
    after: (work, milliseconds) => {
      const timer = { at: now + milliseconds, work };
      timers.push(timer);
      return timer;
    },
    cancel: (timer) => {
      timers = timers.filter((other) => other !== timer);
    },
    fetch: (_, init) => {
      const body = JSON.parse(init?.body as string) as Sent;
      sent.push(body);
      keepalive.push(init?.keepalive === true);
      try {
        return Promise.resolve(respond(body.events));
      } catch (error) {
        return Promise.reject(error as Error);
      }
    },
  };
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 30; i++) await Promise.resolve();
  };
  return {
    clockwork,
    sent,
    keepalive,
    answer: (next: typeof respond) => {
      respond = next;
    },
    async advance(milliseconds: number) {
      const until = now + milliseconds;
      for (;;) {
        await settle();
        const next = timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at)[0];
        if (!next) break;
        now = Math.max(now, next.at);
        timers = timers.filter((timer) => timer !== next);
        next.work();
      }
      now = until;
      await settle();
    },
  };
}

const accepted = (events: WireEvent[], more: object = {}): Response =>
  new Response(JSON.stringify({ batch_id: "b", accepted: events.length, duplicate: 0, rejected: 0, dropped: 0, retry: 0, results: [], config: { version: 1, kill: false }, ...more }));

const wire = (id: string, user?: string): WireEvent => ({ event_id: id, event_name: "x", client_timestamp: "", consent: "granted", source: "sdk", ...(user ? { user_id: user } : {}) });

function service(w: ReturnType<typeof world>, configuration: Partial<Configuration> = {}): { analytics: Analytics; page: Window } {
  const page = new Window({ url: "https://shop.test/cart" });
  const analytics = createClient(
    { endpoint: "/e", writeKey: "k", ...configuration },
    { window: page as unknown as globalThis.Window & typeof globalThis, clockwork: w.clockwork, fill: (bytes) => crypto.getRandomValues(bytes) },
  );
  return { analytics, page };
}

const recorder = (vendor: "statsig" | "gtm", events: VendorEvent[]): Destination => ({ vendor, send: (event) => events.push(event) > 0 });

describe("delivery", () => {
  it("sends a lone event after the flush interval and removes it once answered", async () => {
    const w = world();
    const client = createBackendClient({ endpoint: "/e", writeKey: "k" }, w.clockwork, page);
    client.start();
    client.trackEvent(wire("1"));
    await w.advance(1_999);
    expect(w.sent).toHaveLength(0);
    await w.advance(1);
    expect(w.sent[0]?.events.map((event) => event.event_id)).toEqual(["1"]);
    expect(client.stats()).toMatchObject({ queued: 0, sent: 1 });
  });

  it("keeps the same ids through 503, cut answers and wrong sums, and loses nothing", async () => {
    const w = world();
    const client = createBackendClient({ endpoint: "/e", writeKey: "k" }, w.clockwork, page);
    client.start();
    const answers = [
      () => new Response("", { status: 503, headers: { "Retry-After": "3" } }),
      () => { throw new TypeError("cut"); },
      () => new Response("{\"accepted\": 1"),
      (events: WireEvent[]) => accepted(events, { accepted: 0 }),
    ];
    w.answer((events) => (answers.shift() ?? accepted)(events));
    client.trackEvent(wire("1"));
    await w.advance(2_000);
    await w.advance(2_999);
    expect(w.sent).toHaveLength(1);
    await w.advance(60_000);
    expect(w.sent.map((sent) => sent.events[0]?.event_id)).toEqual(["1", "1", "1", "1", "1"]);
    expect(client.stats().queued).toBe(0);
  });

  it("sends again only what was answered retry", async () => {
    const w = world();
    const client = createBackendClient({ endpoint: "/e", writeKey: "k" }, w.clockwork, page);
    client.start();
    let first = true;
    w.answer((events) => {
      if (!first) return accepted(events);
      first = false;
      return accepted(events, { accepted: 1, retry: 1, results: [{ index: 1, event_id: "2", status: "retry" }] });
    });
    client.trackEvent(wire("1"));
    client.trackEvent(wire("2"));
    await w.advance(10_000);
    expect(w.sent.map((sent) => sent.events.map((event) => event.event_id))).toEqual([["1", "2"], ["2"]]);
  });

  it("halves a batch that is too large and never mixes identities", async () => {
    const w = world();
    const client = createBackendClient({ endpoint: "/e", writeKey: "k" }, w.clockwork, page);
    client.start();
    w.answer((events) => (events.length > 1 ? new Response("", { status: 413 }) : accepted(events)));
    for (const id of ["1", "2"]) client.trackEvent(wire(id, "ann"));
    client.trackEvent(wire("3", "bob"));
    await w.advance(10_000);
    expect(w.sent.map((sent) => sent.events.map((event) => event.event_id))).toEqual([["1", "2"], ["1"], ["2"], ["3"]]);
  });

  it("drops the oldest beyond the cap and counts them", async () => {
    const w = world();
    const client = createBackendClient({ endpoint: "/e", writeKey: "k", batchSize: 5_000 }, w.clockwork, page);
    client.start();
    w.answer(() => new Response("", { status: 503 }));
    for (let i = 0; i < 1_005; i++) client.trackEvent(wire(String(i)));
    await w.advance(25);
    expect(client.stats()).toMatchObject({ queued: 1_000, dropped: 5 });
  });

  it("sends what waits when the page hides, with key and token in the envelope", async () => {
    const w = world();
    const { analytics, page } = service(w, { getToken: () => "jwt" });
    analytics.trackEvent({ name: "One" });
    await w.advance(2_000);
    analytics.trackEvent({ name: "Two" });
    page.dispatchEvent(new page.Event("pagehide"));
    expect(w.keepalive).toEqual([false, true]);
    expect(w.sent[1]).toMatchObject({ key: "k", token: "jwt", events: [{ event_name: "two" }] });
  });
});

describe("one call", () => {
  it("reaches backend, Statsig and GTM under one id, and message text reaches no vendor", async () => {
    const w = world();
    const seen: VendorEvent[] = [];
    const { analytics } = service(w, { destinations: [recorder("statsig", seen), recorder("gtm", seen)] });
    const id = analytics.trackMessage({ content: "secret text", threadId: "t" }).id;
    await w.advance(2_000);
    expect(seen.map((event) => event.id)).toEqual([id, id]);
    expect(JSON.stringify(seen)).not.toContain("secret text");
    expect(w.sent[0]?.events[0]).toMatchObject({ event_id: id, message_content: "secret text", thread_id: "t" });
    expect(w.sent[0]?.receipts?.map((receipt) => receipt.status)).toEqual(["handed", "handed"]);
  });

  it("survives a vendor that throws and one that is absent", async () => {
    const w = world();
    const broken: Destination = { vendor: "statsig", send: () => { throw new Error("no"); } };
    const { analytics } = service(w, { destinations: [broken, { vendor: "gtm", send: () => false }] });
    analytics.trackConversion("Sign Up", 5);
    await w.advance(2_000);
    expect(w.sent[0]?.events[0]).toMatchObject({ event_name: "conversion_sign_up", event_value: "5" });
    expect(w.sent[0]?.receipts?.map((receipt) => receipt.status)).toEqual(["failed", "absent"]);
  });

  it("never throws into the page, whatever it is given", () => {
    const { analytics } = service(world());
    const circle: Record<string, unknown> = {};
    circle["self"] = circle;
    expect(() => analytics.trackEvent({ name: "x", metadata: circle })).not.toThrow();
    expect(() => analytics.trackError({ toString: () => { throw new Error("no"); } })).not.toThrow();
  });
});

describe("consent and identity", () => {
  it("holds while pending, writes nothing, and sends in order once granted", async () => {
    const w = world();
    const seen: VendorEvent[] = [];
    const { analytics, page } = service(w, { requireConsent: true, destinations: [recorder("gtm", seen)] });
    const ids = [analytics.trackEvent({ name: "a" }).id, analytics.trackEvent({ name: "b" }).id];
    await w.advance(10_000);
    expect([w.sent.length, seen.length, page.localStorage.length]).toEqual([0, 0, 0]);
    analytics.consent("granted");
    await w.advance(2_000);
    expect(w.sent[0]?.events.map((event) => [event.event_id, event.consent])).toEqual(ids.map((id) => [id, { state: "granted", at: "2026-01-01T00:00:10.000Z", denied: [] }]));
    expect(seen.map((event) => event.id)).toEqual(ids);
  });

  it("discards and counts on denial", async () => {
    const w = world();
    const { analytics } = service(w, { requireConsent: true });
    analytics.trackEvent({ name: "a" });
    analytics.consent("denied");
    analytics.trackEvent({ name: "b" });
    await w.advance(10_000);
    expect(w.sent).toHaveLength(0);
    expect(analytics.stats().discarded).toBe(2);
  });

  it("draws a new person on reset and a new session after half an hour", async () => {
    const w = world();
    const { analytics } = service(w, { batchSize: 10 });
    analytics.identify("ann");
    analytics.trackEvent({ name: "a" });
    await w.advance(31 * 60_000);
    analytics.trackEvent({ name: "b" });
    analytics.reset();
    analytics.trackEvent({ name: "c" });
    await w.advance(2_000);
    const [, a, b, c] = w.sent.flatMap((sent) => sent.events);
    expect(a?.anonymous_id).toBe(b?.anonymous_id);
    expect(a?.session_id).not.toBe(b?.session_id);
    expect(c?.anonymous_id).not.toBe(b?.anonymous_id);
    expect([b?.user_id, c?.user_id]).toEqual(["ann", undefined]);
  });

  it("does nothing without a window", () => {
    const nothing = createClient({ endpoint: "/e", writeKey: "k" }, { window: undefined, clockwork: world().clockwork, fill: (bytes) => bytes });
    expect(nothing.trackEvent({ name: "x" }).id).toBe("");
  });
});

describe("pure parts", () => {
  it("makes ids that are UUIDv7 and never go back, even with a clock that does", () => {
    let now = 1_767_225_600_000;
    const draw = uuid7((bytes) => crypto.getRandomValues(bytes));
    const ids = Array.from({ length: 10_000 }, () => draw(now--));
    expect(new Set(ids).size).toBe(10_000);
    expect([...ids].sort()).toEqual(ids);
    expect(ids[0]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it("reads Retry-After in seconds and dates, and never waits longer than five minutes by itself", () => {
    expect(retryAfter("2", 0)).toBe(2_000);
    expect(retryAfter(new Date(5_000).toUTCString(), 1_000)).toBe(4_000);
    expect(retryAfter("soon", 0)).toBeUndefined();
    expect(backoff(50, 1)).toBe(300_000);
  });
});
