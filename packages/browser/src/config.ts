/**
 * What the project wants of its browsers, asked for at the start, when the page becomes visible, once a minute while it is, and
 * as soon as an answer names another version. Also by those that are switched off: how else would they hear that they no longer are.
 */
import type { Clockwork } from "./environment";
import { guard } from "./guard";

/** The service's document. What it leaves out is as if nothing had been set. */
export interface Config {
  version?: number;
  kill?: boolean;
  queue?: "drain" | "discard";
  share?: number;
  gate?: string | null;
  sampling?: { default?: number; events?: Record<string, number> };
  batch?: { events?: number; bytes?: number; interval_milliseconds?: number };
  endpoint?: string | null;
}

/** Between two looks of a visible page, on average. */
export const POLL_MS = 60_000;

export interface Configs {
  now(): Config;
  /** Where batches go instead, if anywhere. */
  endpoint(): string | undefined;
  /** An answer says how things are. */
  heard(version: unknown, kill: boolean): void;
  /** Asks; `fresh` where the browser's own copy will not do. */
  ask(fresh: boolean): Promise<void>;
  forget(): void;
}

/** The document lies beside the endpoint. `storage` is undefined where nothing may be kept. */
export function createConfigs(endpoint: string, writeKey: string, clockwork: Clockwork, storage: () => Storage | undefined, changed: () => void): Configs {
  const address = `${endpoint.replace(/[^/]*$/, "config")}?write_key=${encodeURIComponent(writeKey)}`;
  const name = `twintrack ${address}`;
  let config: Config = {};
  let read = false;
  let asked: unknown;

  const take = (text: string | null): boolean => {
    const found = guard(() => JSON.parse(text ?? "") as Config | null, null);
    if (typeof found?.version !== "number") return false;
    config = found;
    return true;
  };
  /** Until it has answered, what it said at an earlier load. */
  const now = (): Config => {
    guard(() => {
      const box = read ? undefined : storage();
      if (!box) return;
      read = true;
      take(box.getItem(name));
    });
    return config;
  };
  const ask = async (fresh: boolean): Promise<void> => {
    try {
      const answer = await clockwork.fetch(address, { credentials: "omit", cache: fresh ? "no-cache" : "default" });
      const { version } = now();
      const text = await answer.text();
      if (!answer.ok || !take(text) || now().version === version) return;
      guard(() => storage()?.setItem(name, text));
      changed();
    } catch {
      // The next look is soon enough.
    }
  };
  return {
    now,
    endpoint: () => (typeof now().endpoint === "string" ? (now().endpoint as string) : undefined),
    heard(version, kill) {
      now().kill = kill;
      if (version === undefined || version === now().version || version === asked) return;
      asked = version;
      void ask(true);
    },
    ask,
    forget: () => guard(() => storage()?.removeItem(name)),
  };
}
