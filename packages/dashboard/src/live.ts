/** The rolling list of live events. Pure: pages in, list out. */

import { FIRST_NAME } from "./snippets";
import type { LiveAnswer, LiveRow } from "./api";

/** Events asked for in one poll. */
export const PAGE = 50;
/** Events kept in the page's memory. */
export const KEPT = 500;

export type LiveEvent = LiveRow & {
  /** When this page first saw the event, milliseconds since 1970; 0 for what was there when the page opened. */
  seenAt: number;
  /** True when more events may have come between this one and the next older one than the page was told of. */
  gapBelow: boolean;
};

export type Live = {
  cursor: string;
  events: LiveEvent[];
  /** Server clock minus browser clock, milliseconds, so that "2 s ago" is true on a laptop that runs late. */
  skew: number;
};

/** Adds a newer page on top of the list. Events that are known already are not listed twice. */
export const mergeLive = (before: Live | undefined, page: LiveAnswer, now: number): Live => {
  const known = new Set(before?.events.map(({ event_id }) => event_id));
  const seenAt = before ? now : 0;
  const fresh: LiveEvent[] = [];
  for (const row of page.events) {
    if (known.has(row.event_id)) continue;
    known.add(row.event_id);
    fresh.push({ ...row, seenAt, gapBelow: false });
  }
  const oldest = fresh.at(-1);
  // A full page after a cursor may have left events out below its oldest one.
  if (before && before.events.length > 0 && oldest && page.events.length >= PAGE) oldest.gapBelow = true;
  const skew = Date.parse(page.as_of) - now;
  return {
    cursor: page.cursor || (before?.cursor ?? ""),
    events: fresh.length > 0 ? [...fresh, ...(before?.events ?? [])].slice(0, KEPT) : (before?.events ?? []),
    skew: Number.isFinite(skew) ? skew : 0,
  };
};

/** Events whose name contains `name`, whatever its case. */
export const filterByName = (events: readonly LiveEvent[], name: string): readonly LiveEvent[] => {
  const wanted = name.trim().toLowerCase();
  return wanted === "" ? events : events.filter(({ event_name }) => event_name.toLowerCase().includes(wanted));
};

/**
 * What a reader of the setup page just sent: the sample by its id, else a fresh event by the snippets' name. Any fresh
 * event will do in a project that was silent before; in a busy one it would be somebody else's.
 */
export const findArrival = (events: readonly LiveEvent[], sampleId: string, openedAt: number): LiveEvent | undefined => {
  const fresh = events.filter(({ seenAt }) => seenAt >= openedAt);
  return (
    events.find(({ event_id }) => event_id === sampleId) ??
    fresh.find(({ event_name }) => event_name === FIRST_NAME) ??
    (fresh.length === events.length ? fresh[0] : undefined)
  );
};
