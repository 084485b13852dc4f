import { notifyManager, useQueryClient } from "@tanstack/react-query";
import { CloudOff, RotateCw } from "lucide-react";
import { useCallback, useSyncExternalStore } from "react";
import { isSilent } from "../api";
import controls from "./controls.module.css";
import { RelativeInstant } from "./Instant";
import styles from "./Silence.module.css";

/** When the newest of the answers on show was given, milliseconds since 1970, while the server is silent; else null. */
export const useSilence = (): number | null => {
  const cache = useQueryClient().getQueryCache();
  const subscribe = useCallback((tell: () => void) => cache.subscribe(notifyManager.batchCalls(tell)), [cache]);
  return useSyncExternalStore(subscribe, () => {
    const old = cache.findAll({ type: "active" }).filter(({ state }) => state.data !== undefined && isSilent(state.error));
    return old.length === 0 ? null : Math.max(...old.map(({ state }) => state.dataUpdatedAt));
  });
};

/** Says once, above everything, that what the page shows is old. */
export const Silence = ({ since }: { since: number }) => {
  const client = useQueryClient();
  return (
    <div className={styles.silence}>
      <CloudOff size={16} aria-hidden />
      <p>
        {/* The alert holds no time, else it would be told anew each second. */}
        <strong role="alert">The server does not answer.</strong> What you see is from <RelativeInstant at={new Date(since).toISOString()} />.
        This page keeps trying.
      </p>
      <button type="button" className={controls.button} onClick={() => void client.refetchQueries({ type: "active" })}>
        <RotateCw size={14} aria-hidden />
        Try now
      </button>
    </div>
  );
};
