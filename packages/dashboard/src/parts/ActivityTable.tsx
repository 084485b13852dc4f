import { classes } from "../classes";
import { clock, count, type Zone } from "../format";
import { type Shaped, totals } from "../series";
import styles from "./ActivityTable.module.css";

const figure = (value: number | null | undefined) => (value === null || value === undefined ? <span className={styles.gap}>no data</span> : count(value));

/** The chart's numbers, newest minute first. */
export const ActivityTable = ({ shaped, zone }: { shaped: Shaped; zone: Zone }) => {
  const sums = totals(shaped);
  const order = shaped.times.map((_, index) => index).reverse();
  return (
    <div className={styles.scroll} tabIndex={0} role="region" aria-label="Events per minute as a table">
      <table>
        <thead>
          <tr>
            <th scope="col" className={styles.minute}>
              Minute
            </th>
            <th scope="col" className={styles.figure}>
              All
            </th>
            {shaped.series.map(({ name }) => (
              <th key={name} scope="col" className={styles.figure}>
                <span className={styles.name} title={name}>
                  {name}
                </span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {order.map((index) => (
            <tr key={shaped.times[index]}>
              <th scope="row" className={styles.minute}>
                {clock((shaped.times[index] ?? 0) * 1000, zone)}
                {index === shaped.unfinished && <span className={styles.running}> running</span>}
              </th>
              <td className={classes(styles.figure, styles.sum)}>{figure(sums[index])}</td>
              {shaped.series.map(({ name, counts }) => (
                <td key={name} className={styles.figure}>
                  {figure(counts[index])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
};
