/** What an answer means for a batch, and how long to wait. Pure. */
import type { WireEvent } from "./event";

export const FIRST_MS = 1_000;
export const MOST_MS = 300_000;

/** Full jitter: anywhere between nothing and 1 s doubled per failure, five minutes at most. */
export const backoff = (failures: number, random: number): number => random * Math.min(MOST_MS, FIRST_MS * 2 ** Math.min(failures, 20));

/** `Retry-After` as milliseconds, from seconds or an HTTP date; undefined where it says neither. */
export function retryAfter(header: string | null, now: number): number | undefined {
  if (!header) return undefined;
  const seconds = Number(header);
  const wait = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - now;
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}

export type Verdict = { kind: "settled"; again: string[]; rejected: number } | { kind: "retry" } | { kind: "halve" } | { kind: "refused" };

interface Answer {
  results: { event_id: string | null; index: number; status: string }[];
  [count: string]: unknown;
}

const COUNTS = ["accepted", "duplicate", "rejected", "dropped", "retry"];

/** An answer settles a batch only when it can be read and its five counts sum to the events sent. */
export function judge(status: number, body: string, sent: WireEvent[]): Verdict {
  if (status === 413) return sent.length > 1 ? { kind: "halve" } : { kind: "refused" };
  if (status === 408 || status === 425 || status === 429 || status >= 500 || status < 200) return { kind: "retry" };
  if (status >= 300) return { kind: "refused" };
  try {
    const answer = JSON.parse(body) as Answer;
    const total = COUNTS.reduce((sum, name) => sum + Number(answer[name]), 0);
    if (total !== sent.length) return { kind: "retry" };
    const again = answer.results.filter((r) => r.status === "retry").map((r) => sent[r.index]?.event_id ?? "");
    return { kind: "settled", again, rejected: Number(answer["rejected"]) };
  } catch {
    return { kind: "retry" };
  }
}
