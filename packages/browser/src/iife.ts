/** The script-tag build: everything under `window.twintrack`, after what the inline stub took before it came. */
import { replay } from "./replay";

replay((globalThis as { twintrack?: unknown }).twintrack);

export { BackendAnalyticsClient, createAnalytics } from "./index";
export { gtm } from "./destinations/gtm";
export { statsig } from "./destinations/statsig";
