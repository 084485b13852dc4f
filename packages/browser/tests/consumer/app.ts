/** A stranger's project: it uses every entry as the docs say, and must be told of what does not fit. */
import { StatsigClient } from "@statsig/js-client";
import { BackendAnalyticsClient, createAnalytics, type Analytics, type Configuration, type Destination, type Stats, type Tracked } from "@twintrack/browser";
import { explain } from "@twintrack/browser/debug";
import { gtm } from "@twintrack/browser/gtm";
import { mask } from "@twintrack/browser/mask";
import { AnalyticsProvider, useAnalytics, useTrackOnce } from "@twintrack/browser/react";
import { statsig } from "@twintrack/browser/statsig";
import { tapDataLayer, tapStatsig } from "@twintrack/browser/taps";

const client = new StatsigClient("client-key", { userID: "ada" });
const own: Destination = { vendor: "gtm", send: ({ id, name }) => id !== name };
const configuration: Configuration = {
  endpoint: "/api/analytics/events",
  writeKey: "wk",
  destinations: [statsig(client), statsig(() => undefined), gtm({ dataLayerName: "layer", timeout: 5_000 }), own],
  mask,
  beforeSend: (event) => (event.event_name === "noise" ? null : event),
};
const analytics: Analytics = createAnalytics(explain(configuration));

export const tracked: Tracked = analytics.trackEvent({ name: "signed_up", value: 1, metadata: { plan: "pro", nested: { deep: [1, "a"] } } });
export const id: string = tracked.id;
export const fate: Promise<string> = (async () => await tracked)();
export const stops: (() => void)[] = [tapStatsig(analytics, client), tapDataLayer(analytics, { googleEvents: true })];
export const stats: Stats = analytics.stats();
export const alone: Promise<void> = BackendAnalyticsClient({ endpoint: "/e", writeKey: "wk" }).flush();

export function useSignUp(): () => string {
  const { trackConversion } = useAnalytics();
  useTrackOnce((service) => service.page("sign up"));
  return () => trackConversion("sign_up").id;
}
export const Provider: typeof AnalyticsProvider = AnalyticsProvider;

// @ts-expect-error an endpoint is not optional
createAnalytics({ writeKey: "wk" });
// @ts-expect-error a name is text
analytics.trackEvent({ name: 1 });
// @ts-expect-error there is no such option
createAnalytics({ endpoint: "/e", writeKey: "wk", flushInterval_seconds: 2 });
// @ts-expect-error an unknown answer
analytics.consent("maybe");
// @ts-expect-error a client must be able to log
statsig({ track: () => undefined });
// @ts-expect-error what is masked is text
mask(1);
