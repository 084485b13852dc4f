/** What the inline stub took before the script was there, done now: in order, each call with its own id and time. */
import { createClient, type Analytics, type Configuration } from "./client";
import { gtm } from "./destinations/gtm";
import { statsig } from "./destinations/statsig";
import { surroundings } from "./environment";
import type { Destination } from "./event";
import { guard } from "./guard";

export interface BufferedCall {
  name: string;
  words: unknown[];
  /** Milliseconds since 1970. */
  at: number;
  /** Empty where the browser could draw none. */
  id: string;
  resolve(value: unknown): void;
}

export interface Buffered {
  configuration: unknown;
  calls: BufferedCall[];
  /** The object that the page holds. */
  analytics: Record<string, (...words: unknown[]) => unknown>;
  /** What its methods do from now on. */
  real?: (name: string, words: unknown[]) => unknown;
}

export interface Stub {
  made: Buffered[];
  createAnalytics(configuration: unknown): object;
  gtm(...words: unknown[]): object;
  statsig(...words: unknown[]): object;
}

const makers: Record<string, (word: never) => Destination> = { gtm, statsig };

/** `twintrack.gtm(...)` of the stub was a promise of a destination. */
const destination = (one: Destination & { twintrack?: string; words?: unknown[] }): Destination =>
  makers[one.twintrack ?? ""]?.(one.words?.[0] as never) ?? one;

function replayOne(one: Buffered): void {
  const configuration = one.configuration as Configuration;
  const environment = surroundings();
  const { now } = environment.clockwork;
  let current: BufferedCall | undefined;
  const analytics = createClient(
    { ...configuration, ...(configuration.destinations ? { destinations: configuration.destinations.map(destination) } : {}) },
    {
      ...environment,
      clockwork: { ...environment.clockwork, now: () => current?.at ?? now() },
      // The first id that a call draws is the event's.
      given() {
        const { id = "" } = current ?? {};
        if (current) current = { ...current, id: "" };
        return id;
      },
    },
  ) as Analytics & Record<string, (...words: unknown[]) => unknown>;
  const real = (name: string, words: unknown[]): unknown => analytics[name]?.(...words);
  for (const call of one.calls.splice(0)) {
    current = call;
    guard(() => call.resolve(real(call.name, call.words)), undefined);
  }
  current = undefined;
  one.real = real;
}

export function replay(stub: unknown): void {
  const { made } = (stub ?? {}) as Partial<Stub>;
  for (const one of Array.isArray(made) ? made : []) guard(() => replayOne(one), undefined);
}
