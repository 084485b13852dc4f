/** What the pipeline's numbers mean, in words. Pure. */

import type { Pipeline } from "./api";
import { plural } from "./format";

/** Says whether every received event has exactly one fate, and if not, what is off. */
export const balanceWords = ({ holds, difference }: Pipeline["balance"], erasing = false): string => {
  if (erasing) return "Rows of an erased person are being deleted. If this stays, their erasure has stopped: twintrack doctor says what to do.";
  if (holds) return "Every received event has exactly one counted fate.";
  if (difference > 0) return `${plural(difference, "received event has", "received events have")} no counted fate.`;
  if (difference < 0) return `${plural(-difference, "fate", "fates")} more than events received: something is counted twice.`;
  return "The counts do not add up.";
};

/** Events per second between two looks at one counter; null when there is nothing to compare. */
export const rate = (
  before: { as_of: string; value: number } | null,
  after: { as_of: string; value: number },
): number | null => {
  if (!before) return null;
  const seconds = (Date.parse(after.as_of) - Date.parse(before.as_of)) / 1000;
  const events = after.value - before.value;
  // A counter that fell belongs to another data folder.
  return seconds > 0 && events >= 0 ? events / seconds : null;
};

export type Lag = "none" | "fresh" | "slow" | "stuck";

/** How worried to be about the oldest event that cannot be queried yet (seconds). */
export const lagLevel = (seconds: number): Lag => (seconds <= 0 ? "none" : seconds <= 5 ? "fresh" : seconds <= 60 ? "slow" : "stuck");

export const LAG_WORDS: Readonly<Record<Lag, string>> = {
  none: "nothing waits",
  fresh: "on its way",
  slow: "slow",
  stuck: "check the store",
};

/** Reasons of one outcome, most frequent first. */
export const reasonsOf = (reasons: Pipeline["reasons"], outcome: string): Pipeline["reasons"] =>
  reasons.filter((reason) => reason.outcome === outcome).sort((a, b) => b.count - a.count);
