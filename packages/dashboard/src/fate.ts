/** What became of one event, in words. Pure. */

import type { Fate, Receipt, Stage } from "./api";

export const FATE_WORDS: Readonly<Record<Fate, string>> = {
  stored: "It is in the table and can be queried.",
  in_spool: "It is safe on disk and waits to be loaded into the table.",
  quarantined: "It was accepted, but the store would not take it. It is kept and can be replayed.",
  refused: "It was broken or not allowed, so nothing of it was kept but this record.",
  dropped: "It was left out on purpose, so nothing of it was kept but this record.",
  duplicate: "An event with this id was there before; this copy was not stored again.",
};

export type TimedStage = Stage & {
  /** Milliseconds since the stage before that has a time; null where there is none. */
  after: number | null;
};

/** Stages with the time between them. A stage without a time is skipped over, not counted as zero. */
export const timeStages = (stages: readonly Stage[]): TimedStage[] => {
  let last: number | null = null;
  return stages.map((stage) => {
    const at = stage.at === null ? Number.NaN : Date.parse(stage.at);
    if (Number.isNaN(at)) return { ...stage, after: null };
    const after = last === null ? null : at - last;
    last = at;
    return { ...stage, after };
  });
};

/**
 * Milliseconds our side took, from `received` to the last known stage; null where one of the two is unknown. What comes
 * before was timed by another clock, the device's, and is not ours to add.
 */
export const ourTime = (stages: readonly TimedStage[]): number | null => {
  const known = stages.filter(({ at }) => at !== null && !Number.isNaN(Date.parse(at)));
  const received = known.findIndex(({ name }) => name === "received");
  const later = received < 0 ? [] : known.slice(received + 1);
  return later.length === 0 ? null : later.reduce((sum, { after }) => sum + (after ?? 0), 0);
};

const RANK: Readonly<Record<string, number>> = { handed: 1, absent: 2, blocked: 2, failed: 3, delivered: 4 };

export type VendorReceipts = {
  vendor: string;
  /** The furthest the event got there; null where the vendor said nothing yet. */
  status: string | null;
  receipts: Receipt[];
};

/** One entry for each vendor, also for a known one that is silent. Receipts come in any order and more than once. */
export const byVendor = (receipts: readonly Receipt[], known: readonly string[] = ["statsig", "gtm"]): VendorReceipts[] => {
  const vendors = [...new Set([...known, ...receipts.map(({ vendor }) => vendor)])];
  return vendors.map((vendor) => {
    const own = receipts.filter((receipt) => receipt.vendor === vendor).sort((a, b) => a.at.localeCompare(b.at));
    const furthest = own.reduce<Receipt | null>(
      (best, receipt) => (best === null || (RANK[receipt.status] ?? 0) >= (RANK[best.status] ?? 0) ? receipt : best),
      null,
    );
    return { vendor, status: furthest?.status ?? null, receipts: own };
  });
};

const isBlank = (value: unknown): boolean =>
  value === null || value === undefined || value === "" || (Array.isArray(value) && value.length === 0) ||
  (typeof value === "object" && value !== null && Object.keys(value).length === 0);

/** Columns that say something, and the names of those that do not. Metadata is shown apart. */
export const splitRow = (event: Record<string, unknown>): { filled: [string, unknown][]; blank: string[] } => {
  const columns = Object.entries(event).filter(([name]) => name !== "event_metadata");
  return {
    filled: columns.filter(([, value]) => !isBlank(value)),
    blank: columns.filter(([, value]) => isBlank(value)).map(([name]) => name),
  };
};
