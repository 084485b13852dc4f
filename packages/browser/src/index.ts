/** `@twintrack/browser`: import anywhere, also on a server, where it does nothing. */
import { createBackendClient, type BackendConfiguration, type Clockwork } from "./backend";
import { createClient, type Analytics, type Configuration } from "./client";

export type { BackendClient, BackendConfiguration } from "./backend";
export type { Analytics, Configuration, MessageInput } from "./client";
export type { Consent, Destination, Metadata, Receipt, VendorEvent, WireEvent } from "./event";

const clockwork: Clockwork = {
  now: () => Date.now(),
  random: () => Math.random(),
  after: (work, milliseconds) => setTimeout(work, milliseconds),
  cancel: (timer) => clearTimeout(timer as number),
  fetch: (input, init) => fetch(input, init),
};

/** The service: one call sends an event to every destination under one id. */
export function createAnalytics(configuration: Configuration): Analytics {
  return createClient(configuration, {
    window: typeof window === "undefined" ? undefined : window,
    clockwork,
    fill: (bytes) => {
      crypto.getRandomValues(bytes);
    },
  });
}

/** Our own service's client alone, for those who already make their events. */
export const BackendAnalyticsClient = (configuration: BackendConfiguration): ReturnType<typeof createBackendClient> => createBackendClient(configuration, clockwork);
