/** React: a provider for one service, a hook that gives it, and nothing sent where no provider is mounted. */
import { createContext, createElement, useContext, useEffect, useRef, type ReactNode } from "react";

import type { Analytics } from "../client";

const nothing: Analytics = {
  trackEvent: () => "",
  trackInteraction: () => "",
  trackFeatureUsage: () => "",
  trackConversion: () => "",
  trackError: () => "",
  trackMessage: () => "",
  page: () => "",
  identify: () => "",
  reset: () => undefined,
  consent: () => undefined,
  flush: () => Promise.resolve(),
  shutdown: () => Promise.resolve(),
  stats: () => ({ queued: 0, held: 0, dropped: 0, discarded: 0, refused: 0, rejected: 0, sent: 0, killed: false }),
};

const Context = createContext<Analytics>(nothing);

/** The service comes from outside, so that StrictMode, which mounts twice, makes no second one. */
export const AnalyticsProvider = ({ analytics, children }: { analytics: Analytics; children?: ReactNode }): ReactNode =>
  createElement(Context.Provider, { value: analytics }, children);

/** The same object at every render: safe in dependency lists. */
export const useAnalytics = (): Analytics => useContext(Context);

/** Tracks once when the component first mounts, however often StrictMode runs its effects. */
export function useTrackOnce(track: (analytics: Analytics) => void): void {
  const analytics = useAnalytics();
  const done = useRef(false);
  useEffect(() => {
    if (done.current) return;
    done.current = true;
    track(analytics);
  }, [analytics, track]);
}
