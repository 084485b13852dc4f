/** What may be done with events now, for our own service and for each vendor. Pure but for what it remembers. */
import type { Answered, Consent, Vendor } from "./event";

/** Where an event goes: `backend` is our own service. */
export type Target = "backend" | Vendor;
export type Choice = Consent | Partial<Record<Target, Consent>>;

const STATES: readonly unknown[] = ["granted", "denied", "pending"];

export interface Consents {
  of(target: Target): Consent;
  /** Takes in an answer; whether it changed anything. What is no answer changes nothing. */
  answer(choice: Choice, at: number): boolean;
  /** What an event says of it: the bare state until a person has answered. */
  stamp(): Consent | Answered;
}

interface Wishes {
  requireConsent?: boolean;
  respectDoNotTrack?: boolean;
}

/** Global Privacy Control is a no to sharing, whatever else is said, and not to a site's own analytics. */
export function createConsents({ requireConsent, respectDoNotTrack }: Wishes, navigator: Navigator | undefined): Consents {
  const { doNotTrack, globalPrivacyControl } = (navigator ?? {}) as Navigator & { globalPrivacyControl?: unknown };
  const first = respectDoNotTrack && doNotTrack === "1" ? "denied" : requireConsent ? "pending" : "granted";
  const states: Record<Target, Consent> = { backend: first, statsig: first, gtm: first };
  const targets = Object.keys(states) as Target[];
  let granted: number | undefined;
  const of = (target: Target): Consent => (target !== "backend" && globalPrivacyControl === true ? "denied" : states[target]);
  return {
    of,
    answer(choice, at) {
      let changed = false;
      for (const target of targets) {
        const next = typeof choice === "string" ? choice : choice[target];
        if (!STATES.includes(next) || next === states[target]) continue;
        if (granted === undefined || target === "backend") granted = at;
        states[target] = next as Consent;
        changed = true;
      }
      return changed;
    },
    stamp: () => (granted === undefined ? states.backend : { state: states.backend, at: new Date(granted).toISOString(), denied: targets.filter((target): target is Vendor => target !== "backend" && of(target) === "denied") }),
  };
}
