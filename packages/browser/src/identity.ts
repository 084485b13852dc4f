/** Who: an anonymous id that stays in the browser, and the user the page named. */
import { guard } from "./guard";
import { isOver, newSession, type Session } from "./session";

export const STORAGE_KEY = "twintrack";

interface Stored extends Session {
  anonymous: string;
}

export interface Ids {
  anonymous_id: string;
  session_id: string;
  sequence: number;
}

export interface Identity {
  /** Ids for an event of that time; counts the session's sequence on. */
  next(at: number): Ids;
  userId(): string | undefined;
  identify(user: string | undefined): void;
  /** A new anonymous id and session. */
  renew(at: number): void;
  /** Whether ids may be read from and kept in the browser's storage. */
  persist(allowed: boolean): void;
  /** Removes the ids, also those of an earlier visit. */
  forget(): void;
}

/** What storage holds was written by anyone who can run script here: nothing in it is believed unseen. */
function parse(text: string): Stored | undefined {
  const found = JSON.parse(text) as Partial<Record<keyof Stored, unknown>> | null;
  const { anonymous, session, started, seen, sequence } = found ?? {};
  const whole = typeof anonymous === "string" && typeof session === "string" && [started, seen, sequence].every(Number.isSafeInteger);
  return whole ? { anonymous, session, started: Number(started), seen: Number(seen), sequence: Number(sequence) } : undefined;
}

export function createIdentity(storage: () => Storage | undefined, draw: () => string, allowed: boolean): Identity {
  let memory: Stored | undefined;
  let user: string | undefined;
  // Reading the property alone throws where storage is blocked.
  const open = (): Storage | undefined => (allowed ? storage() : undefined);

  const read = (): Stored | undefined =>
    guard(() => {
      const text = open()?.getItem(STORAGE_KEY);
      return text ? parse(text) : undefined;
    }, undefined) ?? memory;
  const write = (state: Stored): void => {
    memory = state;
    guard(() => open()?.setItem(STORAGE_KEY, JSON.stringify(state)), undefined);
  };

  return {
    next(at) {
      let state = read() ?? { anonymous: draw(), ...newSession(draw(), at) };
      if (isOver(state, at)) state = { anonymous: state.anonymous, ...newSession(draw(), at) };
      write({ ...state, seen: Math.max(at, state.seen), sequence: state.sequence + 1 });
      return { anonymous_id: state.anonymous, session_id: state.session, sequence: state.sequence };
    },
    userId: () => user,
    identify(value) {
      user = value;
    },
    renew(at) {
      write({ anonymous: draw(), ...newSession(draw(), at) });
    },
    persist(value) {
      allowed = value;
    },
    forget() {
      memory = undefined;
      guard(() => storage()?.removeItem(STORAGE_KEY), undefined);
    },
  };
}
