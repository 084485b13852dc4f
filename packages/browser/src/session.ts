/** One visit: it ends when idle, when it has lasted a day or lies in the future of a clock that went back, and all tabs of a site share it. Pure. */

export const IDLE_MS = 30 * 60_000;
export const LONGEST_MS = 24 * 3_600_000;

export interface Session {
  session: string;
  started: number;
  /** When its last event happened. */
  seen: number;
  /** Number of the next event. */
  sequence: number;
}

export const newSession = (id: string, at: number): Session => ({ session: id, started: at, seen: at, sequence: 0 });

export const isOver = (session: Session, at: number): boolean => at - session.seen > IDLE_MS || at - session.started > LONGEST_MS || session.started - at > IDLE_MS;
