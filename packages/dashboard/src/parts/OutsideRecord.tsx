import { SearchX } from "lucide-react";
import { instant } from "../format";
import { madeAt } from "../identifier";
import { usePreferences } from "../preferences";
import styles from "./OutsideRecord.module.css";

/** Days for which refused and dropped ids are remembered. */
const REMEMBERED = 7;

/** Says what "not found" means here, which is less than "was never sent". */
export const OutsideRecord = ({ eventId }: { eventId: string }) => {
  const { zone } = usePreferences();
  const at = madeAt(eventId);
  const young = at !== null && Math.abs(Date.now() - at) < 120_000;
  return (
    <section className={styles.outside} aria-labelledby="outside">
      <SearchX size={28} aria-hidden />
      <div>
        <h2 id="outside">This project has no record of that id</h2>
        {young && <p role="status">The id is less than two minutes old, so this page keeps looking.</p>}
        <h3>What that tells you</h3>
        <ul>
          <li>It is not stored: an id in the table is always found.</li>
          <li>It was not rejected or dropped in the last {REMEMBERED} days, as far as that record reaches. It is limited in size, so under a flood the oldest entries go first.</li>
          <li>It may have been erased, or belong to another project or environment than the one you are signed in to.</li>
          <li>It may never have reached the server. A browser keeps an event on its disk until it is acknowledged, and sends it when a page of the site is open again.</li>
        </ul>
        <h3>What the id itself says</h3>
        <p>
          {at === null
            ? "It is a UUID, but not of version 7, so it does not carry the time it was made. The SDK makes version 7."
            : `It was made on ${instant(at, zone)}, by the clock of the device.`}
        </p>
      </div>
    </section>
  );
};
