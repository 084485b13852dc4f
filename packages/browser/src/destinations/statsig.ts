/** Statsig: an injected client, so that this package depends on none. Our id travels in the metadata. */
import type { Destination } from "../event";

export interface StatsigLike {
  logEvent(name: string, value?: string | number | null, metadata?: Record<string, string>): void;
}

const text = (value: unknown): string => (typeof value === "string" ? value : (JSON.stringify(value) ?? ""));

/** `client` may be a function for one that is made later; until then events are receipted `absent`. */
export function statsig(client: StatsigLike | (() => StatsigLike | undefined)): Destination {
  return {
    vendor: "statsig",
    send(event) {
      const found = typeof client === "function" ? client() : client;
      if (!found) return false;
      const metadata: Record<string, string> = {};
      for (const [key, value] of Object.entries(event.metadata)) if (value !== undefined && value !== null) metadata[key] = text(value);
      metadata["event_id"] = event.id;
      found.logEvent(event.name, event.value ?? null, metadata);
      return true;
    },
  };
}
