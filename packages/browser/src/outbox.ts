/**
 * What waits to be sent: first in memory, after a slice of 25 ms on disk as well, until the service has answered for it.
 *
 * Where the disk cannot be had everything goes on in memory. The oldest makes room for the newest, in both places, and is
 * counted. Who reads next: backend.ts, which says when and what to send.
 */
import type { Disk, Found, Lease, Slice } from "./disk";
import type { Clockwork } from "./environment";
import type { Debug, WireEvent } from "./event";
import { guard } from "./guard";
import { byteLength, excess, MOST_EVENTS } from "./queue";

/** Events of so long a time go to disk in one record: one of its own would cost each ten times as much. */
export const SLICE_MS = 25;

/** How far an event got: `disk` and `memory` are where it waits, the rest is the end of its way in this browser. */
export type Fate = "disk" | "memory" | "accepted" | "duplicate" | "rejected" | "dropped" | "refused" | "elsewhere" | "no room" | "discarded" | "held" | "off";

/** Whether an event with this fate is still to be sent. */
export const waits = (fate: Fate | undefined): boolean => fate === "disk" || fate === "memory";

export interface Row {
  id: string;
  /** Who did it. A batch carries one identity. */
  who: string;
  user: string | undefined;
  text: string;
  weight: number;
  /** Since when it waits in this page, milliseconds of the page's steady clock. */
  since: number;
  /** What it lies on disk with. */
  part?: Part | undefined;
  /** Tracked by another page, found on disk. */
  found?: boolean;
  /** Under way in a request that outlives the page. */
  leaving?: boolean;
  /** Absent until its slice is where it waits. */
  fate?: Fate;
  /** Those who hear of each fate. */
  told?: ((fate: Fate) => unknown)[];
}

/** Awaited, it says how far the event got: it is on disk, or, with `awaitAnswer`, what the service said. Never rejects. */
export interface Tracked extends PromiseLike<Fate> {
  readonly id: string;
}

/** `answered`: awaits the end of its way, not a place or an answer where it waits. A promise is made only where one is awaited. */
export const follow = (row: Pick<Row, "id" | "fate" | "told">, answered?: boolean): Tracked => ({
  id: row.id,
  then: (done, failed) =>
    new Promise<Fate>((resolve) => {
      const told = (fate: Fate): unknown => !(answered && (waits(fate) || fate === "held")) && resolve(fate);
      (row.told ??= []).push(told);
      if (row.fate) told(row.fate);
    }).then(done, failed),
});

interface Part {
  id: Slice["id"];
  rows: Row[];
  /** Whether it lies on disk. */
  kept?: boolean;
}

/** An event, or what became of it instead. */
export type Make = () => WireEvent | Fate;

/** `text`: the event as it was found. */
const describe = (event: WireEvent, text = JSON.stringify(event)): Pick<Row, "id" | "who" | "user" | "text" | "weight"> => ({
  id: event.event_id,
  user: event.user_id,
  who: JSON.stringify([event.user_id, event.anonymous_id]),
  text,
  weight: byteLength(text),
});

/** Each name is also one of the health in a batch. */
export type Counts = Record<"tracked" | "held" | "discarded" | "dropped" | "recovered" | "elsewhere" | "sent" | "rejected" | "excluded" | "refused" | "retried", number>;

const COUNTED: Partial<Record<Fate, keyof Counts>> = { accepted: "sent", duplicate: "sent", dropped: "excluded", "no room": "dropped" };

export interface Outbox {
  /** The first event shall not wait for the store to open. Until it has, `unsafe` is called for each slice. */
  begin(): void;
  /** Only pushes to memory: the event itself is made when its slice ends. `first`: before all others of the slice. */
  add(row: Row, make: Make, first?: boolean): void;
  /** Ends the slice: what is fresh starts on its way to disk before this returns. Resolves when it is there, never rejects. */
  persist(): Promise<void>;
  /** Takes in what lies on disk: news of other pages, and what these have settled. Their rows may be sent too. */
  merge(slices: Found["slices"]): void;
  /** Ends those that wait still, unless with `retry`. */
  end(rows: readonly Row[], fate: (at: number) => Fate | "retry"): void;
  /** Writes down what is settled, and the lease where there is a new one. */
  settle(lease?: Lease): Promise<void>;
  /** Forgets what waits, here and on disk, after its slice. */
  empty(fate: Fate): void;
  rows(): readonly Row[];
  /** How many there are, those of the slice included. */
  waiting(): number;
  onDisk(): boolean;
}

export interface Watching {
  /** A slice is made. */
  composed(): void;
  /** A slice is where it waits. */
  sliced(): void;
  /** The store is not open yet. */
  unsafe(): void;
  say: Debug;
  /** Counts the time of what it does at once. */
  spend<T>(work: () => T): T;
}

