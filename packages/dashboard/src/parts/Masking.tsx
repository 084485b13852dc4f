import type { Masked } from "../api";
import styles from "./Masking.module.css";
import { MaskedChip } from "./Chip";

/** Which fields were changed, and by which rule. */
export const Masking = ({ masked }: { masked: readonly Masked[] }) => {
  if (masked.length === 0) return <p className={styles.none}>Nothing in it matched a rule.</p>;
  return (
    <table className={styles.table}>
      <thead>
        <tr>
          <th scope="col">Field</th>
          <th scope="col">Rule</th>
        </tr>
      </thead>
      <tbody>
        {masked.map((entry, index) => (
          <tr key={`${index} ${entry.field} ${entry.rule}`}>
            <td>
              <code>{entry.field}</code>
            </td>
            <td>
              <MaskedChip masked={[entry]} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
};
