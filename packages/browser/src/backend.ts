/**
 * Delivery to our own service: batches, backoff, and a last send when the page goes.
 *
 * Nothing leaves the queue before the service has answered for it, so an event may be sent twice and is stored once:
 * the service knows its id.
 */
import type { Clockwork, Page } from "./environment";
import type { Receipt, WireEvent } from "./event";
import { guard } from "./guard";
import { watchPage } from "./lifecycle";
import { byteLength, createQueue } from "./queue";
import { backoff, judge, retryAfter, type Verdict } from "./retry";
import { createTransport, KEEPALIVE_BYTES, type Row } from "./transport";

export type { Clockwork } from "./environment";

export const BATCH_BYTES = 48 * 1024;
const MOST_RECEIPTS = 500;

export interface BackendConfiguration {
  /** Where batches go: a path of this site or a full address. No default. */
  endpoint: string;
  /** The project's public write key. No default. */
  writeKey: string;
  /** The signed-in user's token, asked for before each batch and never stored. Default: none. */
  getToken?: () => string | undefined | null | Promise<string | undefined | null>;
  /** Events that start a send at once, and the most of one batch. Default: 20. */
  batchSize?: number;
  /** Longest wait of an event, milliseconds. Default: 2000. */
  flushInterval?: number;
  /** Failed sends in a row before delivery rests until the next event or until the network is back. Default: 10. */
  maxRetries?: number;
}

export interface BackendStats {
  /** Waiting for a send or for its answer. */
  queued: number;
  /** Stored by the service, duplicates among them. */
  sent: number;
  /** Found unfit by the service, event by event. */
  rejected: number;
  /** Left out by the service on purpose: sampling, consent, a kill switch. */
  excluded: number;
  /** In batches that the service will never take. */
  refused: number;
  /** Had to make room for newer ones. */
  dropped: number;
  /** Whether the service last said that the project is switched off. */
  killed: boolean;
}

export interface BackendClient {
  trackEvent(event: WireEvent): void;
  receipt(receipt: Receipt): void;
  /** Sends what waits; resolves when the service has answered or a retry is due later. Never rejects. */
  flush(): Promise<void>;
  /** Forgets what waits; how many events that were. */
  discard(): number;
  /** Sends what waits a last time and stops. */
  shutdown(): Promise<void>;
  stats(): BackendStats;
}

/** Numbers of a configuration come from outside: one that is none must not stop delivery. */
const atLeast = (least: number, value: number | undefined, otherwise: number): number =>
  typeof value === "number" && value >= least ? value : otherwise;

/** The next rows that may share a batch: one identity, in order, within a count and a size. */
export function nextBatch(rows: readonly Row[], events: number, bytes: number): Row[] {
  const batch: Row[] = [];
  let size = 0;
  for (const row of rows) {
    if (row.leaving) continue;
    size += row.bytes + 1;
    if (batch.length > 0 && (batch.length >= events || size > bytes || row.who !== (batch[0] as Row).who)) break;
    batch.push(row);
  }
  return batch;
}

