/**
 * Delivery to our own service: batches, backoff, and a last send when the page goes.
 *
 * Nothing leaves the outbox before the service has answered for it, so an event may be sent twice and is stored once: the
 * service knows its id. The way of an event: outbox.ts (memory, disk), turn.ts (who sends), here (when and what),
 * transport.ts (a request), retry.ts (what an answer means).
 */
import { createConfigs, POLL_MS } from "./config";
import { createDisk, type Standing } from "./disk";
import type { Clockwork, Page } from "./environment";
import { masked, type Debug, type Receipt, type WireEvent } from "./event";
import { guard } from "./guard";
import { part } from "./leaving";
import { watchPage } from "./lifecycle";
import { createOutbox, type Fate, type Row } from "./outbox";
import { byteLength } from "./queue";
import { backoff, judge, MOST_MS, retryAfter, type Verdict } from "./retry";
import { exclusion } from "./rollout";
import { createTransport, KEEPALIVE_BYTES, type Answer } from "./transport";
import { claimLease, LEASE_MS, takeTurn } from "./turn";

export type { Clockwork } from "./environment";

export const BATCH_BYTES = 48 * 1024;
const MOST_RECEIPTS = 500;
/** Failed sends in a row after which each request is a probe with one event: a service on its knees gets no more. */
export const BREAKER_FAILURES = 5;
/** Requests in a row that the browser refused at once while online: something here blocks them. */
const BLOCKED_FAILURES = 3;
/** How soon a tab looks again whether the one with the lease is done. */
const LEASE_WAIT_MS = 1_000;

export interface BackendConfiguration {
  /** Where batches go: a path of this site or a full address. No default. */
  endpoint: string;
  /** The project's public write key. No default. */
  writeKey: string;
  /** The signed-in user's token, asked for before each batch and never stored. Default: none. */
  getToken?: () => string | undefined | null | Promise<string | undefined | null>;
  /** Events that start a send at once, and the most of one batch. Default: what the project's configuration says, else 20. */
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
  /** Found unfit by the service, event by event. */
  rejected: number;
  /** Left out on purpose, by the service or already here: rollout, sampling, a kill switch; consent, there. */
  excluded: number;
  /** In batches that the service will never take. */
  refused: number;
  /** Had to make room for newer ones. */
  dropped: number;
  /** Requests without a final answer. */
  retried: number;
  /** Where events wait: `memory` where the browser's storage is blocked or full. */
  storage: "disk" | "memory";
  /** Whether something in this browser seems to block the endpoint. */
  blocked: boolean;
  /** Whether the service last said that the project is switched off. */
  killed: boolean;
  /** What all of this has cost the page's main thread, by its own measure; calls are measured one in eight. */
  main_thread_milliseconds: number;
}

/** Awaited, it says how far the event got: it is on disk, or, with `awaitAnswer`, what the service said. Never rejects. */
export interface Tracked extends PromiseLike<Fate> {
  readonly id: string;
}

/** What the service of all destinations needs beside. */
export interface Backend extends BackendClient {
  /** An event that is made when its slice ends, with what else must be done then; or what became of it instead. */
  track(id: string, make: () => WireEvent | Fate): Tracked;
  /** Counts the time of such work. */
  spend<T>(work: () => T, times?: number): T;
}

/** What the one above knows and does. */
export interface Owner {
  leave(): void;
  resize(): void;
  /** What the first call would else have to do. */
  prepare(): void;
  storage(event: StorageEvent): void;
  /** Counts beside those here, for the health in each batch. */
  counts(): object;
  /** What a vendor's gate says. */
  gate(name: string): boolean | undefined;
}

