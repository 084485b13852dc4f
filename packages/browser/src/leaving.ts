/** The last requests of a page: what may go in them, within the browser's budget for all that are under way. Pure. */
import type { Receipt } from "./event";
import type { Row } from "./outbox";

export interface Parting {
  rows: Row[];
  receipts: Receipt[];
}

/** More than any receipt takes. */
const RECEIPT_BYTES = 150;

/**
 * One request per identity, the events first. Rows of other pages are left out: they lie on disk. Receipts only get what the
 * events leave over.
 *
 * Units: `budget` and `empty`, the envelope around the events, in bytes.
 */
export function part(rows: readonly Row[], receipts: readonly Receipt[], budget: number, empty: number): Parting[] {
  let left = budget;
  const parts: Parting[] = [];
  for (const row of rows) {
    const last = parts[parts.length - 1];
    const joins = last?.rows[0]?.who === row.who;
    const cost = row.bytes + 1 + (joins ? 0 : empty);
    if (row.leaving || row.found || cost > left) continue;
    left -= cost;
    if (last && joins) last.rows.push(row);
    else parts.push({ rows: [row], receipts: [] });
  }
  if (parts.length === 0) {
    if (receipts.length === 0 || left < empty) return [];
    left -= empty;
    parts.push({ rows: [], receipts: [] });
  }
  (parts[parts.length - 1] as Parting).receipts = receipts.slice(0, left / RECEIPT_BYTES);
  return parts;
}
