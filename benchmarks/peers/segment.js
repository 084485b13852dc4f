import { AnalyticsBrowser } from "@segment/analytics-next";

export const start = () => {
  const analytics = AnalyticsBrowser.load(
    {
      writeKey: "bench",
      cdnSettings: { integrations: { "Segment.io": { apiKey: "bench", apiHost: `${location.host}/v1`, protocol: "http" } } },
    },
    { integrations: { "Segment.io": true } },
  );
  return (name, metadata) => void analytics.track(name, metadata);
};
