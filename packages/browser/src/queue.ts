/** What waits, in order, in memory, within a cap: the oldest goes first and is counted. */

/** The caps of everything that waits. */
export const MOST_EVENTS = 1_000;
export const MOST_BYTES = 1 << 20;

export interface Queue<Row> {
  /** Gives back the rows that had to make room. */
  push(row: Row): Row[];
  rows(): readonly Row[];
  /** Takes these rows out; gives back those that were still there. */
  remove(rows: Iterable<Row>): Row[];
  clear(): Row[];
  bytes(): number;
  /** Rows that had to make room, over the life of the queue. */
  dropped(): number;
}

export function createQueue<Row extends { bytes: number }>(): Queue<Row> {
  let rows: Row[] = [];
  let bytes = 0;
  let dropped = 0;
  return {
    push(row) {
      const gone: Row[] = [];
      rows.push(row);
      bytes += row.bytes;
      while (rows.length > MOST_EVENTS || (bytes > MOST_BYTES && rows.length > 1)) {
        const oldest = rows.shift() as Row;
        bytes -= oldest.bytes;
        dropped += 1;
        gone.push(oldest);
      }
      return gone;
    },
    rows: () => rows,
    remove(gone) {
      const ids = new Set(gone);
      const found = rows.filter((row) => ids.has(row));
      rows = rows.filter((row) => !ids.has(row));
      bytes -= found.reduce((sum, row) => sum + row.bytes, 0);
      return found;
    },
    clear() {
      const gone = rows;
      rows = [];
      bytes = 0;
      return gone;
    },
    bytes: () => bytes,
    dropped: () => dropped,
  };
}

const encoder = new TextEncoder();

/** Bytes of a text on the wire; the browser's limits count these, not characters. */
export const byteLength = (text: string): number => encoder.encode(text).length;
