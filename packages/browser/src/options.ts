/** What a page may set, and what it can read, of the delivery to our own service. */
import type { Debug } from "./event";

export interface BackendConfiguration {
  /** Where batches go: a path of this site or a full address. No default. */
  endpoint: string;
  /** The project's public write key. No default. */
  writeKey: string;
  /** The signed-in user's token, asked for when a user first tracks and before each batch, and never stored. Default: none. */
  getToken?: () => string | undefined | null | Promise<string | undefined | null>;
  /** Events that start a send at once, and the most of one batch. Default: what the project's configuration says, else 50. */
  batchSize?: number;
  /** Longest wait of an event, milliseconds. Default: what the project's configuration says, else 2000. */
  flushInterval?: number;
  /** Failed sends in a row that end a round: then events rest until the next load, until the network is back, or for a probe every few minutes. Default: 10. */
  maxRetries?: number;
  /** Await the service's answer, not the browser's disk, where a tracked event is awaited. Default: false. */
  awaitAnswer?: boolean;
  /** Applied to each text of an event but its ids and name, off the call, before anything is stored, sent or handed on. Default: none. */
  mask?: (text: string) => string;
  /** Told of each step of each event; `@twintrack/browser/debug` has one for the console. Default: none. */
  debug?: Debug;
}

export interface BackendStats {
  /** Waiting for a send or for its answer. */
  queued: number;
  /** Found on disk: tracked by earlier pages or other tabs. */
  recovered: number;
  /** Settled by another tab. */
  elsewhere: number;
  /** Stored by the service, duplicates among them. */
  sent: number;
  /** Found unfit by the service, event by event, or unreadable on disk. */
  rejected: number;
  /** Left out on purpose, by the service or already here: rollout, sampling, a kill switch; consent, there. */
  excluded: number;
  /** Too large for the service even alone, or not readable there. */
  refused: number;
  /** Had to make room for newer ones. */
  dropped: number;
  /** Requests without a final answer. */
  retried: number;
  /** Where events wait: `memory` where the browser's storage is blocked or full. */
  storage: "disk" | "memory";
  /** Whether something between here and the service seems to block the endpoint, or answers in its place. */
  blocked: boolean;
  /** Whether the service last said that the project is switched off. */
  killed: boolean;
  /** What all of this has cost the page's main thread, by its own measure; calls are measured one in eight. */
  main_thread_milliseconds: number;
}
