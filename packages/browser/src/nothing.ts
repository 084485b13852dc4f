/** The service that does nothing: on a server, when switched off, and where no provider is mounted. */
import { settledAs } from "./backend";
import type { Analytics } from "./client";

export const off = settledAs("", "off");
const none = (): typeof off => off;
const settled = (): Promise<void> => Promise.resolve();
const ignore = (): void => undefined;

export const nothing: Analytics = {
  trackEvent: none,
  trackInteraction: none,
  trackFeatureUsage: none,
  trackConversion: none,
  trackError: none,
  trackMessage: none,
  page: none,
  identify: none,
  observe: none,
  reset: ignore,
  consent: ignore,
  flush: settled,
  shutdown: settled,
  stats: () => ({ tracked: 0, queued: 0, held: 0, sent: 0, rejected: 0, excluded: 0, refused: 0, dropped: 0, discarded: 0, recovered: 0, elsewhere: 0, retried: 0, storage: "memory", blocked: false, killed: false, main_thread_milliseconds: 0 }),
};
