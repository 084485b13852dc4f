/** The page's own wiring: the real Statsig client pointed at the sandbox, a real data layer, our SDK on top. */
import { StatsigClient } from "@statsig/js-client";
import { createAnalytics, type Analytics } from "@twintrack/browser";
import { explain } from "@twintrack/browser/debug";
import { gtm } from "@twintrack/browser/gtm";
import { statsig } from "@twintrack/browser/statsig";
import { tapDataLayer, tapStatsig } from "@twintrack/browser/taps";

interface DemoConfiguration {
  write_key: string;
  endpoint: string;
  statsig: { sdk_key: string; log_event_url: string; initialize_url: string; exception_url: string };
}

export interface Demo {
  analytics: Analytics;
  flushVendors: () => void;
}

export async function setUp(): Promise<Demo> {
  const answer = await fetch("/demo/config.json");
  if (!answer.ok) throw new Error(`the demo's configuration answered ${answer.status}`);
  const configuration = (await answer.json()) as DemoConfiguration;
  const { sdk_key, log_event_url, initialize_url, exception_url } = configuration.statsig;
  const absolute = (path: string): string => new URL(path, location.origin).href;
  const client = new StatsigClient(
    sdk_key,
    {},
    { networkConfig: { logEventUrl: absolute(log_event_url), initializeUrl: absolute(initialize_url), sdkExceptionUrl: absolute(exception_url) }, disableStorage: true },
  );
  // Without internet the client starts from values of our own; its events go to the sandbox like any others.
  client.dataAdapter.setDataLegacy(
    JSON.stringify({ has_updates: true, time: 1, feature_gates: {}, dynamic_configs: {}, layer_configs: {}, hash_used: "djb2" }),
    {},
  );
  client.initializeSync({ disableBackgroundCacheRefresh: true });
  const options = { endpoint: configuration.endpoint, writeKey: configuration.write_key, flushInterval: 300, destinations: [statsig(client), gtm()] };
  // With ?debug in the address the console explains each event.
  const analytics = createAnalytics(new URLSearchParams(location.search).has("debug") ? explain(options) : options);
  // What a visitor types into the console, as other code of a page would: dataLayer.push({ event: "hello" }).
  tapStatsig(analytics, client);
  tapDataLayer(analytics);
  return { analytics, flushVendors: () => void client.flush() };
}
