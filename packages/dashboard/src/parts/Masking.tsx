import type { Trace } from "../api";
import styles from "./Masking.module.css";
import { MaskedChip } from "./Chip";

/** Which fields were changed, and by which rule. */
export const Masking = ({ trace: { fate, masked } }: { trace: Trace }) => {
  // The findings travel with the row.
  if (masked.length === 0 && fate !== "stored") return <p className={styles.none}>Known as soon as it is in the table.</p>;
  if (masked.length === 0) return <p className={styles.none}>Nothing in it matched a rule.</p>;
  return (
    <table className={styles.table}>
      <thead>
        <tr>
          <th scope="col">Field</th>
          <th scope="col">Rules</th>
        </tr>
      </thead>
      <tbody>
        {[...new Set(masked.map(({ field }) => field))].map((field) => (
          <tr key={field}>
            <td>
              <code>{field}</code>
            </td>
            <td className={styles.rules}>
              {masked
                .filter((entry) => entry.field === field)
                .map((entry) => (
                  <MaskedChip key={entry.rule} masked={[entry]} />
                ))}
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
};
