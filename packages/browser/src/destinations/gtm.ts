/** Google Tag Manager: one flat push. Pushes of others are never touched, the array is never replaced. */
import type { Destination } from "../event";

export interface GtmOptions {
  /** Name of the data layer on `window`. Default: "dataLayer". */
  dataLayerName?: string;
}

export function gtm({ dataLayerName = "dataLayer" }: GtmOptions = {}): Destination {
  return {
    vendor: "gtm",
    send(event) {
      const page = globalThis as unknown as Record<string, unknown>;
      const layer = (page[dataLayerName] ??= []);
      if (!Array.isArray(layer)) return false;
      layer.push({
        event: event.name,
        event_category: event.category,
        event_action: event.action,
        event_label: event.label,
        value: event.value,
        custom_parameters: { ...event.metadata },
        event_id: event.id,
      });
      return true;
    },
  };
}
