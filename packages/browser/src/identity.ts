/** Who: an anonymous id that stays in the browser, and the session, which all tabs of a site share. */
import type { Slot } from "./slot";

export const STORAGE_KEY = "twintrack";

export const IDLE_MS = 30 * 60_000;
export const LONGEST_MS = 24 * 3_600_000;

/** In the order in which it is written down. */
interface Known {
  anonymous: string;
  session: string;
  started: number;
  /** When its last event happened. */
  seen: number;
  /** Number of the next event. */
  count: number;
}

export interface Ids {
  anonymous_id: string;
  session_id: string;
  sequence: number;
}

export interface Identity {
  /** Ids for an event of that time, and of the person after so many sign-outs; counts the session's sequence on. */
  next(at: number, resets: number): Ids;
  /** Does what is due off the call: takes in sign-outs, here and elsewhere, and writes, which is told to every tab. `last`: without delay. */
  settle(at: number, resets: number, last?: boolean): void;
  /** Removes the ids, also those of an earlier visit. */
  forget(): void;
}

/** A session ends when idle, when it has lasted a day or lies in the future of a clock that went back. */
const isOver = ({ seen, started }: Known, at: number): boolean => Math.max(at - seen, started - at) > IDLE_MS || at - started > LONGEST_MS;

/** A new session is written down at once; how far it has counted, at most so often: each write is told to every tab. */
export const SAVE_MS = 1_000;

/**
 * Ids live in memory and are written down on the side, so that a call costs no storage. What others wrote, another tab or
 * another service on this page, is read before anything is made of what we know. Nothing here is
 * to be called while nothing may be kept, but `forget`. `signedOut`: the person whom we knew is gone, by another's word.
 */
export function createIdentity(slot: Slot, draw: (at: number) => string, ticks: () => number, signedOut: () => void): Identity {
  let memory: Known | undefined;
  /** Sign-outs taken in. */
  let taken = 0;
  /** A count that is not written down. */
  let unsaved = false;
  let saved = -Infinity;
  /** What was written down when we last looked: where we cannot write it stays, and is no news. */
  let read: unknown;

  const recall = (): void => {
    const text = slot();
    if (text === read) return;
    read = text;
    // What storage holds was written by anyone who can run script here: nothing in it is believed unseen.
    const [, anonymous, session, started, seen, count] = /^([\w-]+) ([\w-]+) (\d+) (\d+) (\d+)$/.exec(text as string) ?? [];
    // Two tabs count one session: the further count is the true one.
    if (!session || !anonymous || (memory?.session === session && memory.count > Number(count))) return;
    if (memory && memory.anonymous !== anonymous) signedOut();
    memory = { anonymous, session, started: Number(started), seen: Number(seen), count: Number(count) };
  };
  const save = (): void => {
    const known = memory;
    if (!known) return;
    saved = ticks();
    unsaved = false;
    slot(Object.values(known).join(" "));
  };
  /** The person and session of that time. */
  const meet = (at: number, resets: number): Known => {
    recall();
    const same = resets === taken;
    taken = resets;
    if (!memory || !same || isOver(memory, at)) {
      memory = { anonymous: memory && same ? memory.anonymous : draw(at), session: draw(at), started: at, seen: at, count: 0 };
      save();
    }
    return memory;
  };

  return {
    next(at, resets) {
      const known = meet(at, resets);
      if (at > known.seen) known.seen = at;
      unsaved = true;
      return { anonymous_id: known.anonymous, session_id: known.session, sequence: known.count++ };
    },
    settle(at, resets, last) {
      recall();
      if (resets !== taken) meet(at, resets);
      if (unsaved && (last || ticks() - saved > SAVE_MS)) save();
    },
    forget() {
      memory = undefined;
      slot(null);
    },
  };
}