export interface BackendClient {
  /** From now on the browser's storage may be used, and events may be sent. Before that nothing is. */
  start(): void;
  trackEvent(event: WireEvent): Tracked;
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
const atLeast = (least: number, ...values: unknown[]): number => values.find((value) => typeof value === "number" && value >= least) as number;

export const settledAs = (id: string, fate: Fate): Tracked => ({ id, then: (done, failed) => Promise.resolve(fate).then(done, failed) });

/** The next rows that may share a batch: one identity, in order, within a count and a size. */
export function nextBatch(rows: readonly Row[], events: number, bytes: number): Row[] {
  const batch: Row[] = [];
  let size = 0;
  for (const row of rows) {
    if (row.leaving || !row.place) continue;
    size += row.bytes + 1;
    if (batch.length > 0 && (batch.length >= events || size > bytes || row.who !== (batch[0] as Row).who)) break;
    batch.push(row);
  }
  return batch;
}

/** Without a page there is no disk, and no last send when it goes: on a server the caller ends with `shutdown`. */
export function createBackendClient(configuration: BackendConfiguration, clockwork: Clockwork, page?: Page, owner?: Owner): Backend {
  const maxRetries = atLeast(0, configuration.maxRetries, 10);
  const { endpoint, writeKey, getToken, awaitAnswer, mask, debug } = configuration;
  const lane = `twintrack ${endpoint} ${writeKey}`;
  const factory = guard(() => page?.indexedDB);
  const disk = factory && createDisk(() => factory, lane, clockwork);
  const say: Debug = (stage, id, detail) => guard(() => debug?.(stage, id, detail));
  let busy = 0;
  const spend = <T>(work: () => T, times = 1): T => {
    const from = clockwork.ticks();
    try {
      return work();
    } finally {
      busy += (clockwork.ticks() - from) * times;
    }
  };
  const outbox = createOutbox(disk, clockwork, { spend, sliced: () => arm(), unsafe: () => leave(), say });
  const counts = { sent: 0, rejected: 0, excluded: 0, refused: 0, retried: 0 };
  const self = clockwork.random().toString(36);
  let started = Infinity;
  /** What a batch that was too large has left of its size. */
  let halved = Infinity;
  let receipts: Receipt[] = [];
  let receiptsSince = 0;
  let timer: unknown;
  let timerAt = Infinity;
  let look: unknown;
  let running: Promise<void> | undefined;
  let failures = 0;
  let unanswered = 0;
  /** On the page's steady clock. */
  let notBefore = 0;
  /** The end of the last wait that this page knows of, milliseconds since 1970. */
  let heard = 0;
  /** Whether the service asked for the wait; the network coming back does not shorten such a one. */
  let asked = false;
  /** A page that has just come may find events of earlier ones. */
  let unread = disk !== undefined;
  /** A new page, or a network that is back: a rest on disk ends. */
  let hurry = true;
  let leavingBytes = 0;
  let stopped = false;

  const configs = createConfigs(endpoint, writeKey, clockwork, () => (started < Infinity ? page?.localStorage : undefined), () => {
    const { kill, queue } = configs.now();
    if (kill && queue === "discard") counts.excluded += outbox.clear();
    arm();
  });
  const most = (): number => Math.min(halved, Math.floor(atLeast(1, configuration.batchSize, configs.now().batch?.events, 20)));
  const batchBytes = (): number => atLeast(1, configs.now().batch?.bytes, BATCH_BYTES);

  const stats = (): BackendStats => ({
    ...outbox.counts(),
    ...counts,
    storage: outbox.onDisk() ? "disk" : "memory",
    blocked: unanswered >= BLOCKED_FAILURES,
    killed: configs.now().kill === true,
    main_thread_milliseconds: busy,
  });
  const transport = createTransport({ endpoint: () => configs.endpoint() || endpoint, writeKey, getToken, health: () => ({ page: self, ...stats(), ...owner?.counts() }), spend }, clockwork);

  const due = (): number => {
    const waiting = outbox.rows().find((row) => row.place && !row.leaving);
    if (stopped || running || started === Infinity || (!waiting && receipts.length === 0 && !unread)) return Infinity;
    const full = outbox.rows().length >= most() || outbox.bytes() >= batchBytes();
    const since = Math.min(waiting?.since ?? Infinity, receipts.length > 0 ? receiptsSince : Infinity, unread ? started : Infinity);
    // What failed has waited for its interval already.
    return Math.max(notBefore, (failures > 0 || full) && waiting ? 0 : since + atLeast(0, configuration.flushInterval, configs.now().batch?.interval_milliseconds, 2_000));
  };

  /** At most one timer, moved only to an earlier time. */
  const arm = (): void => {
    const at = due();
    if (at >= timerAt) return;
    clockwork.cancel(timer);
    timerAt = at;
    timer = clockwork.after(() => {
      timerAt = Infinity;
      if (clockwork.ticks() >= due()) void flush();
      else arm();
    }, Math.max(0, at - clockwork.ticks()));
  };

  const wait = (named?: number): void => {
    counts.retried += 1;
    const probe = MOST_MS * (0.5 + clockwork.random() / 2);
    notBefore = clockwork.ticks() + (named ?? (failures < maxRetries ? backoff(failures, clockwork.random()) : probe));
    asked = named !== undefined;
    failures += 1;
  };

  const standing = (): Standing => {
    const span = Math.max(0, notBefore - clockwork.ticks());
    return { id: "~", failures, until: (heard = clockwork.now() + span), span, asked };
  };

  /** What other tabs know of the service's state holds here too. */
  const adopt = (known: Standing | undefined): void => {
    // A wait is served once: after a clock that went back its end stays in the future for as long as that.
    if (known && known.until !== heard) {
      heard = known.until;
      failures = known.failures;
      asked = known.asked;
      notBefore = clockwork.ticks() + Math.min(known.span, Math.max(0, known.until - clockwork.now()));
    }
    if (hurry && !asked && failures > maxRetries) notBefore = 0;
    hurry = false;
  };

  const settle = (rows: Row[], reports: Receipt[], verdict: Verdict): void => {
    if (verdict === "again" || verdict === "halve") return;
    const told = new Set(reports);
    receipts = receipts.filter((receipt) => !told.has(receipt));
    receiptsSince = clockwork.ticks();
    if (verdict === "refused") {
      counts.refused += outbox.remove(rows, () => "refused").length;
      return;
    }
    configs.heard(verdict.version, verdict.killed);
    const status = new Map(rows.map((row, index) => [row, verdict.statuses[index]]));
    const fate = (row: Row): Fate => status.get(row) as Fate;
    for (const row of outbox.remove(rows.filter((row) => status.get(row) !== "retry"), fate)) {
      counts[fate(row) === "rejected" ? "rejected" : fate(row) === "dropped" ? "excluded" : "sent"] += 1;
    }
  };

  const sayEach = (stage: "sent" | "retry", rows: readonly Row[], detail?: unknown): void => {
    if (debug) for (const { id } of rows) say(stage, id, detail);
  };

  /** Whether the next batch may follow at once. */
  const conclude = (rows: Row[], verdict: Verdict, answer: Answer): boolean => {
    unanswered = answer.status === 0 && page?.navigator.onLine !== false ? unanswered + 1 : 0;
    sayEach("retry", rows.filter(({ fate }) => fate === "disk" || fate === "memory"), answer.status);
    if (verdict === "halve") {
      halved = Math.max(1, Math.floor(rows.length / 2));
      return true;
    }
    if (verdict === "again" || (verdict !== "refused" && verdict.statuses.includes("retry"))) {
      wait(answer.status === 429 || answer.status === 503 ? retryAfter(answer.retryAfter, clockwork.now()) : undefined);
      return false;
    }
    failures = 0;
    notBefore = 0;
    return true;
  };

  const sendOne = async (leased: boolean): Promise<boolean> => {
    await transport.refreshToken();
    const rows = nextBatch(outbox.rows(), failures < BREAKER_FAILURES ? most() : 1, batchBytes());
    const reports = receipts.slice(0, MOST_RECEIPTS);
    if (stopped || (rows.length === 0 && reports.length === 0)) return false;
    const before = failures;
    sayEach("sent", rows);
    const answer = await transport.send(transport.envelope(rows, reports), false);
    const more = spend(() => {
      const verdict = judge(answer.status, answer.body, rows);
      settle(rows, reports, verdict);
      return conclude(rows, verdict, answer);
    });
    const lease = leased ? { owner: self, lease: more ? clockwork.now() + LEASE_MS : 0 } : undefined;
    await outbox.settle(lease || before + failures > 0 ? { ...standing(), ...lease } : undefined);
    return more;
  };

  const round = async (leased: boolean): Promise<void> => {
    let mine = true;
    const found = await disk?.read(leased ? (all) => {
      const claim = claimLease(all, self, clockwork.now());
      mine = claim !== undefined;
      return claim;
    } : undefined).catch(() => undefined);
    unread = false;
    if (!mine) {
      notBefore = clockwork.ticks() + LEASE_WAIT_MS;
      return;
    }
    if (found) {
      adopt(found.standing);
      outbox.merge(found.kept);
    }
    // What comes in meanwhile waits for its own time, or the tail of each batch would be a request.
    const from = clockwork.ticks();
    while (!stopped && clockwork.ticks() >= notBefore && (await sendOne(leased)) && (receipts.length > MOST_RECEIPTS || outbox.rows().some(({ since }) => since <= from)));
    if (leased && found) await outbox.settle({ ...standing(), owner: self, lease: 0 });
  };

  const drain = async (): Promise<void> => {
    try {
      // The page may be inside a call to us: never start a request in its time.
      await outbox.write();
      if (stopped || clockwork.ticks() < Math.max(notBefore, started)) return;
      if (disk) await takeTurn(guard(() => page?.navigator.locks), lane, round);
      else await round(false);
    } catch {
      wait();
    } finally {
      running = undefined;
      arm();
    }
  };

  const flush = (): Promise<void> => (running ??= drain());

  /**
   * Sends what waits in requests that outlive the page: when it goes, and while the store is not open yet, which takes a new
   * browser profile up to 0.2 s. Rows stay where they are: if the page lives on they settle, or are
   * sent again under the same ids.
   */
  const leave = (): void => {
    // Also where nothing may be sent: vendors may be granted what is denied here.
    void outbox.write();
    if (started === Infinity) return;
    // A service that asked for silence gets it: what is on disk can wait for the next page.
    if (asked && clockwork.ticks() < notBefore && outbox.onDisk()) return;
    const empty = byteLength(transport.envelope([], [])) + 16;
    for (const { rows, receipts: reports } of part(outbox.rows(), receipts.slice(0, MOST_RECEIPTS), KEEPALIVE_BYTES - leavingBytes, empty)) {
      const body = transport.envelope(rows, reports);
      const size = byteLength(body);
      leavingBytes += size;
      for (const row of rows) row.leaving = true;
      sayEach("sent", rows, "leaving");
      void transport.send(body, true).then((answer) => {
        leavingBytes -= size;
        for (const row of rows) row.leaving = false;
        settle(rows, reports, judge(answer.status, answer.body, rows));
        void outbox.settle();
        arm();
      });
    }
  };

  const unwatch = page
    ? watchPage(page, {
        leave() {
          spend(() => {
            owner?.leave();
            leave();
          });
        },
        show: () => started < Infinity && watch(),
        storage: (event) => owner?.storage(event),
        resize: () => owner?.resize(),
        online() {
          if (started === Infinity) return;
          hurry = true;
          failures = 0;
          if (!asked) notBefore = 0;
          // The others shall not wait for what is over.
          void outbox.settle(standing());
          arm();
        },
      })
    : () => undefined;

  /** A look at how things are, and at what tabs that died have left behind. */
  const watch = (): void => {
    clockwork.cancel(look);
    look = clockwork.after(() => {
      if (page?.document.visibilityState !== "hidden") {
        unread = disk !== undefined;
        arm();
        watch();
      }
    }, POLL_MS * (0.75 + clockwork.random() / 2));
    void configs.ask(false);
  };

  const track = (id: string, make: () => WireEvent | Fate): Tracked => {
    if (stopped) return settledAs(id, "off");
    const row = outbox.add(id, () => {
      const made = guard(() => {
        const event = make();
        const why = typeof event === "string" ? undefined : exclusion(configs.now(), event, (name) => owner?.gate(name));
        if (why) {
          counts.excluded += 1;
          say("excluded", id, why);
          return "dropped";
        }
        return typeof event === "string" ? event : { id, who: JSON.stringify([event.user_id, event.anonymous_id]), text: JSON.stringify(event) };
      }, "rejected");
      if (made === "rejected") counts.rejected += 1;
      return made;
    });
    return {
      id,
      then: (done, failed) =>
        new Promise<Fate>((resolve) => {
          const told = (fate: Fate | undefined): void => {
            if (fate && !(awaitAnswer && row.place === fate)) resolve(fate);
            else (row.told ??= []).push(told);
          };
          told(row.fate);
        }).then(done, failed),
    };
  };

  return {
    start() {
      if (started < Infinity) return;
      started = clockwork.ticks();
      // In a task of its own: it must not cost the page's start.
      look = clockwork.after(() => {
        spend(() => {
          outbox.open();
          owner?.prepare();
        });
        watch();
      }, 0);
      arm();
    },
    track,
    spend,
    trackEvent: (event) => track(event.event_id, () => masked(event, mask)),
    receipt(receipt) {
      if (stopped) return;
      if (receipts.length === 0) receiptsSince = clockwork.ticks();
      receipts.push(receipt);
      if (receipts.length > 2 * MOST_RECEIPTS) receipts.shift();
      arm();
    },
    flush,
    discard() {
      receipts = [];
      configs.forget();
      clockwork.cancel(look);
      started = Infinity;
      return outbox.clear();
    },
    async shutdown() {
      await flush();
      if (!stopped) guard(leave);
      stopped = true;
      clockwork.cancel(timer);
      clockwork.cancel(look);
      unwatch();
    },
    stats,
  };
}
