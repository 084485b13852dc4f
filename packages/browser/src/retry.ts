/** What an answer means for a batch, and how long to wait. Pure. */
import type { Config } from "./config";
import { guard } from "./guard";

/** With less, an outage of 8 s would see more than four requests in more than one of a hundred pages. */
export const FIRST_MS = 4_000;
export const MOST_MS = 300_000;
/** A service may ask for longer than our own backoff, but a typing error must not silence a page for a year. */
export const MOST_ASKED_MS = 3_600_000;

/** Full jitter: anywhere between nothing and 4 s doubled per failure, five minutes at most. */
export const backoff = (failures: number, random: number): number => random * Math.min(MOST_MS, FIRST_MS * 2 ** failures);

/** `Retry-After` as milliseconds, from seconds or an HTTP date; undefined where it says neither, or a time that is over. */
export function retryAfter(header: string | null | undefined, now: number): number | undefined {
  const wait = Number(header) * 1000 || Date.parse(header as string) - now;
  return wait > 0 ? Math.min(MOST_ASKED_MS, wait) : undefined;
}

export type Status = "accepted" | "duplicate" | "rejected" | "dropped" | "retry" | "refused";

const STATUSES: readonly Status[] = ["accepted", "duplicate", "rejected", "dropped", "retry"];

/**
 * An answer settles a batch only when it can be read, its five counts sum to the events sent, and what it lists says the
 * same as its counts. A count alone does not tell which event to keep.
 */
function settle(body: string, statuses: Status[], heard: (config: Config) => void): Status[] | undefined {
  const answer = JSON.parse(body) as Record<Status, number> & { results: { index: number; status: Status }[]; config?: Config };
  for (const { index, status } of answer.results) {
    if (statuses[index] !== STATUSES[0] || !STATUSES.includes(status)) return undefined;
    statuses[index] = status;
  }
  if (STATUSES.some((name) => answer[name] !== statuses.filter((status) => status === name).length)) return undefined;
  heard(answer.config ?? {});
  return statuses;
}

/** Nothing is settled: `halve` the batch and send it again, or wait and do so, since our own service said that (`own`), or someone else (`foreign`). */
export type Verdict = Status[] | "halve" | "own" | "foreign";

/**
 * What became of each event. Only our own service ends one: by its answer for each, or alone in a request that is too large or
 * cannot be read there. Whatever else is said, by a proxy, a firewall, a site without such a path, or to a key that
 * is revoked, all stay. A 413 may come from what stands before the service: there too the one event would block those behind it.
 */
export function judge(status: number, body: string, events: number, heard: (config: Config) => void): Verdict {
  const { code, hint } = guard(() => (JSON.parse(body) as { error: { code?: unknown; hint?: unknown } }).error) ?? {};
  if (status === 413 || code === "no_events") return events > 1 ? "halve" : new Array<Status>(events).fill("refused");
  const settled = status < 300 && guard(() => settle(body, new Array<Status>(events).fill("accepted"), heard));
  return settled || (status >= 500 || typeof hint === "string" ? "own" : "foreign");
}
