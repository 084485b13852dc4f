/**
 * What the project wants of its browsers, asked for at the start, when the page becomes visible, once a minute while it is, and
 * as soon as an answer names another version. Also by those that are switched off: how else would they hear that they no longer are.
 */
import type { Clockwork } from "./environment";
import { guard } from "./guard";
import type { Slot } from "./slot";

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
  current(): Config;
  /** Until the service has answered, what it said at an earlier load. */
  recall(): void;
  /** An answer says how things are. */
  heard(config: Config): void;
  /** Asks; `fresh` where the browser's own copy will not do. */
  ask(fresh?: boolean): Promise<void>;
}

/** The document lies beside the endpoint. `changed` is told what to keep of a new one. */
export function createConfigs(endpoint: string, writeKey: string, clockwork: Clockwork, slot: Slot, changed: (text?: string) => void): Configs {
  let config: Config = {};
  let asked: unknown;

  /** Whether the text is a document, and one that says something new. */
  const take = (text: unknown): boolean => {
    const found = JSON.parse(text as string) as Config;
    const { version } = config;
    if (typeof found.version === "number") config = found;
    return version !== config.version;
  };
  const ask = async (fresh?: boolean): Promise<void> => {
    try {
      const answer = await clockwork.fetch(`${endpoint.replace(/[^/]*$/, "config")}?write_key=${encodeURIComponent(writeKey)}`, { credentials: "omit", cache: fresh ? "no-cache" : "default" });
      const text = await answer.text();
      if (answer.ok && take(text)) changed(text);
    } catch {
      // The next look is soon enough.
    }
  };
  return {
    current: () => config,
    recall: () => void guard(() => take(slot()) && changed()),
    heard({ kill, version }) {
      config.kill = kill === true;
      if (version === undefined || version === config.version || version === asked) return;
      asked = version;
      void ask(true);
    },
    ask,
  };
}
