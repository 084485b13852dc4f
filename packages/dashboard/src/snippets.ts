/** The code a team pastes to send its first event. Pure. */

/** The name every snippet sends. */
export const FIRST_NAME = "first_event";

export const NO_KEY = "YOUR_WRITE_KEY";

export type Place = {
  /** Where the server is, e.g. `https://track.example.com`. */
  origin: string;
  /** A public write key. */
  writeKey: string;
};

export const endpoint = (origin: string): string => `${origin}/api/analytics/events`;

export const INSTALL = "npm install @twintrack/browser";

export const npmSnippet = ({ origin, writeKey }: Place): string => `import { createAnalytics } from "@twintrack/browser";

export const analytics = createAnalytics({
  endpoint: ${JSON.stringify(endpoint(origin))},
  writeKey: ${JSON.stringify(writeKey)},
});

analytics.trackEvent({ name: ${JSON.stringify(FIRST_NAME)}, value: "hello" });`;

export const vendorSnippet = ({ origin, writeKey }: Place): string => `import { createAnalytics } from "@twintrack/browser";
import { gtm } from "@twintrack/browser/gtm";
import { statsig } from "@twintrack/browser/statsig";

export const analytics = createAnalytics({
  endpoint: ${JSON.stringify(endpoint(origin))},
  writeKey: ${JSON.stringify(writeKey)},
  destinations: [statsig(statsigClient), gtm()],
});`;

export const reactSnippet = ({ origin, writeKey }: Place): string => `import { createAnalytics } from "@twintrack/browser";
import { AnalyticsProvider, useAnalytics } from "@twintrack/browser/react";

const analytics = createAnalytics({
  endpoint: ${JSON.stringify(endpoint(origin))},
  writeKey: ${JSON.stringify(writeKey)},
});

export const App = () => (
  <AnalyticsProvider analytics={analytics}>
    <FirstEvent />
  </AnalyticsProvider>
);

const FirstEvent = () => {
  const { trackEvent } = useAnalytics();
  return (
    <button onClick={() => trackEvent({ name: ${JSON.stringify(FIRST_NAME)}, value: "hello" })}>
      Send
    </button>
  );
};`;

/** Text as one word of a POSIX shell. */
const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** One event by hand. The id and the time are fixed, so that running it twice shows a duplicate and not a second event. */
export const curlSnippet = ({ origin, writeKey }: Place, eventId: string, now: Date): string => {
  const event = {
    event_id: eventId,
    event_name: FIRST_NAME,
    event_value: "hello",
    anonymous_id: "curl",
    client_timestamp: now.toISOString(),
  };
  return [
    `curl ${quote(endpoint(origin))}`,
    `-H ${quote("Content-Type: application/json")}`,
    `-H ${quote(`X-Write-Key: ${writeKey}`)}`,
    `-d ${quote(`[${JSON.stringify(event)}]`)}`,
  ].join(" \\\n  ");
};
