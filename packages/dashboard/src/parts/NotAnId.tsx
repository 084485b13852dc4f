import { TextSearch } from "lucide-react";
import styles from "./OutsideRecord.module.css";

/** Said where the address holds no event id; the server is not asked. */
export const NotAnId = () => (
  <section className={styles.outside} aria-labelledby="no-id">
    <TextSearch size={28} aria-hidden />
    <div>
      <h2 id="no-id">This is no event id, so there is nothing to look up</h2>
      <p>An event id is a UUID: 32 hexadecimal digits, with or without dashes, such as</p>
      <p>
        <code>01980c1e-7a52-7c33-9d0e-5b0f5f6a2c11</code>
      </p>
      <h3>What to do</h3>
      <p>
        Part of it may be missing. Paste it again into the search above; a whole log line will do, the id is found in it. To look for
        events by name, use the filter above the live events.
      </p>
    </div>
  </section>
);
