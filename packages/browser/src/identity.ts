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
  /** Reads what the browser keeps, before a call has to. */
  prepare(): void;
  /** Another tab has written this. */
  learn(text: string | null): void;
  /** Writes down what is due: off the call, since a write is told to every tab. */
  settle(): void;
  /** Writes down how far the session has counted. */
  save(): void;
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

/** A new session is written down at once; how far it has counted, at most so often: each write is told to every tab. */
export const SAVE_MS = 1_000;

/**
 * Ids live in memory and are written down on the side, so that a call costs no storage. What another tab wrote is
 * read again when the browser says so.
 */
export function createIdentity(storage: () => Storage | undefined, draw: () => string, allowed: boolean, ticks: () => number): Identity {
  let memory: Stored | undefined;
  let user: string | undefined;
  let stale = true;
  /** A count that is not written down. */
  let unsaved = false;
  let saved = -Infinity;
  // Reading the property alone throws where storage is blocked.
  const open = (): Storage | undefined => (allowed ? storage() : undefined);

  const learn = (text: string | null | undefined): void => {
    const known = text ? guard(() => parse(text)) : undefined;
    // Two tabs count one session: the further count is the true one.
    if (known && !(memory?.session === known.session && memory.sequence > known.sequence)) memory = known;
  };
  const read = (): Stored | undefined => {
    // Another service on this page, whose writes nobody tells us of, may have made the ids since.
    if (stale || !memory) learn(guard(() => open()?.getItem(STORAGE_KEY)));
    stale = false;
    return memory;
  };
  const save = (): void => {
    if (!memory) return;
    saved = ticks();
    unsaved = false;
    guard(() => open()?.setItem(STORAGE_KEY, JSON.stringify(memory)));
  };
  const renew = (anonymous: string, at: number): Stored => {
    memory = { anonymous, ...newSession(draw(), at) };
    save();
    return memory;
  };

  return {
    next(at) {
      let state = read() ?? renew(draw(), at);
      if (isOver(state, at)) state = renew(state.anonymous, at);
      if (at > state.seen) state.seen = at;
      unsaved = true;
      return { anonymous_id: state.anonymous, session_id: state.session, sequence: state.sequence++ };
    },
    settle() {
      if (unsaved && ticks() - saved > SAVE_MS) save();
    },
    save,
    prepare: () => void read(),
    learn,
    userId: () => user,
    identify(value) {
      user = value;
    },
    renew: (at) => void renew(draw(), at),
    persist(value) {
      allowed = value;
      stale = true;
    },
    forget() {
      memory = undefined;
      guard(() => storage()?.removeItem(STORAGE_KEY));
    },
  };
}
