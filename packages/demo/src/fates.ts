/** What became of each event in the three places, asked until each has answered. */
import { useEffect, useRef, useState } from "react";

import { type Arrival, isOpen, PATIENCE_MS, settle } from "./arrival";

export interface Fate {
  id: string;
  name: string;
  /** When it was tracked, milliseconds since 1970. */
  at: number;
  statsig: Arrival;
  gtm: Arrival;
  clickhouse: Arrival;
  /** What was masked before it was written; undefined until the row is there. */
  masked: { field: string; rule: string }[] | undefined;
  /** The text of a message as typed and as stored; undefined for events without one. */
  typed: string | undefined;
  stored: string | undefined;
}

interface Trace {
  fate: string;
  reason: string | null;
  event: Record<string, unknown> | null;
  masked: { field: string; rule: string }[];
}

const POLL_MS = 250;
/** Late events are looked for in every this many rounds only. */
const LATE_ROUNDS = 8;
/** Cards kept. */
const KEPT = 50;
/** Columns worth a look in the demo; the dashboard shows the whole row. */
const COLUMNS = ["event_name", "event_value", "message_content", "user_id", "anonymous_id", "identity", "thread_id", "event_metadata"];

const inDataLayer = (id: string): unknown => {
  const layer = (window as unknown as { dataLayer?: unknown }).dataLayer;
  if (!Array.isArray(layer)) return undefined;
  return layer.find((entry: unknown) => typeof entry === "object" && entry !== null && (entry as { event_id?: unknown }).event_id === id);
};

const ask = async <Answer>(path: string): Promise<Answer> => {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return (await answer.json()) as Answer;
};

const inSandbox = async (id: string): Promise<unknown> => {
  const { events } = await ask<{ events: Record<string, unknown>[] }>(`/demo/vendor/events?event_id=${id}`);
  return events[0] && { event_name: events[0].event_name, value: events[0].value, metadata: events[0].metadata };
};

const columnsOf = (event: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(COLUMNS.flatMap((name) => (event[name] === null || event[name] === undefined || event[name] === "" ? [] : [[name, event[name]]])));

/** Looks once at each place that has not answered yet. Rejects where the service does not answer. */
const look = async (fate: Fate): Promise<Fate> => {
  const age = (): number => Date.now() - fate.at;
  const next = { ...fate, gtm: settle(fate.gtm, inDataLayer(fate.id), age()) };
  if (isOpen(fate.statsig)) next.statsig = settle(fate.statsig, await inSandbox(fate.id), age());
  if (isOpen(fate.clickhouse)) {
    const trace = await ask<Trace>(`/demo/trace/${fate.id}`);
    const row = trace.fate === "stored" && trace.event ? trace.event : undefined;
    next.clickhouse = settle(fate.clickhouse, row && columnsOf(row), age());
    if (row) {
      next.masked = trace.masked;
      next.stored = typeof row.message_content === "string" ? row.message_content : undefined;
      next.name = typeof row.event_name === "string" ? row.event_name : fate.name;
    } else if (trace.fate === "refused" || trace.fate === "dropped") {
      next.clickhouse = { state: "failed", why: `${trace.fate}: ${(trace.reason ?? "").replaceAll("_", " ")}` };
    }
  }
  return next;
};

export const isOpenFate = ({ statsig, gtm, clickhouse }: Fate): boolean => [statsig, gtm, clickhouse].some(isOpen);

export type Track = (id: string, name: string, typed?: string) => void;

/** The newest first; `add` starts to watch an event that was just tracked. `silent`: the service does not answer. */
export function useFates(): { fates: Fate[]; silent: boolean; add: Track } {
  const [fates, setFates] = useState<Fate[]>([]);
  const [silent, setSilent] = useState(false);
  const current = useRef<Fate[]>([]);
  const busy = useRef(false);
  const show = (next: Fate[]): void => {
    current.current = next;
    setFates(next);
  };
  useEffect(() => {
    let round = 0;
    const timer = setInterval(() => {
      round += 1;
      const due = current.current.filter((fate) => isOpenFate(fate) && (Date.now() - fate.at < PATIENCE_MS || round % LATE_ROUNDS === 0));
      if (busy.current || due.length === 0) return;
      busy.current = true;
      let failed = false;
      const onFailure = (fate: Fate): Fate => {
        failed = true;
        return { ...fate, ...late(fate) };
      };
      void Promise.all(due.map((fate) => look(fate).catch(() => onFailure(fate))))
        .then((looked) => {
          show(current.current.map((fate) => looked.find((other) => other.id === fate.id) ?? fate));
          setSilent(failed);
        })
        .finally(() => {
          busy.current = false;
        });
    }, POLL_MS);
    return () => clearInterval(timer);
  }, []);
  return {
    fates,
    silent,
    add: (id, name, typed) => {
      const waiting: Arrival = { state: "waiting" };
      // It may be there already; the other two are asked for.
      const gtm = settle(waiting, inDataLayer(id), 0);
      show([{ id, name, at: Date.now(), statsig: waiting, gtm, clickhouse: waiting, masked: undefined, typed, stored: undefined }, ...current.current].slice(0, KEPT));
    },
  };
}

/** What time alone does to the places nobody could ask. */
const late = (fate: Fate): Pick<Fate, "statsig" | "gtm" | "clickhouse"> => {
  const age = Date.now() - fate.at;
  return { statsig: settle(fate.statsig, undefined, age), gtm: settle(fate.gtm, inDataLayer(fate.id), age), clickhouse: settle(fate.clickhouse, undefined, age) };
};
