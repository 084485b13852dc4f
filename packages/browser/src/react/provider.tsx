import { createContext, type ReactNode } from "react";

import type { Analytics } from "../client";
import { nothing } from "../nothing";

export const AnalyticsContext = createContext<Analytics>(nothing);

/** The service comes from outside, made once: StrictMode, which mounts twice, makes no second one. */
export const AnalyticsProvider = ({ analytics, children }: { analytics: Analytics; children?: ReactNode }): ReactNode => (
  <AnalyticsContext.Provider value={analytics}>{children}</AnalyticsContext.Provider>
);
