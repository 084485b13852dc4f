/** Whether an event has reached one place, and what that place got of it. Pure. */

export type Arrival =
  | { state: "waiting" }
  /** Not seen within PATIENCE_MS; it may still come, the SDK sends again what was not acknowledged. */
  | { state: "late" }
  /** `after`: milliseconds from the click until this page saw it there. `got`: what the place holds. */
  | { state: "arrived"; after: number; got: unknown }
  | { state: "failed"; why: string };

/** Time within which an event is usually everywhere. Milliseconds. */
export const PATIENCE_MS = 20_000;
/** Time after which this page no longer looks. Milliseconds. */
export const GIVE_UP_MS = 600_000;

/** The state after one more look at `age` milliseconds since the click; `got` is undefined where nothing was found. */
export const settle = (before: Arrival, got: unknown, age: number): Arrival => {
  if (!isOpen(before)) return before;
  if (got !== undefined) return { state: "arrived", after: Math.max(0, age), got };
  if (age > GIVE_UP_MS) return { state: "failed", why: "not seen in 10 min" };
  return { state: age > PATIENCE_MS ? "late" : "waiting" };
};

export const isOpen = ({ state }: Arrival): boolean => state === "waiting" || state === "late";
