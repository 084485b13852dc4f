/** Of what waits: the caps of all of it, and what goes next. Pure. */
import type { Row } from "./outbox";

export const MOST_EVENTS = 1_000;
export const MOST_BYTES = 1 << 20;

const encoder = new TextEncoder();
export const encode = (text: string): Uint8Array<ArrayBuffer> => encoder.encode(text);

/** Bytes of a text on the wire; the browser's limits count these, not characters. Most texts need not be written anew for it. */
export const byteLength = (text: string): number => (/[^\0-\x7f]/.test(text) ? encode(text) : text).length;

export const weigh = (rows: readonly { weight: number }[]): number => rows.reduce((sum, { weight }) => sum + weight, 0);

/** How many of the first rows must make room: the oldest goes first, and the newest stays whatever it weighs. */
export function excess(rows: readonly { weight: number }[]): number {
  let bytes = weigh(rows);
  let gone = 0;
  while (rows.length - gone > MOST_EVENTS || (bytes > MOST_BYTES && rows.length - gone > 1)) bytes -= (rows[gone++] as { weight: number }).weight;
  return gone;
}

/** The first rows that may share a request: one identity, in order, within a count and a size, which the first alone may exceed. */
export function nextBatch(rows: readonly Row[], events: number, bytes: number): Row[] {
  const batch: Row[] = [];
  let left = bytes;
  for (const row of rows) {
    left -= row.weight + 1;
    if (batch.length && (batch.length >= events || left < 0 || row.who !== (batch[0] as Row).who)) break;
    batch.push(row);
  }
  return batch;
}
