/** What the address bar holds. Only what differs from the default is written there; nonsense is read as the default. */

/** Spans of the activity chart in minutes. Default 60. */
export const SPANS = [15, 30, 60] as const;
export type Span = (typeof SPANS)[number];

export const WAYS = ["npm", "react", "curl"] as const;
export type Way = (typeof WAYS)[number];

export type LiveSearch = {
  /** Shows only live events whose name contains this. */
  name?: string;
  minutes?: Span;
  /** Default: the chart. */
  view?: "table";
  /** Series taken out of the chart. */
  hide?: string[];
};

export type SetupSearch = { with?: Way };

const MOST_HIDDEN = 50;

export const readLiveSearch = (search: Record<string, unknown>): LiveSearch => {
  const read: LiveSearch = {};
  // The router reads ?name=42 as a number.
  const name = typeof search.name === "number" ? String(search.name) : search.name;
  if (typeof name === "string" && name.trim() !== "") read.name = name.slice(0, 200);
  const minutes = SPANS.find((span) => span === Number(search.minutes));
  if (minutes !== undefined && minutes !== 60) read.minutes = minutes;
  if (search.view === "table") read.view = "table";
  if (Array.isArray(search.hide)) {
    const hide = [...new Set(search.hide.map(String))].slice(0, MOST_HIDDEN);
    if (hide.length > 0) read.hide = hide;
  }
  return read;
};

export const readSetupSearch = (search: Record<string, unknown>): SetupSearch => {
  const way = WAYS.find((name) => name === search.with);
  return way && way !== "npm" ? { with: way } : {};
};

/** The same address with other values; a value equal to the default leaves it. */
export const withLive =
  (change: { [Name in keyof LiveSearch]: LiveSearch[Name] | undefined }) =>
  (search: LiveSearch): LiveSearch =>
    readLiveSearch({ ...search, ...change });
