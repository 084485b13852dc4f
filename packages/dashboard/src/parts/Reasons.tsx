import { useId } from "react";
import type { Outcome, Pipeline } from "../api";
import { classes } from "../classes";
import { reasonsOf } from "../flow";
import { count, short, words } from "../format";
import styles from "./Reasons.module.css";

type Exit = Exclude<Outcome, "accepted">;

const EXITS: Readonly<Record<Exit, { word: string; meaning: string; worrying: boolean }>> = {
  duplicate: { word: "Duplicate", meaning: "Sent more than once; the first copy counts, these do not.", worrying: false },
  rejected: { word: "Rejected", meaning: "Broken or not allowed. Sending them again would not help.", worrying: true },
  dropped: { word: "Dropped", meaning: "Left out on purpose: consent, sampling, age or a switch.", worrying: false },
  retry: { word: "Retry", meaning: "Put off; the SDK sends them again.", worrying: true },
  expired: { word: "Expired", meaning: "Were stored until their time of retention was over. Counts in rollups stay.", worrying: false },
  quarantined: { word: "Quarantined", meaning: "Accepted, but the store would not take them. They are kept, and can be replayed.", worrying: true },
  erased: { word: "Erased", meaning: "Accepted, and taken out since because their person was erased.", worrying: false },
};

type ReasonsProps = { outcome: Exit; value: number; reasons: Pipeline["reasons"] };

/** One way out of the pipeline: its count, and on demand why. */
export const Reasons = ({ outcome, value, reasons }: ReasonsProps) => {
  const id = useId();
  const { word, meaning, worrying } = EXITS[outcome];
  const known = reasonsOf(reasons, outcome);
  return (
    <div className={styles.exit}>
      <button type="button" popoverTarget={id} className={classes(styles.opener, worrying && value > 0 && styles.worrying)}>
        {word} <strong>{short(value)}</strong>
      </button>
      <div id={id} popover="auto" className={styles.card} role="dialog" aria-label={`${word}: reasons`}>
        <p className={styles.title}>
          {word} <span>{count(value)}</span>
        </p>
        <p className={styles.meaning}>{meaning}</p>
        {known.length > 0 ? (
          <table className={styles.table}>
            <thead className="visually-hidden">
              <tr>
                <th scope="col">Reason</th>
                <th scope="col">Events</th>
              </tr>
            </thead>
            <tbody>
              {known.map(({ reason, count: events }) => (
                <tr key={reason}>
                  <th scope="row">{words(reason)}</th>
                  <td>{count(events)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        ) : (
          <p>{value === 0 ? "None so far." : "No reason is recorded for these."}</p>
        )}
      </div>
    </div>
  );
};
