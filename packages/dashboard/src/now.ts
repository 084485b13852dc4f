/** One clock for all relative times: a single timer, however many rows tick. */

import { useSyncExternalStore } from "react";

let now = Date.now();
let timer: ReturnType<typeof setInterval> | null = null;
const listeners = new Set<() => void>();

const subscribe = (listener: () => void) => {
  listeners.add(listener);
  timer ??= setInterval(() => {
    now = Date.now();
    for (const tell of listeners) tell();
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0 && timer !== null) {
      clearInterval(timer);
      timer = null;
    }
  };
};

const read = (): number => {
  // Without a timer the last tick may be long ago.
  if (timer === null && Date.now() - now >= 1000) now = Date.now();
  return now;
};

/** The browser's time in milliseconds, moving once a second. */
export const useNow = (): number => useSyncExternalStore(subscribe, read);
