/** What a reader chose once and keeps: in this browser only. */

import { useSyncExternalStore } from "react";
import type { Zone } from "./format";

export type Theme = "system" | "light" | "dark";

export type Preferences = {
  /** Colours of the page. Default `system`: as the device asks. */
  theme: Theme;
  /** Zone of every time on every page. Default `utc`, as the store keeps them. */
  zone: Zone;
  /** Whether single keys (`/`, `?`) do something outside of inputs. Default true. */
  shortcuts: boolean;
  /** Palette slots of series names, so that a name keeps its colour over visits. */
  slots: Record<string, number>;
};

const read = (name: string): string | null => {
  try {
    return localStorage.getItem(`twintrack.${name}`);
  } catch {
    return null;
  }
};

const write = (name: string, value: string): void => {
  try {
    localStorage.setItem(`twintrack.${name}`, value);
  } catch {
    // Closed or full storage costs only the memory of the choice.
  }
};

/** Names whose colour is remembered; beyond it the oldest are forgotten. */
const SLOTS_KEPT = 200;

export const readSlots = (text: string | null): Record<string, number> => {
  if (!text) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null) return {};
    return Object.fromEntries(Object.entries(value).filter((entry): entry is [string, number] => Number.isInteger(entry[1])));
  } catch {
    return {};
  }
};

const theme = read("theme");
let current: Preferences = {
  theme: theme === "light" || theme === "dark" ? theme : "system",
  zone: read("zone") === "local" ? "local" : "utc",
  shortcuts: read("shortcuts") !== "off",
  slots: readSlots(read("slots")),
};
const listeners = new Set<() => void>();

export const setPreferences = (change: Partial<Preferences>): void => {
  current = { ...current, ...change };
  if (change.theme) {
    if (change.theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = change.theme;
    write("theme", change.theme);
  }
  if (change.zone) write("zone", change.zone);
  if (change.shortcuts !== undefined) write("shortcuts", change.shortcuts ? "on" : "off");
  if (change.slots) write("slots", JSON.stringify(Object.fromEntries(Object.entries(change.slots).slice(-SLOTS_KEPT))));
  for (const listener of listeners) listener();
};

const subscribe = (listener: () => void) => {
  listeners.add(listener);
  return () => void listeners.delete(listener);
};

export const usePreferences = (): Preferences => useSyncExternalStore(subscribe, () => current);

const darkMedia = window.matchMedia("(prefers-color-scheme: dark)");
const subscribeMedia = (listener: () => void) => {
  darkMedia.addEventListener("change", listener);
  return () => darkMedia.removeEventListener("change", listener);
};

/** Whether the page is dark now, by choice or by the device. */
export const useDark = (): boolean => {
  const { theme } = usePreferences();
  const device = useSyncExternalStore(subscribeMedia, () => darkMedia.matches);
  return theme === "system" ? device : theme === "dark";
};
