/** What became of one event, in words. Pure. */

import type { Fate, Receipt, Stage } from "./api";

export const FATE_WORDS: Readonly<Record<Fate, string>> = {
  stored: "It is in the table and can be queried.",
  in_spool: "It is safe on disk and waits to be loaded into the table.",
  quarantined: "It was accepted, but the store would not take it. It is kept and can be replayed.",
  gone: "It was accepted, and an erasure or its expiry has taken it since. Only its random id is remembered for a while.",
  refused: "It was refused at the door. Nothing of it was kept but its id and the reason, for up to 7 days.",
  dropped: "It was left out on purpose. Nothing of it was kept but its id and the reason, for up to 7 days.",
  duplicate: "An event with this id was there before; this copy was not stored again.",
};

/** Whether anything of the event itself is on our side; of the others there is only the record that they came. */
export const isKept = (fate: Fate): boolean => fate !== "refused" && fate !== "dropped" && fate !== "gone";

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

/** Columns by what a reader asks; what no group names is shown under "Bookkeeping". */
const GROUPS: readonly { title: string; columns: readonly string[] }[] = [
  { title: "What", columns: ["event_name", "event_value", "message_content", "message_length", "source"] },
  { title: "Who", columns: ["user_id", "anonymous_id", "identity", "session_id", "sequence", "thread_id", "consent", "consent_at", "consent_denied"] },
  { title: "When", columns: ["event_timestamp", "client_timestamp", "server_timestamp", "loaded_at", "date", "expires_at", "message_expires_at"] },
  {
    title: "Where from",
    columns: ["page_url", "page_path", "page_title", "referrer", "locale", "viewport_width", "viewport_height", "ip_address", "user_agent", "is_bot"],
  },
];

export type RowGroup = { title: string; filled: [string, unknown][] };

/** Columns that say something, in groups, and the names of those that do not. Metadata is shown apart. */
export const groupRow = (event: Record<string, unknown>): { groups: RowGroup[]; blank: string[] } => {
  const columns = new Map(Object.entries(event).filter(([name]) => name !== "event_metadata"));
  const blank = [...columns].filter(([, value]) => isBlank(value)).map(([name]) => name);
  for (const name of blank) columns.delete(name);
  const groups: RowGroup[] = GROUPS.map(({ title, columns: names }) => ({
    title,
    filled: names.flatMap((name): [string, unknown][] => (columns.has(name) ? [[name, columns.get(name)]] : [])),
  }));
  for (const { filled } of groups) for (const [name] of filled) columns.delete(name);
  groups.push({ title: "Bookkeeping", filled: [...columns] });
  return { groups: groups.filter(({ filled }) => filled.length > 0), blank };
};
