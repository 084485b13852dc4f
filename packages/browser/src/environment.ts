/** What the SDK needs of the world, as values, so that tests need neither a browser nor a sleep. */
import { guard } from "./guard";

export type Page = Window & typeof globalThis;

export interface Clockwork {
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds of a clock that nobody can set: waits are measured on it. */
  ticks(): number;
  /** At least 0, below 1. */
  random(): number;
  after(work: () => void, milliseconds: number): unknown;
  cancel(timer: unknown): void;
  fetch: typeof fetch;
  /** Gzip, off the main thread, where the browser can. */
  pack?: ((text: string) => Promise<ArrayBuffer>) | undefined;
}

export interface Environment {
  /** Absent on a server, where the service does nothing. */
  window: Page | undefined;
  clockwork: Clockwork;
  /** With chance. */
  fill(bytes: Uint8Array<ArrayBuffer>): Uint8Array;
  /** The id of an event that was tracked before the script came; empty where there is none. */
  given?(): string;
}

const clockwork: Clockwork = {
  now: () => Date.now(),
  ticks: () => performance.now(),
  random: () => Math.random(),
  after: (work, milliseconds) => setTimeout(work, milliseconds),
  cancel: (timer) => clearTimeout(timer as number),
  fetch: (input, init) => fetch(input, init),
  pack:
    typeof CompressionStream === "undefined"
      ? undefined
      : (text) => new Response((new Response(text).body as ReadableStream<Uint8Array<ArrayBuffer>>).pipeThrough(new CompressionStream("gzip"))).arrayBuffer(),
};

export const surroundings = (): Environment => ({
  window: typeof window === "undefined" ? undefined : window,
  clockwork,
  // A browser without Web Crypto still needs ids that differ.
  fill: (bytes) => guard(() => crypto.getRandomValues(bytes)) ?? bytes.map(() => Math.random() * 256),
});
