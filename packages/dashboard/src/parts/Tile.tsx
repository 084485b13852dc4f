import { CloudOff, RotateCw } from "lucide-react";
import { type ReactNode, useId } from "react";
import { ApiError, isSilent } from "../api";
import { classes } from "../classes";
import { sentence } from "../format";
import controls from "./controls.module.css";
import { Hint } from "./Hint";
import { RelativeInstant } from "./Instant";
import styles from "./Tile.module.css";

type Answer<Data> = {
  data: Data | undefined;
  error: Error | null;
  dataUpdatedAt: number;
  isFetching: boolean;
  refetch: () => unknown;
};

type TileProps<Data> = {
  title: string;
  /** One line under the title. Default: nothing. */
  note?: ReactNode;
  /** Controls at the right of the title. Default: nothing. */
  controls?: ReactNode;
  query: Answer<Data>;
  /** Takes the place of the content until the first answer. */
  skeleton: ReactNode;
  /** Lets content touch the tile's edges, for tables. Default false. */
  flush?: boolean;
  children: (data: Data) => ReactNode;
};

/** One question and its answer: each tile loads, fails and recovers by itself. */
export const Tile = <Data,>({ title, note, controls: aside, query, skeleton, flush = false, children }: TileProps<Data>) => {
  const heading = useId();
  const { data, error } = query;
  return (
    <section className={styles.tile} aria-labelledby={heading} aria-busy={data === undefined && !error}>
      <div className={styles.head}>
        <div className={styles.title}>
          <h2 id={heading}>{title}</h2>
          {note && <p className={styles.note}>{note}</p>}
        </div>
        {aside && <div className={styles.controls}>{aside}</div>}
      </div>
      {data !== undefined && error && !isSilent(error) && (
        <p className={styles.stale}>
          <CloudOff size={14} aria-hidden />
          <span>
            <span role="status">{sentence(error.message)}</span> Shown is the answer from <RelativeInstant at={new Date(query.dataUpdatedAt).toISOString()} />.
          </span>
          <Retry query={query} />
        </p>
      )}
      <div className={classes(styles.body, flush && styles.flush)}>
        {data !== undefined ? children(data) : error ? <Failure error={error} retry={<Retry query={query} />} /> : skeleton}
      </div>
    </section>
  );
};

const Retry = ({ query }: { query: { isFetching: boolean; refetch: () => unknown } }) => (
  <button type="button" className={controls.button} onClick={() => void query.refetch()} aria-disabled={query.isFetching}>
    <RotateCw size={14} aria-hidden className={query.isFetching ? styles.spinning : undefined} />
    Try again
  </button>
);

/** An error in its own words, with the server's hint. */
export const Failure = ({ error, retry }: { error: Error; retry?: ReactNode }) => (
  <div className={styles.failure} role="alert">
    <CloudOff size={20} aria-hidden />
    <div>
      <p className={styles.failureTitle}>{sentence(error.message)}</p>
      {error instanceof ApiError && error.hint && <p className={styles.note}><Hint text={error.hint} /></p>}
    </div>
    {retry}
  </div>
);

/** A grey place where something will be. `width` and `height` are CSS lengths. */
export const Bone = ({ width = "100%", height = "16px" }: { width?: string; height?: string }) => (
  <span className={styles.bone} style={{ width, height }} aria-hidden />
);

/** Said instead of content when there is none. */
export const Empty = ({ title, children }: { title: string; children?: ReactNode }) => (
  <div className={styles.empty}>
    <p className={styles.emptyTitle}>{title}</p>
    {children}
  </div>
);
