/** Google Tag Manager: one flat push. Pushes of others are never touched, the array is never replaced. */
import type { Destination, Receipt } from "../event";
import { remember } from "../own";

export interface GtmOptions {
  /** Name of the data layer on `window`. Default: "dataLayer". */
  dataLayerName?: string;
  /** Longest wait for Google Tag Manager to take an event, its loading included, milliseconds. Default: 10000. */
  timeout?: number;
}

/** GTM calls back by then even if a tag still runs, milliseconds. */
const TAGS_MS = 2_000;
const MOST_WAITING = 1_000;

/** GTM merges plain objects into those of earlier pushes, which would give this event the parameters of others. */
class Parameters {
  [key: string]: unknown;
}

/** Why GTM did not call back: it is there and silent, it was asked for and is not there, or nobody asked for it. */
function silence(): Receipt["status"] {
  const { google_tag_manager: loaded, document } = globalThis as unknown as { google_tag_manager?: object; document?: Document };
  if (Object.keys(loaded ?? {}).some((key) => key.startsWith("GTM-"))) return "failed";
  return document?.querySelector('script[src*="/gtm.js"]') ? "blocked" : "absent";
}

/**
 * Pushes events to the data layer. `delivered`: GTM called back, so it took the event and its tags fired or ran longer
 * than 2 s. Where it does not call back: `failed` (it is loaded), `blocked` (its script was asked for and did not come:
 * an ad blocker, a dead network) or `absent`; any of these may be followed by `delivered`.
 */
export function gtm({ dataLayerName = "dataLayer", timeout = 10_000 }: GtmOptions = {}): Destination {
  /** When the wait for each event ends, in order. */
  const waiting = new Map<string, number>();
  let report: ((receipt: Pick<Receipt, "event_id" | "status">) => void) | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const sweep = (): void => {
    timer = undefined;
    const now = Date.now();
    for (const [id, until] of waiting) {
      if (until > now) {
        timer = setTimeout(sweep, until - now);
        return;
      }
      waiting.delete(id);
      report?.({ event_id: id, status: silence() });
    }
  };

  const callback = (id: string): Record<string, unknown> => {
    waiting.set(id, Date.now() + timeout);
    if (waiting.size > MOST_WAITING) waiting.delete(waiting.keys().next().value as string);
    timer ??= setTimeout(sweep, timeout);
    let told = false;
    return {
      // Each container calls once.
      eventCallback() {
        if (told) return;
        told = true;
        waiting.delete(id);
        report?.({ event_id: id, status: "delivered" });
      },
      eventTimeout: TAGS_MS,
    };
  };

  return {
    vendor: "gtm",
    start(sink) {
      report = sink;
      return () => {
        report = undefined;
        waiting.clear();
        clearTimeout(timer);
        timer = undefined;
      };
    },
    send(event) {
      const page = globalThis as unknown as Record<string, unknown>;
      const layer = (page[dataLayerName] ??= []);
      if (!Array.isArray(layer)) return false;
      remember(event.id);
      layer.push({
        event: event.name,
        event_category: event.category,
        event_action: event.action,
        event_label: event.label,
        value: event.value,
        custom_parameters: Object.assign(new Parameters(), event.metadata),
        event_id: event.id,
        ...(report ? callback(event.id) : {}),
      });
      return true;
    },
  };
}
