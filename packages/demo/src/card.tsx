/** One event: three places, what each got, and what was masked on the way. */
import type { ReactNode } from "react";

import type { Arrival } from "./arrival";
import styles from "./card.module.css";
import type { Fate } from "./fates";

const SIGNS: Readonly<Record<Arrival["state"], string>> = { waiting: "…", late: "…", arrived: "✓", failed: "✕" };

const wordsOf = (arrival: Arrival): string => {
  if (arrival.state === "waiting") return "waiting";
  if (arrival.state === "late") return "not seen yet";
  if (arrival.state === "failed") return arrival.why;
  if (arrival.after < 1) return "at once";
  return arrival.after < 10_000 ? `${arrival.after} ms` : `${Math.round(arrival.after / 1000)} s`;
};

const Place = ({ name, arrival }: { name: string; arrival: Arrival }): ReactNode => (
  <div className={`${styles.place} ${styles[arrival.state]}`}>
    <dt>{name}</dt>
    <dd>
      <span aria-hidden>{SIGNS[arrival.state]}</span> {wordsOf(arrival)}
    </dd>
  </div>
);

/** Tokens such as [EMAIL] stand where personal data was. */
const Stored = ({ text }: { text: string }): ReactNode => (
  <p className={styles.stored}>
    <span className={styles.label}>Stored text</span>
    <span>
      {text.split(/(\[[A-Z_]+\])/).map((part, index) => (index % 2 === 1 ? <mark key={index}>{part}</mark> : part))}
    </span>
  </p>
);

const Masked = ({ masked }: { masked: NonNullable<Fate["masked"]> }): ReactNode => {
  if (masked.length === 0) return <p className={styles.quiet}>Nothing in it had to be masked.</p>;
  const fields = [...new Set(masked.map(({ field }) => field))];
  return (
    <ul className={styles.masked}>
      {fields.map((field) => (
        <li key={field}>
          masked in <code>{field}</code>:{" "}
          {masked
            .filter((entry) => entry.field === field)
            .map(({ rule }) => rule.replaceAll("_", " "))
            .join(", ")}
        </li>
      ))}
    </ul>
  );
};

/** Looks into what the two vendors really got, instead of claiming it. */
const AtVendors = ({ fate: { typed, statsig, gtm } }: { fate: Fate }): ReactNode => {
  if (typed === undefined || statsig.state !== "arrived" || gtm.state !== "arrived") return null;
  const leaked = [statsig.got, gtm.got].some((got) => JSON.stringify(got).includes(JSON.stringify(typed).slice(1, -1)));
  return leaked ? <p className={styles.leak}>✕ The text of the message was found at a vendor.</p> : <p className={styles.quiet}>Neither vendor got the text of the message.</p>;
};

const Got = ({ name, arrival }: { name: string; arrival: Arrival }): ReactNode =>
  arrival.state === "arrived" ? (
    <div>
      <h4>{name}</h4>
      <pre tabIndex={0} role="region" aria-label={`What ${name} got`}>
        {JSON.stringify(arrival.got, null, 2)}
      </pre>
    </div>
  ) : null;

export const Card = ({ fate }: { fate: Fate }): ReactNode => (
  <li
    className={styles.card}
    data-testid="event-card"
    data-event-id={fate.id}
    data-statsig={fate.statsig.state}
    data-gtm={fate.gtm.state}
    data-clickhouse={fate.clickhouse.state}
  >
    <div className={styles.head}>
      <h3>{fate.name}</h3>
      <a href={`/events/${fate.id}`} target="_blank" rel="noopener" title={`Follow ${fate.id} in the dashboard`}>
        <code>{fate.id.slice(0, 13)}…</code>
      </a>
    </div>
    <dl className={styles.places}>
      <Place name="Statsig" arrival={fate.statsig} />
      <Place name="Data layer" arrival={fate.gtm} />
      <Place name="ClickHouse" arrival={fate.clickhouse} />
    </dl>
    {fate.stored !== undefined && <Stored text={fate.stored} />}
    {fate.masked && <Masked masked={fate.masked} />}
    <AtVendors fate={fate} />
    {[fate.statsig, fate.gtm, fate.clickhouse].some(({ state }) => state === "arrived") && (
      <details className={styles.got}>
        <summary>What each place got</summary>
        <Got name="Statsig" arrival={fate.statsig} />
        <Got name="Data layer" arrival={fate.gtm} />
        <Got name="ClickHouse" arrival={fate.clickhouse} />
      </details>
    )}
  </li>
);
