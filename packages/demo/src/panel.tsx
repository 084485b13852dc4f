/** Beside the chat: each event as a card, three places, and what was masked. */
import type { ReactNode } from "react";

import type { Arrival, Fate } from "./fates";

const Place = ({ name, arrival }: { name: string; arrival: Arrival }): ReactNode => (
  <div className={`place ${arrival.state}`}>
    <dt>{name}</dt>
    <dd>
      {arrival.state === "waiting" && "… on its way"}
      {arrival.state === "arrived" && `✓ ${arrival.after} ms`}
      {arrival.state === "failed" && `✕ ${arrival.why}`}
    </dd>
  </div>
);

const Masking = ({ fate }: { fate: Fate }): ReactNode => {
  if (!fate.masked) return null;
  if (fate.masked.length === 0) return <p className="quiet">Nothing had to be masked.</p>;
  return (
    <p>
      <span className="chips">
        {fate.masked.map(({ field, rule }) => (
          <span className="chip" key={`${field}:${rule}`}>
            masked {rule.replace("_", " ")} in {field.replace("_", " ")}
          </span>
        ))}
      </span>
    </p>
  );
};

export const Panel = ({ fates }: { fates: Fate[] }): ReactNode => (
  <section className="panel" aria-label="What became of each event">
    <header>
      <h2>One click, three places</h2>
      <p className="quiet">Each event carries one id. Watch it arrive at Statsig, in the data layer and in ClickHouse.</p>
    </header>
    {fates.length === 0 && <p className="empty">No events yet. Send a message or press a button in the chat.</p>}
    <ol aria-live="polite">
      {fates.map((fate) => (
        <li
          key={fate.id}
          className="card"
          data-testid="event-card"
          data-event-id={fate.id}
          data-statsig={fate.statsig.state}
          data-gtm={fate.gtm.state}
          data-clickhouse={fate.clickhouse.state}
        >
          <div className="line">
            <strong>{fate.name}</strong>
            <code title={fate.id}>{fate.id.slice(0, 13)}…</code>
          </div>
          <dl>
            <Place name="Statsig" arrival={fate.statsig} />
            <Place name="GTM" arrival={fate.gtm} />
            <Place name="ClickHouse" arrival={fate.clickhouse} />
          </dl>
          {fate.stored !== undefined && (
            <p className="stored">
              <span className="quiet">stored text</span> {fate.stored}
            </p>
          )}
          <Masking fate={fate} />
        </li>
      ))}
    </ol>
  </section>
);
