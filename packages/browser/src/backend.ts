/**
 * Delivery to our own service: batches, backoff, and a last send when the page goes.
 *
 * Nothing leaves the outbox before the service has answered for it, so an event may be sent twice and is stored once: the
 * service knows its id. The way of an event: outbox.ts (memory, disk), turn.ts (who sends), here (when and what),
 * transport.ts (a request), retry.ts (what an answer means).
 */
import { createConfigs, POLL_MS, type Config } from "./config";
import { createDisk } from "./disk";
import type { Clockwork, Page } from "./environment";
import { masked, type Debug, type Receipt, type WireEvent } from "./event";
import { guard } from "./guard";
import { watchPage } from "./lifecycle";
import type { BackendConfiguration, BackendStats } from "./options";
import { createOutbox, follow, waits, type Counts, type Fate, type Row, type Tracked } from "./outbox";
import { MOST_EVENTS, nextBatch, weigh } from "./queue";
import { backoff, judge, MOST_ASKED_MS, MOST_MS, retryAfter } from "./retry";
import { exclusion } from "./rollout";
import { createSlot } from "./slot";
import { createTransport, KEEPALIVE_BYTES } from "./transport";
import { claimLease, takeTurn } from "./turn";

export type { Clockwork } from "./environment";

export const BATCH_BYTES = 48 * 1024;
const MOST_RECEIPTS = 500;
/** More than any receipt takes. */
const RECEIPT_BYTES = 150;
/** Failed sends in a row after which each request is a probe with one event: a service on its knees gets no more. */
export const BREAKER_FAILURES = 5;
/** Requests in a row that our service did not answer, while online: something here blocks them. */
const BLOCKED_FAILURES = 3;
/** How soon a tab looks again whether the one with the lease is done. */
const LEASE_WAIT_MS = 1_000;

/** What the service of all destinations needs beside. */
export interface Backend extends BackendClient {
  /** An event that is made when its slice ends, with what else must be done then; or what became of it instead. `row` has its id, and may have been held. */
  track(row: Row, make: () => WireEvent | Fate, first?: boolean): Tracked;
  /** Ends the slice. */
  persist(): void;
  say: Debug;
  /** Counts the time of such work. */
  spend<T>(work: () => T, times?: number): T;
  counts: Counts;
  stats(): BackendStats & Counts;
}

/** What the one above knows and does. */
export interface Owner {
  leave(): void;
  resize(): void;
  /** A slice is made; the first time before there is any. */
  composed(): void;
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
  /** Forgets what waits, as discarded. */
  discard(): void;
  /** Sends what waits a last time and stops. */
  shutdown(): Promise<void>;
  stats(): BackendStats;
}

/** Numbers of a configuration come from outside: one that is none must not stop delivery. */
const atLeast = (least: number, ...values: unknown[]): number => values.find((value) => typeof value === "number" && value >= least) as number;

