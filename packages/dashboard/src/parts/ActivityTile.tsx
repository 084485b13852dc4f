import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { ChartColumnStacked, Table } from "lucide-react";
import { useEffect, useMemo } from "react";
import type { Activity } from "../api";
import { assignSlots, colourVariable, OTHER, slotOf } from "../colour";
import { count, plural, zoneName } from "../format";
import { setPreferences, usePreferences } from "../preferences";
import { queries } from "../queries";
import { SPANS, withLive } from "../search";
import { type Shaped, shape, totals } from "../series";
import { ActivityChart } from "./ActivityChart";
import { ActivityTable } from "./ActivityTable";
import styles from "./ActivityTile.module.css";
import { Segmented } from "./Segmented";
import { Bone, Empty, Tile } from "./Tile";

const SPAN_OPTIONS = SPANS.map((span) => ({ value: span, word: `${span} min` }));
const FORM_OPTIONS = [
  {
    value: "chart",
    word: (
      <>
        <ChartColumnStacked size={14} aria-hidden /> Chart
      </>
    ),
  },
  {
    value: "table",
    word: (
      <>
        <Table size={14} aria-hidden /> Table
      </>
    ),
  },
] as const;

/** Events per minute by name; as a picture or as the table behind it. */
export const ActivityTile = () => {
  const { minutes = 60, view } = useSearch({ from: "/" });
  const { zone } = usePreferences();
  const query = useQuery(queries.activity(minutes));
  const navigate = useNavigate({ from: "/" });
  const change = (values: Parameters<typeof withLive>[0]) => void navigate({ replace: true, resetScroll: false, search: withLive(values) });
  return (
    <Tile
      title="Events per minute"
      note={`by name, times in ${zoneName(zone)}`}
      query={query}
      skeleton={<Bone height="264px" />}
      controls={
        <>
          <Segmented label="Span" value={minutes} options={SPAN_OPTIONS} onChange={(span) => change({ minutes: span })} />
          <Segmented label="Form" value={view ?? "chart"} options={FORM_OPTIONS} onChange={(form) => change({ view: form === "table" ? form : undefined })} />
        </>
      }
    >
      {(activity) => <Content activity={activity} table={view === "table"} />}
    </Tile>
  );
};

const byName = (a: { name: string }, b: { name: string }): number =>
  // The rest lies on top; all others keep their place in the stack while their ranks change.
  a.name === OTHER ? 1 : b.name === OTHER ? -1 : a.name < b.name ? -1 : 1;

const Content = ({ activity, table }: { activity: Activity; table: boolean }) => {
  const { hide = [] } = useSearch({ from: "/" });
  const { slots: kept, zone } = usePreferences();
  const shaped = useMemo((): Shaped => {
    const { series, ...rest } = shape(activity);
    return { ...rest, series: series.sort(byName) };
  }, [activity]);
  const slots = useMemo(() => assignSlots(shaped.series.map(({ name }) => name), kept), [shaped, kept]);
  useEffect(() => {
    if (Object.keys(slots).some((name) => slotOf(name, kept) !== slotOf(name, slots))) setPreferences({ slots });
  }, [slots, kept]);
  const all = shaped.series.reduce((sum, { total }) => sum + total, 0);
  if (all === 0) {
    return (
      <Empty title="No events in this span.">
        <p>
          Older ones are still stored. To make a new one, see <Link to="/setup">Setup</Link>.
        </p>
      </Empty>
    );
  }
  const visible = { ...shaped, series: shaped.series.filter(({ name }) => !hide.includes(name)) };
  return (
    <>
      <Legend shaped={shaped} hide={hide} slots={slots} />
      {visible.series.length === 0 ? (
        <Empty title="Every series is hidden.">
          <p>Choose one above to see it again.</p>
        </Empty>
      ) : table ? (
        <ActivityTable shaped={visible} zone={zone} />
      ) : (
        <ActivityChart shaped={visible} zone={zone} slots={slots} />
      )}
      <p className={styles.foot}>
        <span>{plural(all, "event")} in all.</span>
        {!table && totals(shaped).includes(null) && <span>Hatched minutes: no data, which is not zero.</span>}
        {shaped.unfinished !== null && <span>The last minute is still running{table ? "" : " (striped)"}.</span>}
      </p>
    </>
  );
};

type LegendProps = { shaped: Shaped; hide: string[]; slots: Readonly<Record<string, number>> };

const Legend = ({ shaped, hide, slots }: LegendProps) => {
  const navigate = useNavigate({ from: "/" });
  const toggle = (name: string) => {
    const next = hide.includes(name) ? hide.filter((hidden) => hidden !== name) : [...hide, name];
    void navigate({
      replace: true,
      resetScroll: false,
      search: withLive({ hide: next }),
    });
  };
  return (
    <ul className={styles.legend} aria-label="Series on show">
      {shaped.series.map(({ name, total }) => (
        <li key={name}>
          <button type="button" className={styles.entry} aria-pressed={!hide.includes(name)} onClick={() => toggle(name)}>
            <span className={styles.swatch} style={{ background: `var(${colourVariable(name, slots)})` }} aria-hidden />
            <span className={styles.name}>{name}</span>
            <span className={styles.total}>{count(total)}</span>
          </button>
        </li>
      ))}
    </ul>
  );
};
