import type { Trace } from "../api";
import { classes } from "../classes";
import { timeStages, ourTime } from "../fate";
import { day, duration, words, zoneName } from "../format";
import { usePreferences } from "../preferences";
import { ExactInstant } from "./Instant";
import styles from "./Stages.module.css";
import { Empty } from "./Tile";

/** Stages are timed in whole milliseconds; none between two means less than one. */
const step = (milliseconds: number): string =>
  milliseconds === 0 ? "under 1 ms" : `${milliseconds < 0 ? "" : "+"}${duration(milliseconds / 1000)}`;

/** Where the event was when, and how long each step took. */
export const Stages = ({ trace: { fate, stages } }: { trace: Trace }) => {
  const { zone } = usePreferences();
  const timed = timeStages(stages);
  const whole = ourTime(timed);
  const first = timed.find(({ at }) => at !== null)?.at;
  if (timed.length === 0) return <Empty title="No stage is recorded." />;
  return (
    <>
      {first && (
        <p className={styles.head}>
          {day(Date.parse(first), zone)}, {zoneName(zone)}
          {whole !== null && <strong>{whole === 0 ? "under 1 ms" : duration(whole / 1000)} on our side</strong>}
        </p>
      )}
      <ol className={styles.stages}>
        {timed.map(({ name, at, detail, after }, index) => (
          <li key={`${index} ${name}`} className={styles.stage}>
            <div className={styles.line}>
              <span className={styles.name}>{words(name)}</span>
              {after !== null && <span className={styles.after}>{step(after)}</span>}
              <span className={styles.at}>{at === null ? "time not recorded" : <ExactInstant at={at} />}</span>
            </div>
            {detail && <p className={styles.detail}>{detail}</p>}
          </li>
        ))}
        {fate === "in_spool" && (
          <li className={classes(styles.stage, styles.pending)}>
            <div className={styles.line}>
              <span className={styles.name}>Loaded</span>
              <span className={styles.at}>not yet</span>
            </div>
            <p className={styles.detail}>this page looks again every second</p>
          </li>
        )}
      </ol>
    </>
  );
};
