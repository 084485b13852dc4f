/** Activity as the chart and its table need it. Pure. */

import type { Activity } from "./api";

const MINUTE = 60;

export type Shaped = {
  /** Minute starts, seconds since 1970, without holes. */
  times: number[];
  /** Counts per minute beside `times`; null where the server said nothing about that minute. */
  series: { name: string; counts: (number | null)[]; total: number }[];
  /** Index of the minute that is still running; null when all are over. */
  unfinished: number | null;
};

/** An event that is itself called "other" shares the name of the server's rest: counted together they are one series. */
const merge = (series: Activity["series"]): Map<string, (number | null)[]> => {
  const merged = new Map<string, (number | null)[]>();
  for (const { event_name, counts } of series) {
    const before = merged.get(event_name);
    merged.set(event_name, before ? counts.map((value, at) => (value === null ? (before[at] ?? null) : value + (before[at] ?? 0))) : counts);
  }
  return merged;
};

/** Puts the answer on a grid of whole minutes. A zero stays a zero; a minute nobody spoke of becomes null, which is no zero. */
export const shape = (activity: Activity): Shaped => {
  const starts = activity.minutes.map((minute) => Math.floor(Date.parse(minute) / 1000));
  const first = starts[0];
  const last = starts.at(-1);
  if (first === undefined || last === undefined) return { times: [], series: [], unfinished: null };
  const times: number[] = [];
  for (let at = first; at <= last; at += MINUTE) times.push(at);
  const place = new Map(starts.map((start, index) => [start, index]));
  const series = [...merge(activity.series)].map(([name, counts]) => {
    const placed = times.map((at) => {
      const index = place.get(at);
      return index === undefined ? null : (counts[index] ?? null);
    });
    return { name, counts: placed, total: placed.reduce<number>((sum, value) => sum + (value ?? 0), 0) };
  });
  return { times, series, unfinished: activity.unfinished ? times.length - 1 : null };
};

/**
 * Running sums from the bottom of the stack up, one row for each series of `counts`. A minute that is null for all
 * stays null, so that the chart leaves a gap; one that is null for some only counts as nothing there.
 */
export const stack = (counts: readonly (readonly (number | null)[])[]): (number | null)[][] => {
  const length = counts[0]?.length ?? 0;
  const sums: (number | null)[] = Array.from({ length }, (_, at) => (counts.some((row) => (row[at] ?? null) !== null) ? 0 : null));
  return counts.map((row) => {
    for (let at = 0; at < length; at += 1) {
      const sum = sums[at] ?? null;
      if (sum !== null) sums[at] = sum + (row[at] ?? 0);
    }
    return [...sums];
  });
};

/** All series of a minute together; null where nobody spoke of it. */
export const totals = (shaped: Shaped): (number | null)[] =>
  stack(shaped.series.map(({ counts }) => counts)).at(-1) ?? shaped.times.map(() => null);
