import { createContext, type ReactNode } from "react";

import { createAnalytics, type Analytics } from "../index";

/** Where no provider is mounted there is a service, one that does nothing. */
export const AnalyticsContext = createContext<Analytics>(createAnalytics({ enabled: false, endpoint: "", writeKey: "" }));

/** The service comes from outside, made once: StrictMode, which mounts twice, makes no second one. */
export const AnalyticsProvider = ({ analytics, children }: { analytics: Analytics; children?: ReactNode }): ReactNode => (
  <AnalyticsContext.Provider value={analytics}>{children}</AnalyticsContext.Provider>
);
