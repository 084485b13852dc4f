// The dashboard's colours, type and controls, so that both pages look like one product.
import "../../dashboard/src/tokens.css";
import "../../dashboard/src/base.css";

import { AnalyticsProvider } from "@twintrack/browser/react";
import { StrictMode, useEffect, type ReactNode } from "react";
import { createRoot } from "react-dom/client";

import { Chat } from "./chat";
import { useFates } from "./fates";
import styles from "./main.module.css";
import { Panel } from "./panel";
import { setUp, type Demo } from "./setup";
import { applyTheme } from "./theme";

const VENDOR_FLUSH_MS = 500;

const Page = ({ demo }: { demo: Demo }): ReactNode => {
  const { fates, silent, add } = useFates();
  useEffect(() => {
    // Statsig's client may wait a minute on its own; the demo shows arrivals at once.
    const timer = setInterval(demo.flushVendors, VENDOR_FLUSH_MS);
    return () => clearInterval(timer);
  }, [demo]);
  return (
    <AnalyticsProvider analytics={demo.analytics}>
      <header className={styles.top}>
        <h1>
          <img src="/mark.svg" width={24} height={24} alt="" /> Twintrack <span>demo</span>
        </h1>
        <a href="/">Dashboard</a>
      </header>
      <main className={styles.main}>
        <Chat onTracked={add} />
        <Panel fates={fates} silent={silent} />
      </main>
    </AnalyticsProvider>
  );
};

const Failure = ({ error }: { error: unknown }): ReactNode => (
  <main className={styles.failure} role="alert">
    <h1>The demo could not start</h1>
    <p>
      {error instanceof Error ? error.message : "Unknown error"}. Is <code>twintrack serve --demo</code> running?
    </p>
  </main>
);

applyTheme();
const root = document.getElementById("root");
if (root) {
  const react = createRoot(root);
  setUp().then(
    (demo) => react.render(<StrictMode><Page demo={demo} /></StrictMode>),
    (error: unknown) => react.render(<Failure error={error} />),
  );
}
