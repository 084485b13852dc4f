import { newTracker, trackSelfDescribingEvent } from "@snowplow/browser-tracker";

export const start = () => {
  newTracker("bench", location.origin, { appId: "bench", encodeBase64: false });
  return (name, data) => trackSelfDescribingEvent({ event: { schema: `iglu:bench/${name}/jsonschema/1-0-0`, data } });
};
