/** `@twintrack/browser`: import anywhere, also on a server, where all of it does nothing. */
import { createBackendClient, type BackendClient } from "./backend";
import { createClient, type Analytics, type Configuration } from "./client";
import { surroundings } from "./environment";
import type { BackendConfiguration } from "./options";

export type { BackendClient } from "./backend";
export type { Analytics, Configuration, MessageInput, Stats } from "./client";
export type { BackendConfiguration, BackendStats } from "./options";
export type { Fate, Tracked } from "./outbox";
export type { Choice } from "./consent";
export type { Answered, Consent, Debug, Destination, Metadata, Receipt, Source, Stage, Vendor, VendorEvent, WireEvent } from "./event";

/** The service: one call sends an event to every destination under one id. */
export const createAnalytics = (configuration: Configuration): Analytics => createClient(configuration, surroundings());

/** Our own service's client alone, for those who already make their events. On a server, and in a worker, it does nothing. */
export function BackendAnalyticsClient(configuration: BackendConfiguration): BackendClient {
  const { clockwork, window: page } = surroundings();
  const client = createBackendClient(configuration, clockwork, page);
  client.start();
  return client;
}
