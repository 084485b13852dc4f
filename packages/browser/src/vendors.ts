/** The third parties that get each event too: one that throws, blocks or is missing costs neither the others nor the page. */
import type { Consents, Target } from "./consent";
import { withoutText, type Destination, type Receipt, type VendorEvent, type WireEvent } from "./event";
import { guard } from "./guard";

/** How a call is named in the words of vendors, which our own service has no use for. */
export interface Words {
  group: string;
  act: string;
  tag?: string;
}

export interface Vendors {
  /** Lets those that are granted report what becomes of events later. */
  start(): void;
  /** Hands an event to those among the targets that may have it, with a receipt of each. */
  hand(event: WireEvent, words: Words, secret: string | undefined, to: (target: Target) => boolean): void;
  stop(): void;
}

export function createVendors(destinations: readonly Destination[], consents: Consents, now: () => number, withText: boolean, told: (receipt: Receipt) => void): Vendors {
  const running = new Map<Destination, unknown>();
  const report = ({ vendor }: Destination, event_id: string, status: Receipt["status"]): void => told({ event_id, vendor, status, at: new Date(now()).toISOString() });
  return {
    start() {
      for (const destination of destinations) {
        if (consents.of(destination.vendor) !== "granted" || running.has(destination)) continue;
        running.set(destination, guard(() => destination.start?.((receipt) => report(destination, receipt.event_id, receipt.status))));
      }
    },
    hand({ event_id, event_name, event_value, event_metadata, message_content }, { group, act, tag = event_name }, secret, to) {
      const text = JSON.stringify(event_metadata ?? {});
      for (const destination of destinations) {
        const { vendor } = destination;
        if (!to(vendor)) continue;
        const status = guard<Receipt["status"]>(() => {
          if (consents.of(vendor) !== "granted") return "blocked";
          const metadata = withoutText(text, secret);
          if (withText && message_content !== undefined) metadata["message_content"] = message_content;
          const event: VendorEvent = { id: event_id, name: event_name, value: event_value, metadata, category: group, action: act, label: tag };
          return destination.send(event) ? "handed" : "absent";
        }, "failed");
        report(destination, event_id, status);
      }
    },
    stop() {
      for (const stop of running.values()) guard(() => typeof stop === "function" && (stop as () => void)());
      running.clear();
    },
  };
}
