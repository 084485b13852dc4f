/**
 * Delivery to our own service: batches, backoff, and a last send when the page goes.
 *
 * Nothing leaves the queue before the service has answered for it, so an event may be sent twice and is stored once:
 * the service knows its id. Every send carries key and token in the envelope as text/plain, so no send needs a
 * preflight and the one at page hide is like any other.
 */
import type { Receipt, WireEvent } from "./event";
import { guard } from "./guard";
import { createQueue } from "./queue";
import { backoff, judge, retryAfter } from "./retry";

/** All keepalive requests of a page share 64 KiB; the page may have its own. */
const KEEPALIVE_BYTES = 56 * 1024;
const BATCH_BYTES = 48 * 1024;
const MOST_RECEIPTS = 500;

export interface BackendConfiguration {
  /** Where batches go. */
  endpoint: string;
  /** The project's public write key. */
  writeKey: string;
  /** The signed-in user's token, fetched anew for each batch and never stored. Default: none. */
  getToken?: () => string | undefined | Promise<string | undefined>;
  /** Events that start a send at once. Default: 20. */
  batchSize?: number;
  /** Longest wait of an event, milliseconds. Default: 2000. */
  flushInterval?: number;
  /** Sends of one batch in a row before it rests until the next event or `online`. Default: 10. */
  maxRetries?: number;
}

export interface Clockwork {
  now(): number;
  random(): number;
  after(work: () => void, milliseconds: number): unknown;
  cancel(timer: unknown): void;
  fetch: typeof fetch;
}

export interface BackendClient {
  trackEvent(event: WireEvent): void;
  receipt(receipt: Receipt): void;
  /** Sends what waits; resolves when the service has answered or a retry is due later. */
  flush(): Promise<void>;
  /** Sends what waits in a way that outlives the page. */
  leave(): void;
  discard(): number;
  stop(): void;
  stats(): { queued: number; dropped: number; refused: number; rejected: number; sent: number; killed: boolean };
}

const SDK = { name: "@twintrack/browser", version: "0.1.0" };

export function createBackendClient(configuration: BackendConfiguration, clockwork: Clockwork): BackendClient {
  const { endpoint, writeKey, getToken, batchSize = 20, flushInterval = 2_000, maxRetries = 10 } = configuration;
  const queue = createQueue();
  let receipts: Receipt[] = [];
  let timer: unknown;
  let running: Promise<void> | undefined;
  let token: string | undefined;
  let failures = 0;
  let notBefore = 0;
  let most = batchSize;
  let leaving = 0;
  let stopped = false;
  const counts = { refused: 0, rejected: 0, sent: 0, killed: false };

  const arm = (milliseconds: number): void => {
    if (stopped || timer !== undefined) return;
    timer = clockwork.after(() => {
      timer = undefined;
      void flush();
    }, milliseconds);
  };

  const envelope = (events: WireEvent[], reports: Receipt[]): string =>
    JSON.stringify({
      events,
      ...(reports.length > 0 ? { receipts: reports } : {}),
      sent_at: new Date(clockwork.now()).toISOString(),
      sdk: SDK,
      key: writeKey,
      ...(token ? { token } : {}),
    });

  const wait = (milliseconds: number): void => {
    failures += 1;
    notBefore = clockwork.now() + milliseconds;
    if (failures <= maxRetries) arm(milliseconds);
  };

  /** One batch; whether the next may follow at once. */
  const sendOne = async (): Promise<boolean> => {
    const events = queue.batch(most, BATCH_BYTES);
    const reports = receipts.slice(0, MOST_RECEIPTS);
    if (events.length === 0 && reports.length === 0) return false;
    let status = 0;
    let body = "";
    let after: string | null = null;
    try {
      token = getToken ? await getToken() : undefined;
      const answer = await clockwork.fetch(endpoint, { method: "POST", body: envelope(events, reports), headers: { "Content-Type": "text/plain" }, credentials: "omit" });
      status = answer.status;
      after = answer.headers.get("Retry-After");
      body = await answer.text();
    } catch {
      status = 0;
    }
    const verdict = judge(status, body, events);
    if (verdict.kind === "retry") {
      wait(retryAfter(after, clockwork.now()) ?? backoff(failures, clockwork.random()));
      return false;
    }
    if (verdict.kind === "halve") {
      most = Math.max(1, Math.floor(events.length / 2));
      return true;
    }
    const again = new Set(verdict.kind === "settled" ? verdict.again : []);
    queue.remove(events.map((event) => event.event_id).filter((id) => !again.has(id)));
    receipts = receipts.filter((receipt) => !reports.includes(receipt));
    if (verdict.kind === "refused") {
      counts.refused += events.length;
    } else {
      counts.rejected += verdict.rejected;
      counts.sent += events.length - again.size;
      counts.killed = guard(() => (JSON.parse(body) as { config: { kill: boolean } }).config.kill === true, false);
      most = batchSize;
      if (again.size > 0) {
        wait(backoff(failures, clockwork.random()));
        return false;
      }
    }
    failures = 0;
    notBefore = 0;
    return true;
  };

  const flush = (): Promise<void> => {
    running ??= (async () => {
      try {
        while (!stopped && clockwork.now() >= notBefore && (await sendOne()));
      } finally {
        running = undefined;
        if (queue.size().events > 0 && failures === 0) arm(flushInterval);
      }
    })();
    return running;
  };

  return {
    trackEvent(event) {
      queue.push(event);
      if (failures > maxRetries) failures = maxRetries; // a rested batch gets one more try
      if (queue.size().events >= batchSize && running === undefined && clockwork.now() >= notBefore) {
        clockwork.cancel(timer);
        timer = undefined;
        arm(0);
      } else {
        arm(Math.max(flushInterval, notBefore - clockwork.now()));
      }
    },
    receipt(receipt) {
      receipts.push(receipt);
      if (receipts.length > 2 * MOST_RECEIPTS) receipts.shift();
      arm(flushInterval);
    },
    flush,
    leave() {
      // Rows stay queued: if the page lives on they are sent again, and the service knows their ids.
      const events = queue.all();
      let at = 0;
      let reports = receipts.slice(0, MOST_RECEIPTS);
      while (at < events.length || reports.length > 0) {
        let end = events.length;
        let body = envelope(events.slice(at, end), reports);
        while (leaving + new Blob([body]).size > KEEPALIVE_BYTES && end > at) {
          end = at + Math.floor((end - at) / 2);
          if (end === at) break;
          body = envelope(events.slice(at, end), reports);
        }
        const size = new Blob([body]).size;
        if (leaving + size > KEEPALIVE_BYTES) return;
        leaving += size;
        const done = (): void => {
          leaving -= size;
        };
        clockwork.fetch(endpoint, { method: "POST", body, keepalive: true, headers: { "Content-Type": "text/plain" }, credentials: "omit" }).then(done, done);
        at = end;
        reports = [];
      }
    },
    discard: () => {
      receipts = [];
      return queue.clear();
    },
    stop() {
      stopped = true;
      clockwork.cancel(timer);
    },
    stats: () => ({ queued: queue.size().events, dropped: queue.size().dropped, ...counts }),
  };
}
