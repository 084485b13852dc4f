/** What waits to be sent, in order, in memory, within a cap: the oldest goes first and is counted. */
import type { WireEvent } from "./event";

const MOST_EVENTS = 1_000;
const MOST_BYTES = 1 << 20;

export interface Queue {
  push(event: WireEvent): void;
  /** The next events that may share a batch: one identity, at most so many events and bytes. */
  batch(events: number, bytes: number): WireEvent[];
  remove(ids: Iterable<string>): void;
  all(): WireEvent[];
  clear(): number;
  size(): { events: number; bytes: number; dropped: number };
}

export function createQueue(): Queue {
  let rows: { event: WireEvent; bytes: number }[] = [];
  let bytes = 0;
  let dropped = 0;
  const who = (event: WireEvent): string => `${event.user_id ?? ""} ${event.anonymous_id ?? ""}`;

  return {
    push(event) {
      const size = JSON.stringify(event).length * 2;
      rows.push({ event, bytes: size });
      bytes += size;
      while (rows.length > MOST_EVENTS || (bytes > MOST_BYTES && rows.length > 1)) {
        bytes -= rows.shift()?.bytes ?? 0;
        dropped += 1;
      }
    },
    batch(events, most) {
      const first = rows[0];
      const found: WireEvent[] = [];
      let size = 0;
      for (const row of rows) {
        if (found.length >= events || who(row.event) !== who((first as typeof row).event)) break;
        size += row.bytes / 2;
        if (size > most && found.length > 0) break;
        found.push(row.event);
      }
      return found;
    },
    remove(ids) {
      const gone = new Set(ids);
      rows = rows.filter((row) => !gone.has(row.event.event_id));
      bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
    },
    all: () => rows.map((row) => row.event),
    clear() {
      const gone = rows.length;
      rows = [];
      bytes = 0;
      return gone;
    },
    size: () => ({ events: rows.length, bytes, dropped }),
  };
}
