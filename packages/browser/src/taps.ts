/**
 * `@twintrack/browser/taps`: events that other code sends straight to Statsig or pushes to the data layer, for our own service.
 *
 * A tap is a guest: it changes nothing that passes, throws nothing, keeps other wrappers working, and does its work in a
 * later task. Events of our own are not echoed.
 */
import type { Analytics } from "./client";
import type { Metadata } from "./event";
import { guard } from "./guard";
import { isOwn } from "./own";
import { plain } from "./plain";

/** Events that wait for their task; more in one task are not taken. */
const MOST_SEEN = 1_000;

type Observed = Pick<Analytics, "observe">;
type Found = { name: string; value?: string | number; metadata?: Metadata };

/** Collects what passes and looks at it in a later task, outside the calls of the page, and at the rest when it stops or the page goes: no later task runs then. */
function later<Item>(look: (item: Item) => void): { see(item: Item): void; stop(): void } {
  let seen: Item[] = [];
  let timer: ReturnType<typeof setTimeout> | undefined;
  const work = (): void => {
    clearTimeout(timer);
    timer = undefined;
    const items = seen;
    seen = [];
    for (const item of items) guard(() => look(item), undefined);
  };
  const page = globalThis as unknown as Partial<Window>;
  // Before anyone else on the page: the service makes its last send at these.
  const last = ["visibilitychange", "pagehide"];
  for (const name of last) page.addEventListener?.(name, work, true);
  return {
    see(item) {
      if (seen.length >= MOST_SEEN) return;
      seen.push(item);
      if (page.document?.visibilityState === "hidden") work();
      else timer ??= setTimeout(work, 0);
    },
    stop() {
      for (const name of last) page.removeEventListener?.(name, work, true);
      work();
    },
  };
}

interface Memory {
  /** Milliseconds since 1970. */
  started: number;
  seen: WeakSet<object>;
  /** Logged in the first millisecond: in the client's queue these look like earlier ones. */
  first: StatsigEvent[];
}

const memories = new WeakMap<object, WeakMap<object, Memory>>();

/** What a service knows of a source. It outlives a stop: StrictMode, which taps twice, observes nothing twice. */
function memoryOf(analytics: object, source: object): Memory {
  const all = memories.get(analytics) ?? new WeakMap<object, Memory>();
  const memory = all.get(source) ?? { started: Date.now(), seen: new WeakSet(), first: [] };
  memories.set(analytics, all.set(source, memory));
  return memory;
}

const found = (name: string, value: unknown, metadata: Metadata): Found => ({
  name,
  ...(typeof value === "string" || typeof value === "number" ? { value } : {}),
  metadata,
});

interface StatsigEvent {
  eventName?: unknown;
  value?: unknown;
  metadata?: unknown;
  time?: unknown;
}

/** What is used of `@statsig/js-client`. */
export interface StatsigSource {
  // Its listeners are typed event by event, which no narrower type of ours would fit.
  on(name: "log_event_called" | "pre_logs_flushed", listener: (event: any) => void): void;
  off(name: "log_event_called" | "pre_logs_flushed", listener: (event: any) => void): void;
}

/**
 * Observes what other code logs with this Statsig client, events included that it had not sent yet when the tap came.
 * Statsig's own events (`statsig::...`) are left out. Returns a function that stops the tap. Never throws.
 */
export function tapStatsig(analytics: Observed, client: StatsigSource): () => void {
  return guard(() => listen(analytics, client), () => undefined);
}

