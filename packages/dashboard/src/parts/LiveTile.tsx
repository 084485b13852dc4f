import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { Filter, Pause, Play, X } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { plural } from "../format";
import { filterByName, KEPT, type Live } from "../live";
import { queries } from "../queries";
import { withLive } from "../search";
import controls from "./controls.module.css";
import { LiveTable } from "./LiveTable";
import styles from "./LiveTile.module.css";
import { Bone, Empty, Tile } from "./Tile";

/** Rows drawn at once; the list keeps more, for the filter to find. */
const SHOWN = 50;

/** Events as they are accepted, newest first. */
export const LiveTile = () => {
  const query = useQuery(queries.live());
  const { name = "" } = useSearch({ from: "/" });
  const [frozen, setFrozen] = useState<Live | null>(null);
  const shown = frozen ?? query.data;
  const waiting = useMemo(() => {
    if (!frozen || !query.data) return 0;
    const known = new Set(frozen.events.map(({ event_id }) => event_id));
    return query.data.events.filter(({ event_id }) => !known.has(event_id)).length;
  }, [frozen, query.data]);
  return (
    <Tile
      title="Live events"
      note={frozen ? `paused, ${waiting >= KEPT ? "more than " : ""}${plural(waiting, "new event")} since` : "newest first, asked for every second"}
      query={{ ...query, data: shown }}
      skeleton={<LiveSkeleton />}
      flush
      controls={
        <>
          <NameFilter name={name} />
          <button
            type="button"
            className={controls.button}
            disabled={!query.data}
            onClick={() => setFrozen(frozen ? null : (query.data ?? null))}
          >
            {frozen ? <Play size={14} aria-hidden /> : <Pause size={14} aria-hidden />}
            {frozen ? "Resume" : "Pause"}
          </button>
        </>
      }
    >
      {(live) => <Content live={live} name={name} />}
    </Tile>
  );
};

const Content = ({ live, name }: { live: Live; name: string }) => {
  const found = useMemo(() => filterByName(live.events, name), [live.events, name]);
  if (live.events.length === 0) {
    return (
      <Empty title="Nothing has come in yet.">
        <p>
          New events appear here by themselves. <Link to="/setup">Send your first event</Link>
        </p>
      </Empty>
    );
  }
  if (found.length === 0) {
    return (
      <Empty title={`None of the last ${live.events.length} events has “${name}” in its name.`}>
        <Link to="/" search={withLive({ name: undefined })} from="/" replace resetScroll={false} className={controls.button}>
          Show all names
        </Link>
      </Empty>
    );
  }
  return (
    <>
      <LiveTable events={found.slice(0, SHOWN)} skew={live.skew} />
      {found.length > SHOWN && <p className={styles.more}>The newest {SHOWN} are shown.</p>}
    </>
  );
};

const NameFilter = ({ name }: { name: string }) => {
  const navigate = useNavigate({ from: "/" });
  const [typed, setTyped] = useState(name);
  // The address may change under us: by the back button, or by a link.
  useEffect(() => setTyped(name), [name]);
  const change = (value: string) => {
    setTyped(value);
    void navigate({
      replace: true,
      resetScroll: false,
      search: withLive({ name: value }),
    });
  };
  return (
    <div className={styles.filter}>
      <Filter size={14} aria-hidden />
      <input
        type="text"
        className={controls.input}
        placeholder="Filter by name"
        aria-label="Filter live events by name"
        autoComplete="off"
        spellCheck={false}
        value={typed}
        onChange={(event) => change(event.target.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") change("");
        }}
      />
      {typed !== "" && (
        <button type="button" onClick={() => change("")} aria-label="Clear the filter">
          <X size={14} aria-hidden />
        </button>
      )}
    </div>
  );
};

const LiveSkeleton = () => (
  <div className={styles.skeleton}>
    {["a", "b", "c", "d", "e", "f"].map((key) => (
      <Bone key={key} height="20px" />
    ))}
  </div>
);
