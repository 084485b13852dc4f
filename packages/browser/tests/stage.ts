/** A page, a service and a clock that tests move by hand. No test sleeps. */
import { createClient, type Analytics, type Configuration } from "../src/client";
import type { Environment, Page } from "../src/environment";
import type { Receipt, WireEvent } from "../src/event";

export interface Sent {
  at: number;
  address: string;
  body: string;
  keepalive: boolean;
  headers: Record<string, string>;
  envelope: { events: WireEvent[]; receipts?: Receipt[]; key: string; token?: string; sent_at: string };
}

export type Answering = (sent: Sent) => Response | Promise<Response>;

export const accept = (sent: Pick<Sent, "envelope">, statuses: Record<string, string> = {}): Response => {
  const counts: Record<string, number> = { accepted: 0, duplicate: 0, rejected: 0, dropped: 0, retry: 0 };
  const results = sent.envelope.events.flatMap(({ event_id }, index) => {
    const status = statuses[event_id] ?? "accepted";
    counts[status] = (counts[status] ?? 0) + 1;
    return status === "accepted" ? [] : [{ index, event_id, status, code: "x", message: "x" }];
  });
  return Response.json({ batch_id: "b", ...counts, results, config: { version: 1, kill: false } });
};

export const refuse = (status: number, headers: Record<string, string> = {}): Response =>
  new Response('{"error":{"code":"x","message":"x","hint":""}}', { status, headers });

/** The service's configuration where nothing is set. */
const OPEN = {
  version: 1,
  kill: false,
  queue: "drain",
  share: 1,
  gate: null,
  sampling: { default: 1, events: {} },
  batch: { events: 50, bytes: 49_152, interval_milliseconds: 2_000 },
  endpoint: null,
};

const memoryStorage = (items: Map<string, string>): Storage => ({
  get length() {
    return items.size;
  },
  clear: () => items.clear(),
  getItem: (key) => items.get(key) ?? null,
  key: (at) => [...items.keys()][at] ?? null,
  removeItem: (key) => void items.delete(key),
  setItem: (key, value) => void items.set(key, value),
});

/** Lets everything that only waits for promises come to rest. */
export const rest = async (): Promise<void> => {
  for (let i = 0; i < 3; i++) await new Promise((resolve) => setTimeout(resolve, 0));
};

export function createStage() {
  let now = Date.UTC(2026, 0, 5, 12);
  let timers: { at: number; work: () => void }[] = [];
  let answer: Answering = (sent) => accept(sent);
  let config: object | undefined;
  const asked: { at: number; address: string; cache: string | undefined }[] = [];
  const sent: Sent[] = [];
  const items = new Map<string, string>();
  const listeners = new Map<string, Set<() => void>>();
  const target = {
    addEventListener(name: string, work: () => void, options?: { signal?: AbortSignal }) {
      (listeners.get(name) ?? listeners.set(name, new Set()).get(name))?.add(work);
      options?.signal?.addEventListener("abort", () => listeners.get(name)?.delete(work));
    },
  };
  const page = {
    ...target,
    document: { ...target, title: "Home", referrer: "", visibilityState: "visible" },
    location: { href: "https://shop.example/a?b=1", pathname: "/a" },
    navigator: { language: "en-GB", doNotTrack: null as string | null, globalPrivacyControl: false },
    innerWidth: 800,
    innerHeight: 600,
    localStorage: memoryStorage(items),
  };
  const environment: Environment = {
    window: page as unknown as Page,
    fill: (numbers) => crypto.getRandomValues(numbers),
    clockwork: {
      now: () => now,
      ticks: () => now,
      random: () => 1,
      after(work, milliseconds) {
        const timer = { at: now + milliseconds, work };
        timers.push(timer);
        return timer;
      },
      cancel: (timer) => void (timers = timers.filter((known) => known !== timer)),
      async fetch(address, init) {
        if (init?.method !== "POST") {
          asked.push({ at: now, address: String(address), cache: init?.cache });
          return config ? Response.json({ ...OPEN, ...config }) : new Response("", { status: 404 });
        }
        const body = typeof init.body === "string" ? init.body : new TextDecoder().decode(init.body as ArrayBuffer);
        const made: Sent = { at: now, address: String(address), body, keepalive: init?.keepalive === true, headers: init?.headers as Record<string, string>, envelope: JSON.parse(body) as Sent["envelope"] };
        sent.push(made);
        const aborted = new Promise<never>((_, reject) => init.signal?.addEventListener("abort", () => reject(new DOMException("", "AbortError"))));
        return Promise.race([answer(made), aborted]);
      },
    },
  };
  return {
    environment,
    page,
    items,
    sent,
    now: () => now,
    timers: () => timers.length,
    asked,
    /** What the service's configuration says from now on, beside its defaults. */
    configure: (next: object | undefined) => void (config = next),
    respond: (next: Answering) => void (answer = next),
    fire: (name: string) => listeners.get(name)?.forEach((work) => work()),
    listening: () => [...listeners.values()].reduce((sum, set) => sum + set.size, 0),
    show() {
      page.document.visibilityState = "visible";
      listeners.get("visibilitychange")?.forEach((work) => work());
    },
    hide() {
      page.document.visibilityState = "hidden";
      listeners.get("visibilitychange")?.forEach((work) => work());
    },
    /** Moves the clock, running each timer at its time. */
    async pass(milliseconds: number) {
      const until = now + milliseconds;
      await rest();
      for (;;) {
        const [next] = timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at);
        if (!next) break;
        timers = timers.filter((timer) => timer !== next);
        now = Math.max(now, next.at);
        next.work();
        await rest();
      }
      now = until;
    },
    jump: (milliseconds: number) => void (now += milliseconds),
    open: (configuration: Partial<Configuration> = {}): Analytics => createClient({ endpoint: "/api/analytics/events", writeKey: "wk", ...configuration }, environment),
    /** Ids in the order in which they were sent, repeats included. */
    ids: () => sent.flatMap(({ envelope }) => envelope.events.map((event) => event.event_id)),
    events: () => sent.flatMap(({ envelope }) => envelope.events),
  };
}

/** Every tracked event is in exactly one place. */
export const balance = (analytics: Analytics): number => {
  const { tracked, recovered, queued, held, sent, rejected, excluded, refused, dropped, discarded, elsewhere } = analytics.stats();
  return tracked + recovered - (elsewhere + queued + held + sent + rejected + excluded + refused + dropped + discarded);
};
