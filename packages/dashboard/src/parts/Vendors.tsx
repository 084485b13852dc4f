import { Ban, CircleCheck, CircleDashed, CircleSlash, CircleX, Hourglass, type LucideIcon, Send, TriangleAlert } from "lucide-react";
import type { Trace } from "../api";
import { byVendor } from "../fate";
import { Chip, type Tone } from "./Chip";
import { ExactInstant } from "./Instant";
import styles from "./Vendors.module.css";

const NAMES: Readonly<Record<string, string>> = { statsig: "Statsig", gtm: "Google Tag Manager" };

const STATUSES: Readonly<Record<string, { tone: Tone; icon: LucideIcon; meaning: string }>> = {
  handed: { tone: "accent", icon: Send, meaning: "The page handed it to the vendor's code." },
  delivered: { tone: "good", icon: CircleCheck, meaning: "The vendor took it." },
  failed: { tone: "bad", icon: CircleX, meaning: "The vendor's code or server refused it." },
  absent: { tone: "warn", icon: CircleSlash, meaning: "The vendor's code was not on the page." },
  blocked: { tone: "warn", icon: Ban, meaning: "Consent or a privacy signal kept it from going there." },
};

/** Our table beside the vendors: the same event, in each place. */
export const Vendors = ({ trace }: { trace: Trace }) => {
  const stored = trace.fate === "stored" || trace.fate === "duplicate";
  return (
    <ul className={styles.places}>
      <li className={styles.place}>
        <p className={styles.name}>Your ClickHouse</p>
        {stored ? (
          <Chip tone="good" icon={CircleCheck}>
            stored
          </Chip>
        ) : trace.fate === "in_spool" ? (
          <Chip tone="accent" icon={Hourglass}>
            waits
          </Chip>
        ) : trace.fate === "quarantined" ? (
          <Chip tone="warn" icon={TriangleAlert}>
            quarantined
          </Chip>
        ) : (
          <Chip icon={CircleSlash}>not stored</Chip>
        )}
      </li>
      {byVendor(trace.receipts).map(({ vendor, status, receipts }) => {
        const known = status === null ? undefined : STATUSES[status];
        return (
          <li key={vendor} className={styles.place}>
            <p className={styles.name}>{NAMES[vendor] ?? vendor}</p>
            {status === null ? (
              <Chip icon={CircleDashed}>no receipt yet</Chip>
            ) : known ? (
              <Chip tone={known.tone} icon={known.icon}>
                {status}
              </Chip>
            ) : (
              <Chip>{status}</Chip>
            )}
            {known && <p className={styles.meaning}>{known.meaning}</p>}
            {status === null && <p className={styles.meaning}>A page tells what the vendor did along with its next batch.</p>}
            {receipts.length > 0 && (
              <ol className={styles.receipts}>
                {receipts.map((receipt) => (
                  <li key={`${receipt.status} ${receipt.at}`}>
                    {receipt.status} at <ExactInstant at={receipt.at} />
                  </li>
                ))}
              </ol>
            )}
          </li>
        );
      })}
    </ul>
  );
};
