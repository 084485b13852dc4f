/** Beside the chat: each event as a card, the newest first. */
import type { ReactNode } from "react";

import { Card } from "./card";
import { isOpenFate, type Fate } from "./fates";
import styles from "./panel.module.css";

/** The last event that came to rest, for those who hear the page instead of watching it. */
const lastSettled = (fates: Fate[]): string => {
  const fate = fates.find((one) => !isOpenFate(one));
  if (!fate) return "";
  const arrived = [fate.statsig, fate.gtm, fate.clickhouse].filter(({ state }) => state === "arrived").length;
  return `${fate.name} reached ${arrived} of 3 places.`;
};

export const Panel = ({ fates, silent }: { fates: Fate[]; silent: boolean }): ReactNode => (
  <section className={styles.panel} aria-labelledby="panel">
    <header className={styles.head}>
      <h2 id="panel">One click, three places</h2>
      <p>Every event goes out under one id. Times are from the click until this page saw it there; it looks four times a second.</p>
    </header>
    {silent && (
      <p className={styles.silent} role="alert">
        The service does not answer. This page keeps looking, and the SDK sends again what was not acknowledged.
      </p>
    )}
    <p className="visually-hidden" role="status">
      {lastSettled(fates)}
    </p>
    {fates.length === 0 ? (
      <div className={styles.empty}>
        <p className={styles.emptyTitle}>No events yet</p>
        <p>Send a message or press a button in the chat. Its event shows up here, first on its way, then in each place.</p>
      </div>
    ) : (
      <ol className={styles.cards} tabIndex={0} aria-label="Events, newest first">
        {fates.map((fate) => (
          <Card key={fate.id} fate={fate} />
        ))}
      </ol>
    )}
  </section>
);
