import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { ArrowLeft } from "lucide-react";
import { ApiError, type Fate, type Trace } from "../api";
import { FATE_WORDS, isKept } from "../fate";
import { isUuid, madeAt } from "../identifier";
import { FateChip } from "../parts/Chip";
import { CopyButton } from "../parts/CopyButton";
import { RelativeInstant } from "../parts/Instant";
import { Masking } from "../parts/Masking";
import { NotAnId } from "../parts/NotAnId";
import { OutsideRecord } from "../parts/OutsideRecord";
import { Reason } from "../parts/Reason";
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
  const query = useQuery({ ...queries.trace(eventId), enabled: isUuid(eventId) });
  const { data, error } = query;
  const outside = !data && error instanceof ApiError && error.status === 404;
  const title = titleOf(eventId, query, outside);
  useTitle(title);
  return (
    <div className={pages.stack}>
      <Link to="/" className={styles.back}>
        <ArrowLeft size={15} aria-hidden />
        Live events
      </Link>
      <div className={styles.head}>
        <div className={styles.title}>
          <h1 title={title.length > LONG ? title : undefined}>{title}</h1>
          {data && <FateChip fate={data.fate} />}
        </div>
        <p className={styles.id}>
          <code>{eventId}</code>
          <CopyButton text={eventId} label="Copy the event id" bare />
          <Made eventId={eventId} />
        </p>
        {data && <p>{FATE_WORDS[data.fate]}</p>}
        {data?.reason && <Reason reason={data.reason} />}
      </div>
      {!isUuid(eventId) ? <NotAnId /> : outside ? <OutsideRecord eventId={eventId} /> : <Tiles query={query} />}
    </div>
  );
};

/** Characters beyond which a name is cut short and told whole in a tooltip. */
const LONG = 60;

const UNNAMED: Readonly<Record<Fate, string>> = {
  stored: "Event",
  in_spool: "Event on its way",
  quarantined: "Quarantined event",
  gone: "Event that is gone",
  refused: "Rejected event",
  dropped: "Dropped event",
  duplicate: "Duplicate event",
};

const titleOf = (eventId: string, { data, error }: { data: Trace | undefined; error: Error | null }, outside: boolean): string => {
  if (!isUuid(eventId)) return "Not an event id";
  if (outside) return "Not in the record";
  if (!data) return error ? "Event" : "Looking …";
  return typeof data.event?.event_name === "string" ? data.event.event_name : UNNAMED[data.fate];
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
  const quiet = { ...query, error: null };
  if (!query.data && query.error) {
    return (
      <Tile title="Where is it?" query={query} skeleton={lines}>
        {() => null}
      </Tile>
    );
  }
  const kept = !query.data || isKept(query.data.fate);
  return (
    <>
      <div className={pages.columns}>
        <Tile title="Its way" query={query} skeleton={lines}>
          {(trace) => <Stages trace={trace} />}
        </Tile>
        <div className={pages.stack}>
          <Tile title="Where it went" query={quiet} skeleton={lines}>
            {(trace) => <Vendors trace={trace} />}
          </Tile>
          {kept && (
            <Tile title="Masked" note="before anything was written to disk" query={quiet} skeleton={lines}>
              {(trace) => <Masking trace={trace} />}
            </Tile>
          )}
        </div>
      </div>
      {kept && <StoredRow query={quiet} skeleton={lines} />}
    </>
  );
};
