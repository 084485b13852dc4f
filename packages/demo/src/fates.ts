/** What became of each event in the three places, asked until each has answered. */
import { useEffect, useRef, useState } from "react";

export type Arrival = { state: "waiting" } | { state: "arrived"; after: number } | { state: "failed"; why: string };

export interface Fate {
  id: string;
  label: string;
  name: string;
  at: number;
  statsig: Arrival;
  gtm: Arrival;
  clickhouse: Arrival;
  masked: { field: string; rule: string }[] | undefined;
  stored: string | undefined;
}

interface Trace {
  fate: string;
  reason: string | null;
  event: { event_name: string; message_content: string | null } | null;
  masked: { field: string; rule: string }[];
}

const POLL_MS = 250;
const PATIENCE_MS = 20_000;

const inDataLayer = (id: string): boolean => {
  const layer = (window as unknown as { dataLayer?: unknown }).dataLayer;
  return Array.isArray(layer) && layer.some((entry: unknown) => typeof entry === "object" && entry !== null && (entry as { event_id?: unknown }).event_id === id);
};

const inSandbox = async (id: string): Promise<boolean> => {
  const answer = await fetch(`/demo/vendor/events?event_id=${id}`);
  return answer.ok && ((await answer.json()) as { events: unknown[] }).events.length > 0;
};

const look = async (fate: Fate): Promise<Fate> => {
  const after = (): number => Date.now() - fate.at;
  const late = after() > PATIENCE_MS;
  const settle = (found: boolean): Arrival => (found ? { state: "arrived", after: after() } : late ? { state: "failed", why: "nothing within 20 s" } : { state: "waiting" });
  const next = { ...fate };
  if (fate.gtm.state === "waiting") next.gtm = settle(inDataLayer(fate.id));
  if (fate.statsig.state === "waiting") next.statsig = settle(await inSandbox(fate.id));
  if (fate.clickhouse.state === "waiting") {
    const answer = await fetch(`/demo/trace/${fate.id}`);
    const trace = answer.ok ? ((await answer.json()) as Trace) : undefined;
    if (trace?.fate === "stored") {
      next.clickhouse = { state: "arrived", after: after() };
      next.masked = trace.masked;
      next.stored = trace.event?.message_content ?? undefined;
      next.name = trace.event?.event_name ?? fate.name;
    } else if (trace?.fate === "refused" || trace?.fate === "dropped") {
      next.clickhouse = { state: "failed", why: trace.reason ?? trace.fate };
    } else {
      next.clickhouse = settle(false);
    }
  }
  return next;
};

const open = (fate: Fate): boolean => [fate.statsig, fate.gtm, fate.clickhouse].some((arrival) => arrival.state === "waiting");

/** The newest first; `add` starts to watch an event that was just tracked. */
export function useFates(): { fates: Fate[]; add: (id: string, label: string) => void } {
  const [fates, setFates] = useState<Fate[]>([]);
  const current = useRef<Fate[]>([]);
  const busy = useRef(false);
  const show = (next: Fate[]): void => {
    current.current = next;
    setFates(next);
  };
  useEffect(() => {
    const timer = setInterval(() => {
      if (busy.current || !current.current.some(open)) return;
      busy.current = true;
      void Promise.all(current.current.filter(open).map((fate) => look(fate).catch(() => fate)))
        .then((looked) => show(current.current.map((fate) => looked.find((other) => other.id === fate.id) ?? fate)))
        .finally(() => {
          busy.current = false;
        });
    }, POLL_MS);
    return () => clearInterval(timer);
  }, []);
  return {
    fates,
    add: (id, label) => {
      const waiting: Arrival = { state: "waiting" };
      const fate: Fate = { id, label, name: label, at: Date.now(), statsig: waiting, gtm: waiting, clickhouse: waiting, masked: undefined, stored: undefined };
      show([fate, ...current.current].slice(0, 50));
    },
  };
}
