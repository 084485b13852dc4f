/**
 * What waits to be sent: first in memory, after a slice of 25 ms on disk as well, until the service has answered for it.
 *
 * Where the disk cannot be had everything goes on in memory. The oldest makes room for the newest, in both places, and is
 * counted. Who reads next: backend.ts, which says when and what to send.
 */
import type { Disk, Kept, Standing } from "./disk";
import type { Clockwork } from "./environment";
import type { Debug } from "./event";
import { guard } from "./guard";
import { byteLength, createQueue, MOST_EVENTS } from "./queue";

/** Events of so long a time go to disk in one transaction: one of its own would cost each ten times as much. */
export const SLICE_MS = 25;

/** How far an event got: `disk` and `memory` are where it waits, the rest is the end of its way in this browser. */
export type Fate = "disk" | "memory" | "accepted" | "duplicate" | "rejected" | "dropped" | "refused" | "elsewhere" | "no room" | "discarded" | "held" | "off";

export interface Row extends Kept {
  bytes: number;
  /** Since when it waits in this page, milliseconds of the page's steady clock. */
  since: number;
  /** Where it lies beside memory; absent while it waits for its slice. */
  place?: "disk" | "memory";
  /** Tracked by another page, found on disk. */
  found?: boolean;
  /** Under way in a request that outlives the page. */
  leaving?: boolean;
  fate?: Fate;
  told?: ((fate: Fate) => void)[];
}

/** An event in the form that lies on disk, or what became of it instead. */
export type Make = () => Kept | Fate;

interface Fresh extends Row {
  make: Make;
}

export interface Outbox {
  /** The first event shall not wait for the store to open. Until it has, `unsafe` is called for each slice. */
  open(): void;
  /** Only pushes to memory: the event itself is made when its slice ends. */
  add(id: string, make: Make): Row;
  /** Ends the slice: what is fresh starts on its way to disk before this returns. Resolves when it is there, never rejects. */
  write(): Promise<void>;
  /** Takes in what lies on disk: news of other pages, and what these have settled. Their rows may be sent too. */
  merge(kept: readonly Kept[]): void;
  remove(rows: Iterable<Row>, fate: (row: Row) => Fate): Row[];
  /** Writes down what is settled, and the standing where there is a new one. */
  settle(standing?: Standing): Promise<void>;
  /** Forgets what waits, after its slice: how many that were. */
  clear(): number;
  rows(): readonly Row[];
  bytes(): number;
  onDisk(): boolean;
  counts(): { queued: number; dropped: number; recovered: number; elsewhere: number };
}

export interface Watching {
  /** A slice is where it waits. */
  sliced(): void;
  /** The store is not open yet. */
  unsafe(): void;
  say: Debug;
  /** Counts the time of what it does at once. */
  spend<T>(work: () => T): T;
}

export function createOutbox(disk: Disk | undefined, clockwork: Clockwork, { sliced, unsafe, say, spend }: Watching): Outbox {
  const queue = createQueue<Row>();
  let fresh: Fresh[] = [];
  let gone: string[] = [];
  let slice: unknown;
  let sliceSince = 0;
  let writing = Promise.resolve();
  let stored = disk !== undefined;
  let opened = disk === undefined;
  let recovered = 0;
  let elsewhere = 0;

  const tell = (row: Row, fate: Fate): void => {
    row.fate = fate;
    say(fate === "disk" || fate === "memory" ? "stored" : "settled", row.id, fate);
    for (const told of row.told?.splice(0) ?? []) told(fate);
  };
  const end = (rows: readonly Row[], fate: (row: Row) => Fate): void => {
    for (const row of rows) {
      if (row.place === "disk") gone.push(row.id);
      tell(row, fate(row));
    }
  };

  const push = (row: Row): void => end(queue.push(row), () => "no room");

  const store = async (rows: readonly (Kept | Standing)[]): Promise<boolean> => {
    const forget = gone;
    gone = [];
    try {
      if (!disk) return false;
      await disk.write(rows, forget);
      return (stored = true);
    } catch {
      gone = forget.concat(gone);
      return (stored = false);
    }
  };

  /** Makes the events of the slice. */
  const make = (): Row[] => {
    const rows = fresh;
    fresh = [];
    return rows.filter((row) => {
      const made = row.make();
      if (typeof made === "string") tell(row, made);
      else push(Object.assign(row, made, { bytes: byteLength(made.text) }));
      return typeof made !== "string";
    });
  };

  const writeFresh = async (): Promise<void> => {
    const rows = make();
    if (rows.length === 0) return;
    if (!opened) unsafe();
    const place = (await store(rows.map(({ id, who, text }) => ({ id, who, text })))) ? "disk" : "memory";
    for (const row of rows) {
      row.place = place;
      // One that had to make room meanwhile has heard of that, but still lies on disk.
      if (row.fate) place === "disk" && gone.push(row.id);
      else tell(row, place);
    }
    sliced();
  };

  const write = (): Promise<void> => {
    const earlier = writing;
    return (writing = spend(writeFresh).then(() => earlier));
  };

  /** A busy page finds the next slice's timer armed: arming one is the dearest part of a call. */
  const tick = (): void => {
    slice = fresh.length > 0 ? clockwork.after(tick, SLICE_MS) : undefined;
    void write();
  };

  return {
    open: () => void disk?.open().catch(() => undefined).then(() => (opened = true)),
    add(id, make) {
      if (!fresh.length) sliceSince = clockwork.ticks();
      slice ??= clockwork.after(tick, SLICE_MS);
      const row: Fresh = { id, make, who: "", text: "", bytes: 0, since: sliceSince };
      if (fresh.push(row) >= MOST_EVENTS) void write();
      return row;
    },
    write,
    merge(kept) {
      const found = new Set(kept.map(({ id }) => id));
      const settled = queue.remove(queue.rows().filter((row) => row.place === "disk" && !row.leaving && !found.has(row.id)));
      elsewhere += settled.length;
      for (const row of settled) tell(row, "elsewhere");
      const known = new Set([...gone, ...queue.rows().map(({ id }) => id)]);
      for (const { id, who, text } of kept) {
        if (known.has(id)) continue;
        recovered += 1;
        push({ id, who, text, bytes: byteLength(text), since: clockwork.ticks(), place: "disk", found: true });
      }
    },
    remove(rows, fate) {
      const removed = queue.remove(rows);
      end(removed, fate);
      return removed;
    },
    async settle(standing) {
      if (disk && (standing || gone.length > 0)) await store(standing ? [standing] : []);
    },
    clear() {
      make();
      const rows = queue.clear();
      gone = [];
      for (const row of rows) tell(row, "discarded");
      guard(() => disk?.clear());
      return rows.length;
    },
    rows: queue.rows,
    bytes: queue.bytes,
    onDisk: () => stored,
    counts: () => ({ queued: queue.rows().length + fresh.length, dropped: queue.dropped(), recovered, elsewhere }),
  };
}
