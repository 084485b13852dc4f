import "./demo.css";

import { AnalyticsProvider } from "@twintrack/browser/react";
import { StrictMode, useEffect, type ReactNode } from "react";
import { createRoot } from "react-dom/client";

import { Chat } from "./chat";
import { useFates } from "./fates";
import { Panel } from "./panel";
import { setUp, type Demo } from "./setup";

const VENDOR_FLUSH_MS = 500;

const Page = ({ demo }: { demo: Demo }): ReactNode => {
  const { fates, add } = useFates();
  useEffect(() => {
    // Statsig's client may wait a minute on its own; the demo shows arrivals at once.
    const timer = setInterval(demo.flushVendors, VENDOR_FLUSH_MS);
    return () => clearInterval(timer);
  }, [demo]);
  return (
    <AnalyticsProvider analytics={demo.analytics}>
      <header className="top">
        <h1>
          Twintrack <span className="quiet">demo</span>
        </h1>
        <a href="/">Dashboard</a>
      </header>
      <main>
        <Chat onTracked={add} />
        <Panel fates={fates} />
      </main>
    </AnalyticsProvider>
  );
};

const root = document.getElementById("root");
if (root) {
  const react = createRoot(root);
  setUp().then(
    (demo) => react.render(<StrictMode><Page demo={demo} /></StrictMode>),
    (error: unknown) => react.render(<p className="empty" role="alert">The demo could not start: {error instanceof Error ? error.message : "unknown error"}. Is `twintrack serve --demo` running?</p>),
  );
}
