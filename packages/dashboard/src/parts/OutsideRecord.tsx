import { SearchX } from "lucide-react";
import type { ApiError } from "../api";
import { instant } from "../format";
import { isUuid, madeAt } from "../identifier";
import { usePreferences } from "../preferences";
import styles from "./OutsideRecord.module.css";

/** Days for which refused and dropped ids are remembered. */
const REMEMBERED = 7;

type OutsideRecordProps = { eventId: string; error: ApiError };

/** Says what "not found" means here, which is less than "was never sent". */
export const OutsideRecord = ({ eventId, error }: OutsideRecordProps) => {
  const { zone } = usePreferences();
  const at = madeAt(eventId);
  const young = at !== null && Math.abs(Date.now() - at) < 120_000;
  return (
    <section className={styles.outside} aria-labelledby="outside">
      <SearchX size={28} aria-hidden />
      <div>
        <h2 id="outside">This project has no record of that id</h2>
        <p>{error.message}</p>
        {young && <p role="status">The id is less than two minutes old, so this page keeps looking.</p>}
        <h3>What that tells you</h3>
        <ul>
          <li>It is not stored: an id in the table is always found.</li>
          <li>It was not rejected or dropped in the last {REMEMBERED} days, as far as that record reaches. It is limited in size, so under a flood the oldest entries go first.</li>
          <li>It may have been erased, or belong to another project or environment than the one you are signed in to.</li>
          <li>It may never have reached the server. The browser keeps events until they are acknowledged.</li>
        </ul>
        <h3>What the id itself says</h3>
        <p>
          {!isUuid(eventId)
            ? "It is no UUID. Twintrack's event ids look like 01980c1e-7a52-7c33-9d0e-5b0f5f6a2c11: part of it may be missing."
            : at === null
              ? "It is a UUID, but not of version 7, so it does not carry the time it was made. The SDK makes version 7."
              : `It was made on ${instant(at, zone)}, by the clock of the device.`}
        </p>
      </div>
    </section>
  );
};
