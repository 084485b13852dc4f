import type { Stage } from "../api";
import { classes } from "../classes";
import { timeStages, ourTime } from "../fate";
import { day, duration, words, zoneName } from "../format";
import { usePreferences } from "../preferences";
import { ExactInstant } from "./Instant";
import styles from "./Stages.module.css";
import { Empty } from "./Tile";

/** Stages are timed in whole milliseconds; none between two means less than one. */
const step = (milliseconds: number): string =>
  milliseconds === 0 ? "+ under 1 ms" : `${milliseconds < 0 ? "" : "+"}${duration(milliseconds / 1000)}`;

/** Where the event was when, and how long each step took. */
export const Stages = ({ stages }: { stages: readonly Stage[] }) => {
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
          <li key={`${index} ${name}`} className={classes(styles.stage, at === null && styles.pending)}>
            <div className={styles.line}>
              <span className={styles.name}>{words(name)}</span>
              {after !== null && <span className={styles.after}>{step(after)}</span>}
              <span className={styles.at}>{at === null ? "time not recorded" : <ExactInstant at={at} />}</span>
            </div>
            {detail && <p className={styles.detail}>{detail}</p>}
          </li>
        ))}
      </ol>
    </>
  );
};