/** Without a page there is no last send when it goes: on a server the caller ends with `shutdown`. */
export function createBackendClient(configuration: BackendConfiguration, clockwork: Clockwork, page?: Page): BackendClient {
  const flushInterval = atLeast(0, configuration.flushInterval, 2_000);
  const maxRetries = atLeast(0, configuration.maxRetries, 10);
  const transport = createTransport({ endpoint: configuration.endpoint, writeKey: configuration.writeKey, getToken: configuration.getToken }, clockwork);
  const queue = createQueue<Row>();
  const counts = { sent: 0, rejected: 0, excluded: 0, refused: 0, killed: false };
  let most = Math.floor(atLeast(1, configuration.batchSize, 20));
  let receipts: Receipt[] = [];
  let receiptsSince = 0;
  let timer: unknown;
  let timerAt = Infinity;
  let running: Promise<void> | undefined;
  let failures = 0;
  let notBefore = 0;
  /** Until when the service asked for silence; the network coming back does not shorten that. */
  let asked = 0;
  let leavingBytes = 0;
  let stopped = false;

  const due = (): number => {
    const waiting = queue.rows().find((row) => !row.leaving);
    if (stopped || running || failures > maxRetries || (!waiting && receipts.length === 0)) return Infinity;
    const full = queue.rows().length >= most || queue.bytes() >= BATCH_BYTES;
    const since = Math.min(waiting?.at ?? Infinity, receipts.length > 0 ? receiptsSince : Infinity);
    // What failed has waited for its interval already.
    return Math.max(notBefore, failures > 0 || (full && waiting) ? 0 : since + flushInterval);
  };

  /** At most one timer, moved only to an earlier time: a track call should not pay for a timer each. */
  const arm = (): void => {
    const at = due();
    if (at >= timerAt) return;
    clockwork.cancel(timer);
    timerAt = at;
    timer = clockwork.after(() => {
      timerAt = Infinity;
      if (clockwork.now() >= due()) void flush();
      else arm();
    }, Math.max(0, at - clockwork.now()));
  };

  const wait = (milliseconds: number): void => {
    failures += 1;
    notBefore = clockwork.now() + milliseconds;
  };

  const settle = (rows: Row[], reports: Receipt[], verdict: Verdict): void => {
    if (verdict.kind === "again" || verdict.kind === "halve") return;
    const told = new Set(reports);
    receipts = receipts.filter((receipt) => !told.has(receipt));
    if (verdict.kind === "refused") {
      counts.refused += queue.remove(rows).length;
      return;
    }
    counts.killed = verdict.killed;
    const status = new Map(rows.map((row, index) => [row, verdict.statuses[index]]));
    for (const row of queue.remove(rows.filter((row) => status.get(row) !== "retry"))) {
      const fate = status.get(row);
      counts[fate === "rejected" ? "rejected" : fate === "dropped" ? "excluded" : "sent"] += 1;
    }
  };

  /** One batch; whether the next may follow at once. */
  const sendOne = async (): Promise<boolean> => {
    await transport.refreshToken();
    const rows = nextBatch(queue.rows(), most, BATCH_BYTES);
    const reports = receipts.slice(0, MOST_RECEIPTS);
    if (rows.length === 0 && reports.length === 0) return false;
    const answer = await transport.send(transport.envelope(rows, reports), false);
    const verdict = judge(answer.status, answer.body, rows);
    settle(rows, reports, verdict);
    if (verdict.kind === "halve") {
      most = Math.max(1, Math.floor(rows.length / 2));
      return true;
    }
    if (verdict.kind === "again" || (verdict.kind === "settled" && verdict.statuses.includes("retry"))) {
      const named = answer.status === 429 || answer.status === 503 ? retryAfter(answer.retryAfter, clockwork.now()) : undefined;
      asked = named === undefined ? 0 : clockwork.now() + named;
      wait(named ?? backoff(failures, clockwork.random()));
      return false;
    }
    failures = 0;
    notBefore = 0;
    return true;
  };

  const drain = async (): Promise<void> => {
    try {
      // The page may be inside a call to us: never start a request in its time.
      await Promise.resolve();
      while (!stopped && clockwork.now() >= notBefore && (await sendOne()));
    } catch {
      wait(backoff(failures, clockwork.random()));
    } finally {
      running = undefined;
      arm();
    }
  };

  const flush = (): Promise<void> => (running ??= drain());

  const sendLeaving = (rows: Row[], reports: Receipt[]): void => {
    const body = transport.envelope(rows, reports);
    const size = byteLength(body);
    leavingBytes += size;
    for (const row of rows) row.leaving = true;
    void transport.send(body, true).then((answer) => {
      leavingBytes -= size;
      for (const row of rows) row.leaving = false;
      settle(rows, reports, judge(answer.status, answer.body, rows));
      arm();
    });
  };

  /** Rows stay queued: if the page lives on they settle, or are sent again under the same ids. */
  const leave = (): void => {
    const empty = byteLength(transport.envelope([], [])) + 16;
    let left = KEEPALIVE_BYTES - leavingBytes;
    const chunks: Row[][] = [];
    for (const row of queue.rows()) {
      const chunk = chunks[chunks.length - 1];
      const joins = chunk !== undefined && chunk[0]?.who === row.who;
      const cost = row.bytes + 1 + (joins ? 0 : empty);
      if (row.leaving || cost > left) continue;
      left -= cost;
      if (joins) chunk.push(row);
      else chunks.push([row]);
    }
    // Receipts only get what the events leave over.
    if (chunks.length === 0) left -= empty;
    const reports: Receipt[] = [];
    for (const receipt of receipts.slice(0, MOST_RECEIPTS)) {
      left -= byteLength(JSON.stringify(receipt)) + 1;
      if (left < 0) break;
      reports.push(receipt);
    }
    if (chunks.length === 0 && reports.length > 0) chunks.push([]);
    chunks.forEach((rows, at) => sendLeaving(rows, at === chunks.length - 1 ? reports : []));
  };

  const unwatch = page
    ? watchPage(page, {
        leave,
        online() {
          failures = 0;
          notBefore = asked;
          arm();
        },
      })
    : () => undefined;

  /** A rested queue gets one more try for each new thing to send. */
  const wake = (): void => {
    if (failures > maxRetries) failures = maxRetries;
    arm();
  };

  return {
    trackEvent(event) {
      if (stopped) return;
      const text = JSON.stringify(event);
      queue.push({ who: JSON.stringify([event.user_id, event.anonymous_id]), text, bytes: byteLength(text), at: clockwork.now(), leaving: false });
      wake();
    },
    receipt(receipt) {
      if (stopped) return;
      if (receipts.length === 0) receiptsSince = clockwork.now();
      receipts.push(receipt);
      if (receipts.length > 2 * MOST_RECEIPTS) receipts.shift();
      wake();
    },
    flush,
    discard() {
      receipts = [];
      return queue.clear().length;
    },
    async shutdown() {
      await flush();
      if (!stopped) guard(leave, undefined);
      stopped = true;
      clockwork.cancel(timer);
      unwatch();
    },
    stats: () => ({ queued: queue.rows().length, dropped: queue.dropped(), ...counts }),
  };
}
