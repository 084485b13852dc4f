/**
 * One sender per site: whoever has the turn sends what all tabs have put on disk, its own and that of tabs that are gone.
 *
 * A Web Lock ends with its tab, however that dies. Where there are none (plain HTTP) the turn is a lease on disk, which the
 * reader of the disk takes in the transaction of its read.
 */
import type { Lease } from "./disk";
import type { Clockwork } from "./environment";
import { within } from "./within";

/** Longer than the longest request with its token; a tab that died with the lease holds the others up no longer than that. */
export const LEASE_MS = 60_000;

/**
 * Does the work when it is this tab's turn; `leased` says whether the work must take the lease itself: where there are no
 * locks, where a page in a sandbox has some that refuse, and where a tab that the system froze holds on to its own.
 */
export async function takeTurn(page: Window | undefined, name: string, clockwork: Clockwork, work: (leased: boolean) => Promise<void>): Promise<void> {
  let started: Promise<void> | undefined;
  const begin = (leased: boolean): Promise<void> => (started ??= work(leased));
  try {
    await within(clockwork, (page as Window).navigator.locks.request(name, () => begin(false)), LEASE_MS, () => begin(true));
  } catch {
    await begin(true);
  }
}

/** The lease in `owner`'s hand, or nothing where another tab holds it. A lease too long is one of a clock that went back. */
export function claimLease(known: Lease | undefined, owner: string, now: number): Lease | undefined {
  const left = Number(known?.until) - now;
  return left > 0 && left <= LEASE_MS && known?.owner !== owner ? undefined : { id: "~", owner, until: now + LEASE_MS };
}
