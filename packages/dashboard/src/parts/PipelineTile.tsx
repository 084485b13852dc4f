import { useQuery } from "@tanstack/react-query";
import { Archive, CircleCheck, CircleX, Database, DatabaseZap, Inbox, ShieldCheck } from "lucide-react";
import { type ReactNode, useEffect, useRef, useState } from "react";
import type { Pipeline } from "../api";
import { classes } from "../classes";
import { balanceWords, LAG_WORDS, lagLevel, rate } from "../flow";
import { bytes, count, duration, plural, sentence, short } from "../format";
import { queries } from "../queries";
import { Chip, type Tone } from "./Chip";
import { RelativeInstant } from "./Instant";
import { Reasons } from "./Reasons";
import styles from "./PipelineTile.module.css";
import { Bone, Tile } from "./Tile";

const LAG_TONES: Readonly<Record<ReturnType<typeof lagLevel>, Tone>> = { none: "plain", fresh: "good", slow: "warn", stuck: "bad" };

/** From the wire to the table: how many events are where, and whether they add up. */
export const PipelineTile = () => {
  const query = useQuery(queries.pipeline());
  return (
    <Tile
      title="Pipeline"
      note="all events of this project so far"
      query={query}
      skeleton={<PipelineSkeleton />}
      controls={query.data && !query.error && <Store pipeline={query.data} />}
    >
      {(pipeline) => <Flow pipeline={pipeline} />}
    </Tile>
  );
};

const Store = ({ pipeline: { store, started_at } }: { pipeline: Pipeline }) => (
  <>
    <span className={styles.since}>
      started <RelativeInstant at={started_at} />
    </span>
    <Chip tone={store.ok ? "good" : "bad"} icon={store.ok ? Database : DatabaseZap} large>
      {store.engine} {store.ok ? "answers" : "does not answer"}
    </Chip>
  </>
);

/** Events per second of a counter, over the last two answers. */
const useRate = (as_of: string, value: number): number | null => {
  const [current, setCurrent] = useState<number | null>(null);
  const last = useRef<{ as_of: string; value: number } | null>(null);
  useEffect(() => {
    const before = last.current;
    if (before?.as_of === as_of) return;
    last.current = { as_of, value };
    setCurrent(rate(before, { as_of, value }));
  }, [as_of, value]);
  return current;
};

const Flow = ({ pipeline }: { pipeline: Pipeline }) => {
  const { as_of, received, accepted, in_spool, stored, quarantined, lag_seconds, spool_bytes, latency_seconds, balance, store, reasons } = pipeline;
  const arriving = useRate(as_of, received);
  const storing = useRate(as_of, stored);
  const level = lagLevel(lag_seconds);
  return (
    <>
      <ol className={styles.flow}>
        <Station name="Received" icon={<Inbox size={16} aria-hidden />} value={received} note={<PerSecond value={arriving} />} />
        <Station
          name="Accepted"
          icon={<ShieldCheck size={16} aria-hidden />}
          value={accepted}
          moving={(arriving ?? 0) > 0}
          note={latency_seconds ? <span title={`Time to acknowledge: median ${duration(latency_seconds.p50)}, 95 % ${duration(latency_seconds.p95)}`}>99 % within {duration(latency_seconds.p99)}</span> : "on disk before the answer"}
        />
        <Station
          name="In spool"
          icon={<Archive size={16} aria-hidden />}
          value={in_spool}
          moving={(arriving ?? 0) > 0}
          waiting={in_spool > 0}
          note={`${bytes(spool_bytes)} on disk`}
        />
        <Station
          name="Stored"
          icon={<Database size={16} aria-hidden />}
          value={stored}
          moving={(storing ?? 0) > 0}
          broken={!store.ok}
          note={<PerSecond value={storing} />}
          before={
            <Chip tone={LAG_TONES[level]} title="Age of the oldest accepted event that cannot be queried yet">
              {level === "none" ? (
                LAG_WORDS.none
              ) : (
                <span>
                  {duration(lag_seconds)} behind<span className={styles.lagWords}>, {LAG_WORDS[level]}</span>
                </span>
              )}
            </Chip>
          }
        />
      </ol>
      {!store.ok && (
        <p className={classes(styles.line, styles.bad)} role="status">
          <DatabaseZap size={16} aria-hidden />
          <span>
            <strong>The store does not answer.</strong> Events are still accepted and wait in the spool.
            {store.error && <> It said: {sentence(store.error)}</>}
          </span>
        </p>
      )}
      <div className={styles.foot}>
        <div className={styles.exits} role="group" aria-label="Events that took another way">
          <Reasons outcome="duplicate" value={pipeline.duplicate} reasons={reasons} />
          <Reasons outcome="rejected" value={pipeline.rejected} reasons={reasons} />
          <Reasons outcome="dropped" value={pipeline.dropped} reasons={reasons} />
          <Reasons outcome="retry" value={pipeline.retry} reasons={reasons} />
          {pipeline.expired > 0 && <Reasons outcome="expired" value={pipeline.expired} reasons={reasons} />}
          <Reasons outcome="quarantined" value={quarantined} reasons={reasons} />
          {pipeline.erased > 0 && <Reasons outcome="erased" value={pipeline.erased} reasons={reasons} />}
        </div>
        <p className={classes(styles.balance, balance.holds ? styles.good : styles.bad)}>
          {balance.holds ? <CircleCheck size={16} aria-hidden /> : <CircleX size={16} aria-hidden />}
          <span>
            <strong>{balance.holds ? "The balance holds." : "The balance does not hold."}</strong> {balanceWords(balance, pipeline.erasing)}
          </span>
        </p>
      </div>
    </>
  );
};

const PerSecond = ({ value }: { value: number | null }) => (
  <>{value === null ? "measuring …" : value === 0 ? "none just now" : `${value < 10 ? Number(value.toFixed(1)) : short(Math.round(value))} a second`}</>
);

type StationProps = {
  name: string;
  icon: ReactNode;
  value: number;
  note: ReactNode;
  /** Said on the way in, between the station before and this one. */
  before?: ReactNode;
  /** Whether events come in right now. Default false. */
  moving?: boolean;
  waiting?: boolean;
  broken?: boolean;
};

const Station = ({ name, icon, value, note, before, moving = false, waiting = false, broken = false }: StationProps) => (
  <li className={classes(styles.station, moving && styles.moving, broken && styles.broken)}>
    {before && <div className={styles.before}>{before}</div>}
    <div className={classes(styles.node, waiting && styles.waiting)}>{icon}</div>
    <p className={styles.name}>{name}</p>
    <p className={styles.value} title={plural(value, "event")}>
      {value < 1e9 ? count(value) : short(value)}
    </p>
    <p className={styles.stationNote}>{note}</p>
  </li>
);

const PipelineSkeleton = () => (
  <>
    <div className={styles.flow}>
      {["a", "b", "c", "d"].map((key) => (
        <div key={key} className={styles.station}>
          <Bone width="32px" height="32px" />
          <Bone width="72px" height="14px" />
          <Bone width="128px" height="28px" />
          <Bone width="96px" height="14px" />
        </div>
      ))}
    </div>
    <div className={styles.foot}>
      <Bone width="320px" height="28px" />
      <Bone width="260px" height="20px" />
    </div>
  </>
);
