import { useContext, useEffect, useRef } from "react";

import type { Analytics } from "../index";
import { AnalyticsContext } from "./provider";

/** The same object at every render: safe in dependency lists. Without a provider it does nothing. */
export const useAnalytics = (): Analytics => useContext(AnalyticsContext);

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
