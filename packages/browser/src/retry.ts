/** What an answer means for a batch, and how long to wait. Pure. */

/** With less, an outage of 8 s would see more than four requests in more than one of a hundred pages. */
export const FIRST_MS = 4_000;
export const MOST_MS = 300_000;
/** A service may ask for longer than our own backoff, but a typing error must not silence a page for a year. */
export const MOST_ASKED_MS = 3_600_000;

/** Full jitter: anywhere between nothing and 4 s doubled per failure, five minutes at most. */
export const backoff = (failures: number, random: number): number => random * Math.min(MOST_MS, FIRST_MS * 2 ** failures);

/** `Retry-After` as milliseconds, from seconds or an HTTP date; undefined where it says neither, or a time that is over. */
export function retryAfter(header: string | null | undefined, now: number): number | undefined {
  const wait = header ? Number(header) * 1000 || Date.parse(header) - now : 0;
  return wait > 0 ? Math.min(MOST_ASKED_MS, wait) : undefined;
}

export type Status = "accepted" | "duplicate" | "rejected" | "dropped" | "retry";

export type Verdict =
  | { statuses: Status[]; killed: boolean; version: unknown }
  /** Send the whole batch again, under the same ids. */
  | "again"
  /** Too large: send half of it. */
  | "halve"
  /** Final: the service will never take this. */
  | "refused";

const NOT_ACCEPTED: readonly string[] = ["duplicate", "rejected", "dropped", "retry"];

/**
 * An answer settles a batch only when it can be read, its five counts sum to the events sent, and what it lists says the
 * same as its counts. A count alone does not tell which event to keep.
 */
function settle(body: string, events: number): Verdict {
  const answer = JSON.parse(body) as Record<string, unknown>;
  const statuses = new Array<Status>(events).fill("accepted");
  for (const result of answer["results"] as { index: number; status: Status }[]) {
    if (statuses[result.index] !== "accepted" || !NOT_ACCEPTED.includes(result.status)) return "again";
    statuses[result.index] = result.status;
  }
  const agrees = ["accepted", ...NOT_ACCEPTED].every((name) => answer[name] === statuses.filter((status) => status === name).length);
  const { kill, version } = (answer["config"] ?? {}) as { kill?: unknown; version?: unknown };
  return agrees ? { statuses, killed: kill === true, version } : "again";
}

/** `status` 0 means that no answer came. */
export function judge(status: number, body: string | undefined, sent: readonly unknown[]): Verdict {
  if (status === 413) return sent.length > 1 ? "halve" : "refused";
  if (status < 200 || status >= 500 || [408, 425, 429].includes(status)) return "again";
  if (status >= 300) return "refused";
  try {
    return settle(body as string, sent.length);
  } catch {
    return "again";
  }
}