function listen(analytics: Observed, client: StatsigSource): () => void {
  const memory = memoryOf(analytics, client);
  const tap = later<StatsigEvent>(({ eventName, value, metadata }) => {
    if (typeof eventName !== "string" || eventName.startsWith("statsig::")) return;
    if (isOwn((metadata as { event_id?: unknown } | undefined)?.event_id)) return;
    analytics.observe({ ...found(eventName, value, (plain(metadata) ?? {}) as Metadata), source: "tap:statsig" });
  });
  const called = ({ event }: { event: StatsigEvent }): void => {
    if (Date.now() <= memory.started && memory.first.length < MOST_SEEN) memory.first.push(event);
    tap.see(event);
  };
  const flushing = ({ events }: { events: StatsigEvent[] }): void => {
    for (const event of events) {
      // A batch that is sent again holds the same objects.
      if (!(Number(event.time) <= memory.started) || memory.seen.has(event)) continue;
      memory.seen.add(event);
      const at = memory.first.findIndex(({ eventName, metadata }) => eventName === event.eventName && metadata === event.metadata);
      if (at < 0) tap.see(event);
      else memory.first.splice(at, 1);
    }
  };
  const listeners = { log_event_called: called, pre_logs_flushed: flushing } as const;
  const names = ["log_event_called", "pre_logs_flushed"] as const;
  names.forEach((name) => client.on(name, listeners[name]));
  return () => {
    tap.stop();
    guard(() => names.forEach((name) => client.off(name, listeners[name])), undefined);
  };
}

export interface DataLayerTapOptions {
  /** Name of the data layer on `window`. Default: "dataLayer". */
  dataLayerName?: string;
  /** Observe Google's own events too, such as `gtm.js` and `gtm.click`. Default: false. */
  googleEvents?: boolean;
}

/** What a push asks for: `{event: name, ...}`, or gtag's `arguments` of ("event", name, {...}). */
function pushed(item: unknown): { name: unknown; fields: object } | undefined {
  if (typeof item !== "object" || item === null || Array.isArray(item)) return undefined;
  if (Object.prototype.toString.call(item) !== "[object Arguments]") return { name: (item as { event?: unknown }).event, fields: item };
  const [command, name, fields] = item as unknown as ArrayLike<unknown> & Iterable<unknown>;
  return command === "event" ? { name, fields: typeof fields === "object" && fields ? fields : {} } : undefined;
}

/** Keys that speak to Google's script and not of the event. */
const isSpeech = (key: string): boolean => key === "event" || key === "eventCallback" || key === "eventTimeout" || key === "event_callback" || key === "event_timeout" || key.startsWith("gtm.");

/**
 * Observes what other code pushes to the data layer, by `push` or gtag, pushes made before the tap included. The array and
 * what passes stay as they are, and so do what `push` returns and throws. Returns a function that stops the tap and takes
 * it off again where no other wrapper came after it. Never throws.
 */
export function tapDataLayer(analytics: Observed, { dataLayerName = "dataLayer", googleEvents = false }: DataLayerTapOptions = {}): () => void {
  const tap = later<unknown>((item) => {
    const { name, fields } = pushed(item) ?? {};
    if (typeof name !== "string" || (!googleEvents && name.startsWith("gtm."))) return;
    // Asked of the original: a bounded copy may lack it.
    if (isOwn((fields as { event_id?: unknown }).event_id)) return;
    const { value, ...copy } = (plain(fields, isSpeech) ?? {}) as Metadata;
    analytics.observe({ ...found(name, value, copy), source: "tap:gtm" });
  });
  let stopped = false;
  const takeOff = guard(() => {
    // On a server there is no page to look at.
    if (typeof window === "undefined") return undefined;
    const page = globalThis as unknown as Record<string, unknown>;
    const layer = (page[dataLayerName] ??= []) as unknown[];
    if (!Array.isArray(layer)) return undefined;
    const { seen } = memoryOf(analytics, layer);
    const see = (item: unknown): void => {
      if (typeof item !== "object" || item === null) return;
      seen.add(item);
      tap.see(item);
    };
    // Read once and never by place again: Google's script trims the array.
    for (const item of layer.slice()) if (!seen.has(item as object)) see(item);
    const before = layer.push;
    const had = Object.prototype.hasOwnProperty.call(layer, "push");
    const push = function (this: unknown, ...items: unknown[]): number {
      if (!stopped) guard(() => items.forEach(see), undefined);
      return before.apply(this as unknown[], items);
    };
    layer.push = push;
    return () => {
      if (layer.push !== push) return;
      if (had) layer.push = before;
      else delete (layer as { push?: unknown }).push;
    };
  }, undefined);
  return () => {
    stopped = true;
    tap.stop();
    guard(() => takeOff?.(), undefined);
  };
}
