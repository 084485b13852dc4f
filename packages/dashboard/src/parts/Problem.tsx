import { ApiError } from "../api";
import { sentence } from "../format";
import { Hint } from "./Hint";
import styles from "./Access.module.css";

/** Why something was not done, in the server's words. */
export const Problem = ({ error, id }: { error: Error | null; id?: string }) =>
  error && (
    <div id={id} role="alert" className={styles.problem}>
      <p>{sentence(error.message)}</p>
      {error instanceof ApiError && error.hint && (
        <p>
          <Hint text={error.hint} />
        </p>
      )}
    </div>
  );
