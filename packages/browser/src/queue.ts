/** The caps of everything that waits. Pure. */

export const MOST_EVENTS = 1_000;
export const MOST_BYTES = 1 << 20;

const encoder = new TextEncoder();
export const encode = (text: string): Uint8Array<ArrayBuffer> => encoder.encode(text);

/** Bytes of a text on the wire; the browser's limits count these, not characters. */
export const byteLength = (text: string): number => encode(text).length;

export const weigh = (rows: readonly { bytes: number }[]): number => rows.reduce((sum, { bytes }) => sum + bytes, 0);

/** How many of the first rows must make room: the oldest goes first, and the newest stays whatever it weighs. */
export function excess(rows: readonly { bytes: number }[]): number {
  let bytes = weigh(rows);
  let gone = 0;
  while (rows.length - gone > MOST_EVENTS || (bytes > MOST_BYTES && rows.length - gone > 1)) bytes -= (rows[gone++] as { bytes: number }).bytes;
  return gone;
}
