/** `@twintrack/browser/react`: a provider for one service and the hook that gives it. */
export { AnalyticsProvider } from "./provider";
export { useAnalytics, useTrackOnce } from "./use-analytics";
