import type { ReactNode } from "react";
import type { Trace } from "../api";
import { splitRow } from "../fate";
import { plural } from "../format";
import { CopyButton } from "./CopyButton";
import { JsonTree } from "./JsonTree";
import styles from "./StoredRow.module.css";
import { Tile } from "./Tile";

type StoredRowProps = {
  query: { data: Trace | undefined; error: Error | null; dataUpdatedAt: number; isFetching: boolean; refetch: () => unknown };
  skeleton: ReactNode;
};

/** The row as the table holds it. */
export const StoredRow = ({ query, skeleton }: StoredRowProps) => {
  const event = query.data?.event;
  return (
    <Tile
      title="Stored row"
      query={query}
      skeleton={skeleton}
      controls={event && <CopyButton text={JSON.stringify(event, null, 2)} label="Copy the row as JSON" />}
    >
      {(trace) => (trace.event ? <Row event={trace.event} /> : <NoRow fate={trace.fate} />)}
    </Tile>
  );
};

const NoRow = ({ fate }: { fate: Trace["fate"] }) => (
  <p className={styles.soft}>{fate === "in_spool" ? "Not in the table yet. This page looks again every second." : "There is no row for it in the table."}</p>
);

const Row = ({ event }: { event: Record<string, unknown> }) => {
  const { filled, blank } = splitRow(event);
  return (
    <div className={styles.columns}>
      <div>
        <dl className={styles.fields}>
          {filled.map(([name, value]) => (
            <div key={name} className={styles.field}>
              <dt>{name}</dt>
              <dd>{typeof value === "object" ? JSON.stringify(value) : String(value)}</dd>
            </div>
          ))}
        </dl>
        {blank.length > 0 && (
          <details className={styles.blank}>
            <summary>{plural(blank.length, "empty column")}</summary>
            <p>{blank.join(", ")}</p>
          </details>
        )}
      </div>
      <div>
        <h3>event_metadata</h3>
        <JsonTree value={event.event_metadata ?? {}} />
      </div>
    </div>
  );
};
