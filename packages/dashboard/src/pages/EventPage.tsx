import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { ArrowLeft } from "lucide-react";
import { ApiError, type Trace } from "../api";
import { FATE_WORDS } from "../fate";
import { words } from "../format";
import { madeAt } from "../identifier";
import { FateChip } from "../parts/Chip";
import { CopyButton } from "../parts/CopyButton";
import { RelativeInstant } from "../parts/Instant";
import { Masking } from "../parts/Masking";
import { OutsideRecord } from "../parts/OutsideRecord";
import { Stages } from "../parts/Stages";
import { StoredRow } from "../parts/StoredRow";
import { Bone, Tile } from "../parts/Tile";
import { Vendors } from "../parts/Vendors";
import { queries } from "../queries";
import { useTitle } from "../title";
import styles from "./EventPage.module.css";
import pages from "./Page.module.css";

/** One event: its way through our pipeline, what the vendors did, what was masked, what is stored. */
export const EventPage = () => {
  const { eventId } = useParams({ from: "/events/$eventId" });
  const query = useQuery(queries.trace(eventId));
  const { data, error } = query;
  const name = typeof data?.event?.event_name === "string" ? data.event.event_name : null;
  useTitle(name ?? "Event");
  const outside = !data && error instanceof ApiError && error.status === 404;
  return (
    <div className={pages.stack}>
      <Link to="/" className={styles.back}>
        <ArrowLeft size={15} aria-hidden />
        Live events
      </Link>
      <div className={styles.head}>
        <div className={styles.title}>
          <h1>{name ?? (outside ? "Not in the record" : data ? "Event" : error ? "Event" : "Looking …")}</h1>
          {data && <FateChip fate={data.fate} />}
        </div>
        <p className={styles.id}>
          <code>{eventId}</code>
          <CopyButton text={eventId} label="Copy the event id" bare />
          <Made eventId={eventId} />
        </p>
        {data && (
          <p>
            {FATE_WORDS[data.fate]}
            {data.reason && (
              <>
                {" "}
                Reason: <strong>{words(data.reason)}</strong>.
              </>
            )}
          </p>
        )}
      </div>
      {outside ? <OutsideRecord eventId={eventId} error={error} /> : <Tiles query={query} />}
    </div>
  );
};

const Made = ({ eventId }: { eventId: string }) => {
  const at = madeAt(eventId);
  return at === null ? null : (
    <span>
      made <RelativeInstant at={new Date(at).toISOString()} />
    </span>
  );
};

const lines = (
  <div className={styles.bones}>
    <Bone height="20px" width="60%" />
    <Bone height="20px" />
    <Bone height="20px" width="80%" />
    <Bone height="20px" width="70%" />
  </div>
);

type TilesProps = {
  query: { data: Trace | undefined; error: Error | null; dataUpdatedAt: number; isFetching: boolean; refetch: () => unknown };
};

const Tiles = ({ query }: TilesProps) => {
  // One question fills all tiles; one message is enough where it fails.
  if (!query.data && query.error) {
    return (
      <Tile title="Where is it?" query={query} skeleton={lines}>
        {() => null}
      </Tile>
    );
  }
  return (
    <>
      <div className={pages.columns}>
        <Tile title="Its way" query={query} skeleton={lines}>
          {(trace) => <Stages stages={trace.stages} />}
        </Tile>
        <div className={pages.stack}>
          <Tile title="Where it went" query={{ ...query, error: null }} skeleton={lines}>
            {(trace) => <Vendors trace={trace} />}
          </Tile>
          <Tile title="Masked" note="before anything was written to disk" query={{ ...query, error: null }} skeleton={lines}>
            {(trace) => <Masking masked={trace.masked} />}
          </Tile>
        </div>
      </div>
      <StoredRow query={{ ...query, error: null }} skeleton={lines} />
    </>
  );
};
