/** What may be done with events now, and those that wait for an answer. */
import type { Consent } from "./event";
import { createQueue } from "./queue";

export interface Gate<Held extends { bytes: number }> {
  state(): Consent;
  /** Keeps an event until the person has answered. */
  hold(entry: Held): void;
  /** Moves to a new state and hands out what was held. */
  move(next: Consent): readonly Held[];
  held(): number;
  /** Held events that had to make room. */
  dropped(): number;
}

export function createGate<Held extends { bytes: number }>(first: Consent): Gate<Held> {
  const waiting = createQueue<Held>();
  let state = first;
  return {
    state: () => state,
    hold: (entry) => waiting.push(entry),
    move(next) {
      state = next;
      return next === "pending" ? [] : waiting.clear();
    },
    held: () => waiting.rows().length,
    dropped: () => waiting.dropped(),
  };
}

/** The browser's own standing answers. Global Privacy Control is a no to sharing, not to a site's own analytics. */
export const standing = (navigator: Navigator): { doNotTrack: boolean; sharingDenied: boolean } => ({
  doNotTrack: navigator.doNotTrack === "1" || navigator.doNotTrack === "yes",
  sharingDenied: (navigator as { globalPrivacyControl?: unknown }).globalPrivacyControl === true,
});
