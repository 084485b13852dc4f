/**
 * One sender per site: whoever has the turn sends what all tabs have put on disk, its own and that of tabs that are gone.
 *
 * A Web Lock ends with its tab, however that dies. Where there are none (plain HTTP) the turn is a lease on disk, which the
 * reader of the disk takes in the transaction of its read.
 */
import type { Standing } from "./disk";

/** Longer than the longest request with its token; a tab that died with the lease holds the others up no longer than that. */
export const LEASE_MS = 60_000;

/** Does the work when it is this tab's turn; `leased` says whether the work must take the lease itself. */
export async function takeTurn(page: Window | undefined, name: string, work: (leased: boolean) => Promise<void>): Promise<void> {
  let started = false;
  try {
    await (page as Window).navigator.locks.request(name, () => {
      started = true;
      return work(false);
    });
  } catch {
    // There are none, or a page in a sandbox has locks that refuse.
    if (!started) await work(true);
  }
}

/** The standing with the lease in `owner`'s hand, or nothing where another tab holds it. A lease too long is one of a clock that went back. */
export function claimLease(standing: Standing | undefined, owner: string, now: number): Standing | undefined {
  const left = Number(standing?.lease) - now;
  if (left > 0 && left <= LEASE_MS && standing?.owner !== owner) return undefined;
  return { ...(standing as Standing), id: "~", owner, lease: now + LEASE_MS };
}
