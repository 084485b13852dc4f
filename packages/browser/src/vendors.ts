/** The third parties that get each event too: one that throws, blocks or is missing costs neither the others nor the page. */
import type { Target } from "./consent";
import { withoutText, type Consent, type Destination, type Receipt, type WireEvent } from "./event";
import { guard } from "./guard";

/** How a call is named in the words of vendors, which our own service has no use for. */
export type Words = [category: string, action: string, label?: string];

export interface Vendors {
  /** Lets those that are granted report what becomes of events later. */
  start(): void;
  /** Hands an event to those among the targets that may have it, with a receipt of each. */
  hand(event: WireEvent, words: Words, secret: string | undefined, to: readonly Target[]): void;
  stop(): void;
}

export function createVendors(destinations: readonly Destination[], consentOf: (vendor: Target) => Consent, now: () => number, withText: boolean, told: (receipt: Receipt) => void): Vendors {
  const running = new Map<Destination, unknown>();
  const report = ({ vendor }: Destination, event_id: string, status: Receipt["status"]): void => told({ event_id, vendor, status, at: new Date(now()).toISOString() });
  return {
    start() {
      for (const destination of destinations) {
        if (consentOf(destination.vendor) !== "granted" || running.has(destination)) continue;
        running.set(destination, guard(() => destination.start?.(({ event_id, status }) => report(destination, event_id, status))));
      }
    },
    hand({ event_id: id, event_name: name, event_value: value, event_metadata, message_content }, [category, action, label = name], secret, to) {
      for (const destination of destinations) {
        const { vendor } = destination;
        if (!to.includes(vendor)) continue;
        const status = guard<Receipt["status"]>(() => {
          if (consentOf(vendor) !== "granted") return "blocked";
          const metadata = withoutText(JSON.stringify(event_metadata ?? {}), secret);
          if (withText && message_content !== undefined) metadata["message_content"] = message_content;
          return destination.send({ id, name, value, metadata, category, action, label }) ? "handed" : "absent";
        }, "failed");
        report(destination, id, status);
      }
    },
    stop() {
      for (const stop of running.values()) guard(stop as () => void);
    },
  };
}
