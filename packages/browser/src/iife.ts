/** The script-tag build: everything under `window.twintrack`. */
export { BackendAnalyticsClient, createAnalytics } from "./index";
export { gtm } from "./destinations/gtm";
export { statsig } from "./destinations/statsig";
