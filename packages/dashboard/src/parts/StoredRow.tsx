import type { ReactNode } from "react";
import type { Trace } from "../api";
import { groupRow, type RowGroup } from "../fate";
import { address, plural } from "../format";
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
      note={event ? "as the table holds it" : undefined}
      query={query}
      skeleton={skeleton}
      controls={event && <CopyButton text={JSON.stringify(event, null, 2)} label="Copy as JSON: the stored row" word="Copy as JSON" />}
    >
      {(trace) => (trace.event ? <Row event={trace.event} /> : <NoRow fate={trace.fate} />)}
    </Tile>
  );
};

const NoRow = ({ fate }: { fate: Trace["fate"] }) => (
  <p className={styles.soft}>{fate === "in_spool" ? "Not in the table yet." : "There is no row for it in the table."}</p>
);

const Row = ({ event }: { event: Record<string, unknown> }) => {
  const { groups, blank } = groupRow(event);
  const [what, ...others] = groups;
  return (
    <>
      <div className={styles.groups}>
        {what && <Group group={what} />}
        <section className={styles.group}>
          <h3>Metadata</h3>
          <JsonTree value={event.event_metadata ?? {}} />
        </section>
        {others.map((group) => (
          <Group key={group.title} group={group} />
        ))}
      </div>
      {blank.length > 0 && (
        <details className={styles.blank}>
          <summary>{plural(blank.length, "empty column")}</summary>
          <p>{blank.join(", ")}</p>
        </details>
      )}
    </>
  );
};

const Group = ({ group: { title, filled } }: { group: RowGroup }) => (
  <section className={styles.group}>
    <h3>{title}</h3>
    <dl className={styles.fields}>
      {filled.map(([name, value]) => (
        <div key={name} className={styles.field}>
          <dt>{name}</dt>
          <dd>{show(name, value)}</dd>
        </div>
      ))}
    </dl>
  </section>
);

const show = (name: string, value: unknown): string => {
  if (name === "ip_address") return address(String(value));
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
};