/** Without a page it does nothing. */
export function createBackendClient(configuration: BackendConfiguration, clockwork: Clockwork, page?: Page, owner?: Owner): Backend {
  const maxRetries = atLeast(0, configuration.maxRetries, 10);
  const { endpoint, writeKey, getToken, awaitAnswer, mask, debug } = configuration;
  const { ticks, now, random } = clockwork;
  const name = `twintrack ${endpoint} ${writeKey}`;
  const disk = page && "indexedDB" in page ? createDisk(() => page.indexedDB, name, clockwork) : undefined;
  const ending = new AbortController();
  const say: Debug = (...step) => guard(() => debug?.(...step));
  let busy = 0;
  const spend = <T>(work: () => T, times = 1): T => {
    const from = ticks();
    const result = work();
    busy += (ticks() - from) * times;
    return result;
  };
  const counts: Counts = { tracked: 0, held: 0, discarded: 0, dropped: 0, recovered: 0, elsewhere: 0, sent: 0, rejected: 0, excluded: 0, refused: 0, retried: 0 };
  const outbox = createOutbox(disk, clockwork, counts, { spend, composed: () => {
    // Asked for now, it is there when the page goes.
    if (on && user && !tokens.has(user)) void ask(user);
    owner?.composed();
  }, sliced: () => arm(), unsafe: () => leave(), say });
  const self = random().toString(36);
  /** Whether storage may be used and events may be sent. */
  let on = false;
  let stopped = !page;
  /** What a batch that was too large has left of its size. */
  let halved = Infinity;
  const receipts: Receipt[] = [];
  let timer: unknown;
  let timerAt = Infinity;
  let look: unknown;
  let begun = false;
  let running: Promise<void> | undefined;
  let failures = 0;
  /** Whether it was someone else who answered last, while online, or nobody. */
  let foreign = false;
  /** The place of the project's configuration, where someone else answered there: until that too fails, batches go where the page said. */
  let astray: string | undefined;
  /** Who tracked last. */
  let user: string | undefined;
  let leavingBytes = 0;
  /** On the page's steady clock. */
  let notBefore = 0;
  /** What all tabs know of the service, as it was when this page last looked. */
  let heard: unknown;
  /** Whether the service asked for the wait; the network coming back does not shorten such a one. */
  let asked = false;
  /** Since when there is a receipt, or may be something of other pages on disk. */
  let newsSince = Infinity;

  const slot = createSlot(page, name);
  const shared = createSlot(page, name + " wait");
  const configs = createConfigs(endpoint, writeKey, clockwork, slot, (text) => {
    const { kill, queue } = configs.current();
    if (on && text) slot(text);
    if (kill && queue === "discard") outbox.empty("dropped");
    arm();
  });
  /** What the page wants, else the project, else we. */
  const limit = (least: number, own: unknown, name: keyof NonNullable<Config["batch"]>, otherwise: number): number => atLeast(least, own, configs.current().batch?.[name], otherwise);
  const broken = (): boolean => failures >= BREAKER_FAILURES;
  const most = (): number => (broken() ? 1 : Math.min(halved, limit(1, configuration.batchSize, "events", 50)));
  const batchBytes = (): number => limit(1, 0, "bytes", BATCH_BYTES);

  const stats = (): BackendStats & Counts => ({
    ...counts,
    queued: outbox.waiting(),
    storage: outbox.onDisk() ? "disk" : "memory",
    blocked: !!astray || (foreign && failures >= BLOCKED_FAILURES),
    killed: configs.current().kill === true,
    main_thread_milliseconds: busy,
  });
  const { envelope, post, ask, tokens } = createTransport({ writeKey, getToken, health: () => ({ page: self, ...stats() }), spend }, clockwork);
  const there = (): string => [configs.current().endpoint, endpoint].find((address) => typeof address === "string" && address !== astray) as string;

  /** What may go in a request of its own time. */
  const ready = (): Row[] => outbox.rows().filter(({ fate, leaving }) => fate && !leaving);

  const due = (): number => {
    const rows = ready();
    const [waiting] = rows;
    const since = Math.min(waiting?.since ?? Infinity, newsSince);
    if (!on || running || since === Infinity) return Infinity;
    // What failed has waited for its interval already.
    const full = waiting && (failures || rows.length >= most() || weigh(rows) >= batchBytes());
    return Math.max(notBefore, full ? 0 : since + limit(0, configuration.flushInterval, "interval_milliseconds", 2_000));
  };

  /** At most one timer, moved only to an earlier time. */
  const arm = (): void => {
    const at = due();
    if (at >= timerAt) return;
    clockwork.cancel(timer);
    timerAt = at;
    timer = clockwork.after(() => {
      timerAt = Infinity;
      if (ticks() >= due()) void flush();
      else arm();
    }, at - ticks());
  };

  /** Takes in what other tabs and earlier pages know of the service. It is looked at before each decision, and a wait is served once: after a clock that went back its end stays in the future for as long as that. */
  const hear = (): void => {
    const text = shared();
    if (text === heard) return;
    heard = text;
    // Anyone who can run script here may have written it: what is no number is no wait.
    const [many, until, span, named] = `${text}`.split(" ").map(Number) as [number, number, number, number];
    failures = many || 0;
    asked = !!named;
    const left = Math.min(MOST_ASKED_MS, span, until - now());
    // A rest on disk ends with a new page.
    notBefore = left > 0 && (begun || asked || failures <= maxRetries) ? ticks() + left : 0;
  };

  const spread = (): void => {
    if (!on) return;
    const span = notBefore - ticks();
    shared(`${failures} ${now() + span} ${span} ${+asked}`);
    // As it lies there now: where nothing can be written an older one stays, and is no news.
    heard = shared();
  };

  /**
   * Whether anything may be sent now, whoever asks: a timer, the page's own `flush`, the next page or one that goes. `last`: what
   * is in memory alone has no other chance.
   */
  const may = (last?: boolean): boolean => {
    if (on) hear();
    return on && (ticks() >= notBefore || (!!last && !outbox.onDisk()));
  };

  /** All is well, but for a silence that the service asked for. The others shall not wait for what is over. */
  const relax = (): void => {
    if (!failures || (asked && ticks() < notBefore)) return;
    failures = notBefore = 0;
    spread();
  };

  const wait = (named?: number): void => {
    counts.retried += 1;
    notBefore = ticks() + (named || (failures < maxRetries ? backoff(failures, random()) : MOST_MS * (0.5 + random() / 2)));
    asked = !!named;
    failures += 1;
    spread();
  };

  /** Whether the next batch may follow at once, once written down what the answer says. `last`: the page goes. */
  const send = async (rows: Row[], reports: Receipt[], last: boolean): Promise<boolean> => {
    const place = there();
    for (const row of rows) {
      row.leaving = last;
      say("sent", row.id, last && "leaving");
    }
    const { status, body, retryAfter: named } = await post(place, envelope(rows, reports), last, last || failures > 0);
    const more = spend(() => {
      // Nobody may be asked, and nothing kept, once consent is withdrawn.
      const verdict = judge(status, body as string, rows.length, (config) => on && configs.heard(config));
      const settled = typeof verdict !== "string";
      if (settled) outbox.end(rows, (at) => verdict[at] as Fate);
      else if (on) {
        receipts.unshift(...reports);
        newsSince = ticks();
      }
      let left = 0;
      for (const row of rows) {
        row.leaving = false;
        if (!waits(row.fate)) continue;
        left += 1;
        say("retry", row.id, status);
      }
      foreign = verdict === "foreign" && page?.navigator.onLine !== false;
      if (foreign) astray = place === endpoint ? undefined : place;
      if (verdict === "halve") halved = rows.length / 2;
      else if (!foreign || !astray) {
        if (!settled || left) {
          wait(retryAfter(named, now()));
          return false;
        }
        halved *= 2;
        relax();
      }
      return true;
    });
    await outbox.settle();
    return more;
  };

  const sendOne = async (): Promise<boolean> => {
    const [first] = ready();
    // Who tracks no more has no token but the one that was given before.
    if (first && (first.user === user || !tokens.has(first.user))) await ask(first.user);
    const rows = nextBatch(ready(), most(), batchBytes());
    const reports = receipts.splice(0, MOST_RECEIPTS);
    return on && !!(rows.length || reports.length) && send(rows, reports, false);
  };

  const round = async (leasing: boolean): Promise<void> => {
    const found = await disk?.read(leasing ? (known) => claimLease(known, self, now()) : undefined).catch(() => undefined);
    newsSince = Infinity;
    if (found) {
      if (leasing && found.lease?.owner !== self) {
        notBefore = ticks() + LEASE_WAIT_MS;
        return;
      }
      outbox.merge(found.slices);
    }
    // What comes in meanwhile waits for its own time, or the tail of each batch would be a request.
    const from = ticks();
    while (may() && (await sendOne()) && outbox.rows().some(({ since }) => since <= from));
    // Given back by whoever has it, and by no other.
    await outbox.settle(on && leasing && found ? { id: "~", owner: self, until: 0 } : undefined);
  };

  const drain = async (): Promise<void> => {
    try {
      // The page may be inside a call to us: never start a request in its time.
      await outbox.persist();
      if (may()) await (disk ? takeTurn(page, name, clockwork, round) : round(false));
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
   * sent again under the same ids. Receipts get what the events leave over of the browser's budget.
   */
  const leave = (): void => {
    // Also where nothing may be sent: vendors may be granted what is denied here.
    void outbox.persist();
    if (!may(true)) return;
    do {
      const left = KEEPALIVE_BYTES - leavingBytes;
      // What lies there for other pages is theirs. An event stored without its user's token stays claimed for ever: on disk it can wait for one.
      const waiting = outbox.rows().filter(({ user, leaving, found, weight }) => !leaving && !found && weight < left && !(user && outbox.onDisk() && !tokens.has(user)));
      const rows = nextBatch(waiting, broken() ? 1 : MOST_EVENTS, left);
      const reports = receipts.splice(0, (left - weigh(waiting)) / RECEIPT_BYTES);
      if (!rows.length && !reports.length) return;
      const size = weigh(rows) + reports.length * RECEIPT_BYTES;
      leavingBytes += size;
      void send(rows, reports, true).then(() => {
        leavingBytes -= size;
        arm();
      });
    } while (!broken());
  };

  /** A look at how things are, and at what tabs that died have left behind. */
  const watch = (): void => {
    if (!on || !begun) return;
    clockwork.cancel(look);
    look = clockwork.after(() => {
      if (page?.document.visibilityState === "hidden") return;
      newsSince = 0;
      void outbox.settle();
      arm();
      watch();
    }, POLL_MS * (0.75 + random() / 2));
    void configs.ask();
  };

  const goOnline = (): void => {
    if (!on) return;
    hear();
    relax();
    arm();
  };

  const goAway = (): void =>
    spend(() => {
      leave();
      owner?.leave();
    });

  if (page) watchPage(page, ending.signal, goAway, watch, goOnline, () => owner?.resize());

  const track: Backend["track"] = (row, make, first) => {
    if (stopped) row.fate = "off";
    else outbox.add(row, () => {
      const event = make();
      if (typeof event === "string") return event;
      const why = exclusion(configs.current(), event, (name) => owner?.gate(name));
      if (why) say("excluded", row.id, why);
      user = event.user_id;
      return why ? "dropped" : event;
    }, first);
    return follow(row, awaitAnswer);
  };

  return {
    start() {
      if (on || stopped) return;
      on = true;
      newsSince = ticks();
      // In a task of its own: it must not cost the page's start.
      look = clockwork.after(() => {
        hear();
        begun = true;
        spend(() => {
          configs.recall();
          outbox.begin();
          // A sign-out in between belongs after what waits.
          if (!outbox.waiting()) owner?.composed();
        });
        watch();
        arm();
      }, 0);
      arm();
    },
    track,
    spend,
    counts,
    say,
    persist: () => void outbox.persist(),
    trackEvent: (event) => track({ id: event.event_id } as Row, () => masked(event, mask)),
    receipt(receipt) {
      if (stopped) return;
      newsSince = Math.min(newsSince, ticks());
      receipts.push(receipt);
      receipts.splice(0, receipts.length - 2 * MOST_RECEIPTS);
      arm();
    },
    flush,
    discard() {
      receipts.length = 0;
      slot(null);
      shared(null);
      clockwork.cancel(look);
      on = false;
      outbox.empty("discarded");
    },
    async shutdown() {
      await flush();
      if (!stopped) guard(leave);
      stopped = true;
      on = false;
      clockwork.cancel(timer);
      clockwork.cancel(look);
      ending.abort();
    },
    stats,
  };
}
