/**
 * Statsig: an injected client, so that this package depends on none. Our id travels in the metadata, and what the client
 * itself says about the requests with that id becomes receipts.
 */
import type { Destination, Receipt } from "../event";
import { MOST_OWN, remember } from "../own";

/** What is used of `@statsig/js-client`. A client without `on` is handed events all the same, but says nothing of them. */
export interface StatsigLike {
  logEvent(name: string, value?: string | number, metadata?: Record<string, string>): void;
  // Its listeners are typed event by event, which no narrower type of ours would fit.
  on?(name: "pre_logs_flushed" | "logs_flushed" | "error", listener: (event: any) => void): void;
  off?(name: "pre_logs_flushed" | "logs_flushed" | "error", listener: (event: any) => void): void;
  checkGate?(name: string): boolean;
  loadingStatus?: string;
}

type Report = (receipt: Pick<Receipt, "event_id" | "status">) => void;
interface Logged {
  metadata?: { event_id?: unknown } | null;
}

const text = (value: unknown): string => (typeof value === "string" ? value : (JSON.stringify(value) ?? ""));

/** Listens until the returned function is called. `pending`: each id the client has, and whether a failure was told. */
function listen(client: StatsigLike, pending: Map<string, boolean>, report: Report): () => void {
  let justBefore = false;
  const known = (events: readonly Logged[] = []): string[] => events.map(({ metadata }) => metadata?.event_id as string).filter((id) => pending.has(id));
  const listeners = {
    pre_logs_flushed: () => {
      justBefore = true;
      queueMicrotask(() => (justBefore = false));
    },
    logs_flushed: ({ events }: { events?: Logged[] }) => {
      // Said in the same breath it is a beacon, whose answer nobody reads: no proof of anything.
      if (justBefore) return;
      for (const id of known(events)) {
        pending.delete(id);
        report({ event_id: id, status: "delivered" });
      }
    },
    error: ({ requestArgs }: { requestArgs?: { data?: { events?: Logged[] } } }) => {
      // Its client may try again and then deliver: the id stays.
      for (const id of known(requestArgs?.data?.events)) {
        if (!pending.get(id)) report({ event_id: id, status: "failed" });
        pending.set(id, true);
      }
    },
  };
  const names = Object.keys(listeners) as (keyof typeof listeners)[];
  for (const name of names) client.on?.(name, listeners[name]);
  return () => {
    for (const name of names) client.off?.(name, listeners[name]);
  };
}

/**
 * Hands events to Statsig's client and tells what became of them: `delivered` once a request with the event was answered
 * with success, `failed` after a request that failed for good or after the client's own retries (it may be delivered
 * later). `client` may be a function for one that is made later; until then events are receipted `absent`.
 */
export function statsig(client: StatsigLike | (() => StatsigLike | undefined)): Destination & { gate(name: string): boolean | undefined } {
  const pending = new Map<string, boolean>();
  let report: Report | undefined;
  let heard: StatsigLike | undefined;
  let stop = (): void => undefined;

  const find = (): StatsigLike | undefined => {
    const found = typeof client === "function" ? client() : client;
    if (report && found && found !== heard) {
      stop();
      heard = found;
      stop = listen(found, pending, report);
    }
    return found;
  };

  return {
    vendor: "statsig",
    start(sink) {
      report = sink;
      find();
      return () => {
        stop();
        report = heard = undefined;
        pending.clear();
      };
    },
    send(event) {
      const found = find();
      if (!found) return false;
      const metadata: Record<string, string> = {};
      for (const [key, value] of Object.entries(event.metadata)) if (value !== undefined && value !== null) metadata[key] = text(value);
      metadata["event_id"] = event.id;
      remember(event.id);
      if (report) pending.set(event.id, false);
      if (pending.size > MOST_OWN) pending.delete(pending.keys().next().value as string);
      found.logEvent(event.name, event.value, metadata);
      return true;
    },
    /** Undefined while the client has no values: its no would be nobody's decision. */
    gate(name) {
      const found = find();
      return found?.checkGate && (found.loadingStatus ?? "Ready") === "Ready" ? found.checkGate(name) : undefined;
    },
  };
}
