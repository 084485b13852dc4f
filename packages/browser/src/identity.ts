/** Who and which visit: an anonymous id that stays, a session that ends when idle. */
import { guard } from "./guard";

const IDLE_MS = 30 * 60_000;
const LONGEST_MS = 24 * 3_600_000;
const KEY = "twintrack";

interface Stored {
  anonymous: string;
  session: string;
  started: number;
  seen: number;
  sequence: number;
}

export interface Identity {
  /** Ids for an event that happens now; counts the session's sequence on. */
  next(): { anonymous_id: string; session_id: string; sequence: number };
  userId(): string | undefined;
  identify(user: string | undefined): void;
  /** A new person: anonymous id and session are drawn anew. */
  reset(): void;
  /** Whether ids may be kept in the browser's storage. */
  persist(allowed: boolean): void;
}

export function createIdentity(storage: Storage | undefined, draw: () => string, now: () => number, allowed: boolean): Identity {
  let memory: Stored | undefined;
  let user: string | undefined;

  const read = (): Stored | undefined => {
    const text = allowed ? guard(() => storage?.getItem(KEY) ?? null, null) : null;
    const found = text === null ? undefined : guard(() => JSON.parse(text) as Partial<Stored>, undefined);
    return found && typeof found.anonymous === "string" && typeof found.session === "string"
      ? { anonymous: found.anonymous, session: found.session, started: Number(found.started) || 0, seen: Number(found.seen) || 0, sequence: Number(found.sequence) || 0 }
      : memory;
  };
  const write = (state: Stored): void => {
    memory = state;
    if (allowed) guard(() => storage?.setItem(KEY, JSON.stringify(state)), undefined);
  };
  const fresh = (anonymous: string): Stored => ({ anonymous, session: draw(), started: now(), seen: now(), sequence: 0 });

  return {
    next() {
      const at = now();
      let state = read() ?? fresh(draw());
      if (at - state.seen > IDLE_MS || at - state.started > LONGEST_MS) state = fresh(state.anonymous);
      write({ ...state, seen: at, sequence: state.sequence + 1 });
      return { anonymous_id: state.anonymous, session_id: state.session, sequence: state.sequence };
    },
    userId: () => user,
    identify(value) {
      user = value;
    },
    reset() {
      user = undefined;
      write(fresh(draw()));
    },
    persist(value) {
      allowed = value;
      if (value && memory) write(memory);
      if (!value) guard(() => storage?.removeItem(KEY), undefined);
    },
  };
}
