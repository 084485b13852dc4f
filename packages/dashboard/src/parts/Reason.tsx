import { words } from "../format";
import { explain } from "../reasons";
import styles from "./Reason.module.css";

/** Why an event was not accepted, and what to do about it. */
export const Reason = ({ reason }: { reason: string }) => {
  const meaning = explain(reason);
  return (
    <p className={styles.reason}>
      <strong>Reason: {words(reason)}.</strong> {meaning}
    </p>
  );
};