export function createOutbox(disk: Disk | undefined, clockwork: Clockwork, counts: Counts, { composed, sliced, unsafe, say, spend }: Watching): Outbox {
  let rows: Row[] = [];
  let fresh: [Row, Make][] = [];
  /** What is not on disk as it should be. */
  const changed = new Set<Part>();
  let written = 0;
  let timer: unknown;
  let writing = Promise.resolve();
  let stored = !!disk;
  let opened = !disk;

  const tell = (row: Row, fate: Fate): void => {
    row.fate = fate;
    const name = (COUNTED[fate] ?? fate) as keyof Counts;
    if (name in counts) counts[name] += 1;
    say(waits(fate) ? "stored" : "settled", row.id, fate);
    row.told?.forEach((told) => told(fate));
  };

  const end: Outbox["end"] = (gone, fateAt) => {
    const parts = new Set<Part>();
    gone.forEach((row, at) => {
      const fate = fateAt(at);
      const { part } = row;
      if (!part || fate === "retry") return;
      parts.add(part);
      row.part = undefined;
      tell(row, fate);
    });
    for (const part of parts) {
      part.rows = part.rows.filter((row) => row.part);
      changed.add(part);
    }
    rows = rows.filter(({ part }) => part);
  };
  const makeRoom = (): void => end(rows.slice(0, excess(rows)), () => "no room");

  const settle = async (lease?: Lease): Promise<void> => {
    const parts = [...changed];
    if (!parts.length && !lease) return;
    changed.clear();
    try {
      await (disk as Disk).persist(parts, lease);
      stored = true;
    } catch {
      stored = false;
    }
    // A store that can be had again gets what waits in memory.
    for (const part of parts) if (stored) part.kept = true; else if (part.kept || part.rows.length) changed.add(part);
  };

  /** Makes the events of the slice. */
  const make = (): Part => {
    const part: Part = { id: "", rows: [] };
    // As of the end of the slice: to ask in each call would cost it something.
    const since = clockwork.ticks();
    const all = fresh;
    fresh = [];
    for (const [row, work] of all) {
      const made = guard(() => {
        const what = work();
        return typeof what === "string" ? what : describe(what);
      }, "rejected");
      if (typeof made === "string") tell(row, made);
      else part.rows.push(Object.assign(row, made, { part, since }));
    }
    rows.push(...part.rows);
    composed();
    return part;
  };

  const writeFresh = async (): Promise<void> => {
    if (!fresh.length) return;
    const part = make();
    const [first] = part.rows;
    if (!first) return;
    part.id = `${first.id} ${written++}`;
    changed.add(part);
    makeRoom();
    if (!opened) unsafe();
    await settle();
    // Or it will not open: no slice has waited longer than that.
    opened = true;
    for (const row of part.rows) tell(row, part.kept ? "disk" : "memory");
    sliced();
  };

  const write = (): Promise<void> => {
    const earlier = writing;
    return (writing = spend(writeFresh).then(() => earlier));
  };

  /** A busy page finds the next slice's timer armed: arming one is the dearest part of a call. */
  const tick = (): void => {
    timer = fresh.length ? clockwork.after(tick, SLICE_MS) : undefined;
    void write();
  };

  return {
    begin: () => void disk?.begin().catch(() => undefined).then(() => (opened = true)),
    add(row, make, first) {
      timer ??= clockwork.after(tick, SLICE_MS);
      // It was held until now.
      if (row.fate) counts.held -= 1;
      if (first) fresh.unshift([row, make]);
      else if (fresh.push([row, make]) >= MOST_EVENTS) void write();
    },
    persist: write,
    merge(slices) {
      const known = new Set([...changed, ...rows.map(({ part }) => part as Part)].map(({ id }) => id));
      const there = new Set<string>();
      let found: Row[] = [];
      for (const { id, text } of slices) {
        // What lies on disk was written by anyone who can run script here.
        const texts = String(text).split("\n");
        texts.forEach((text) => there.add(text));
        if (known.has(id)) continue;
        const part: Part = { id, rows: [], kept: true };
        part.rows = texts.map((text) => ({ since: clockwork.ticks(), fate: "disk", found: true, part, ...guard(() => describe(JSON.parse(text) as WireEvent, text)) }) as Row);
        found = found.concat(part.rows);
      }
      end(rows.filter((row) => row.fate === "disk" && !row.leaving && !there.has(row.text)), () => "elsewhere");
      counts.recovered += found.length;
      // They are older than what this page tracks, and make room for it.
      rows = found.concat(rows);
      end(found.filter(({ id }) => typeof id !== "string"), () => "rejected");
      makeRoom();
    },
    end,
    settle,
    empty(fate) {
      make();
      end(rows, () => fate);
      changed.clear();
      guard(() => disk?.empty());
    },
    rows: () => rows,
    waiting: () => rows.length + fresh.length,
    onDisk: () => stored,
  };
}
