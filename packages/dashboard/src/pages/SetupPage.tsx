import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { ArrowRight, CircleCheck, Radio } from "lucide-react";
import { useState } from "react";
import type { Key } from "../api";
import { Code } from "../parts/Code";
import controls from "../parts/controls.module.css";
import { RelativeInstant } from "../parts/Instant";
import { Segmented } from "../parts/Segmented";
import { Bone, Tile } from "../parts/Tile";
import { queries, mayGiveAccess } from "../queries";
import { useSample } from "../sample";
import { type Way, WAYS } from "../search";
import { findArrival } from "../live";
import { curlSnippet, INSTALL, NO_KEY, npmSnippet, reactSnippet, vendorSnippet } from "../snippets";
import { useTitle } from "../title";
import { publicWriteKeys } from "../writekeys";
import pages from "./Page.module.css";
import styles from "./SetupPage.module.css";

const WAY_WORDS: Readonly<Record<Way, string>> = { npm: "npm", react: "React", curl: "curl" };
const WAY_OPTIONS = WAYS.map((way) => ({ value: way, word: WAY_WORDS[way] }));

/** From nothing to the first event, with the project's own key in the code. */
export const SetupPage = () => {
  useTitle("Setup");
  const { data: session } = useQuery(queries.session());
  const keys = useQuery(queries.keys(session));
  // Who may not see the keys gets the code all the same, with a place for one.
  const shown = mayGiveAccess(session) ? keys : { ...keys, data: { keys: [] }, error: null };
  const { with: way = "npm" } = useSearch({ from: "/setup" });
  const sample = useSample();
  const navigate = useNavigate({ from: "/setup" });
  return (
    <div className={pages.stack}>
      <div className={styles.head}>
        <h1>Send your first event</h1>
        <p>Each event goes to Statsig, to Google Tag Manager and into your own table, under one id.</p>
      </div>
      <div className={styles.columns}>
        <Tile
          title="Code"
          note={shown.data && publicWriteKeys(shown.data.keys).length > 0 ? "with your key in it, ready to paste" : undefined}
          query={shown}
          skeleton={<Bone height="280px" />}
          controls={
            <Segmented
              label="Way to send"
              value={way}
              options={WAY_OPTIONS}
              onChange={(chosen) => void navigate({ replace: true, resetScroll: false, search: chosen === "npm" ? {} : { with: chosen } })}
            />
          }
        >
          {(answer) => <Snippets keys={answer.keys} mayMake={mayGiveAccess(session)} way={way} sample={sample} />}
        </Tile>
        <Arrival eventId={sample.eventId} />
      </div>
    </div>
  );
};

type SnippetsProps = { keys: readonly Key[]; mayMake: boolean; way: Way; sample: { eventId: string; now: Date } };

const Snippets = ({ keys, mayMake, way, sample }: SnippetsProps) => {
  const usable = publicWriteKeys(keys);
  const [chosen, setChosen] = useState<string | null>(null);
  const key = usable.find(({ id }) => id === chosen) ?? usable[0];
  const place = { origin: window.location.origin, writeKey: key?.write_key ?? NO_KEY };
  return (
    <div className={styles.steps}>
      {usable.length === 0 && <NoKey mayMake={mayMake} />}
      {usable.length > 1 && (
        <label className={styles.key}>
          <span>Write key</span>
          <select className={controls.input} value={key?.id} onChange={(event) => setChosen(event.target.value)}>
            {usable.map(({ id, prefix, environment }) => (
              <option key={id} value={id}>
                {prefix}… ({environment})
              </option>
            ))}
          </select>
        </label>
      )}
      {way !== "curl" && (
        <div className={styles.step}>
          <h3>Install</h3>
          <Code label="Install command" title="Terminal" text={INSTALL} />
        </div>
      )}
      {way === "npm" && (
        <>
          <div className={styles.step}>
            <h3>Track</h3>
            <Code label="Code that sends an event" title="analytics.ts" text={npmSnippet(place)} />
          </div>
          <details className={styles.more}>
            <summary>Also send to Statsig and Google Tag Manager</summary>
            <p>
              Hand over the Statsig client your page already has. <code>gtm()</code> pushes into <code>window.dataLayer</code>. The text of a message
              goes to neither.
            </p>
            <Code label="Code with both vendors" title="analytics.ts" text={vendorSnippet(place)} />
          </details>
        </>
      )}
      {way === "react" && (
        <div className={styles.step}>
          <h3>Wrap the app, then use the hook</h3>
          <Code label="Code with the React hook" title="App.tsx" text={reactSnippet(place)} />
        </div>
      )}
      {way === "curl" && (
        <div className={styles.step}>
          <h3>Send one event by hand</h3>
          <Code label="Command that sends an event" title="Terminal" text={curlSnippet(place, sample.eventId, sample.now)} />
          <p>The event's id is fixed: sent again, it is counted as a duplicate and stored once.</p>
        </div>
      )}
    </div>
  );
};

const NoKey = ({ mayMake }: { mayMake: boolean }) => (
  <div className={styles.step}>
    <h3>{mayMake ? "Make a write key" : "Ask for a write key"}</h3>
    {mayMake ? (
      <>
        <p>This project has none yet. A write key is public: it can send events and read nothing.</p>
        <Code label="Command that makes a write key" title="Terminal" text="twintrack keys create --role write" />
      </>
    ) : (
      <p>
        Keys are shown to owners and admins. Ask one of them for a write key, and put it where the code says <code>{NO_KEY}</code>. It
        is public: it can send events and read nothing.
      </p>
    )}
  </div>
);

/** Watches for what the reader just sent. */
const Arrival = ({ eventId }: { eventId: string }) => {
  const live = useQuery(queries.live());
  const [openedAt] = useState(() => Date.now());
  return (
    <Tile title="Arrival" query={live} skeleton={<Bone height="96px" />}>
      {({ events, skew }) => {
        const arrived = findArrival(events, eventId, openedAt);
        return arrived ? (
          <div className={styles.arrival} role="status">
            <CircleCheck size={28} aria-hidden className={styles.arrived} />
            <p className={styles.arrivalTitle}>{arrived.event_name} has arrived</p>
            <p>
              <RelativeInstant at={arrived.server_timestamp} skew={skew} />, from {arrived.source}
            </p>
            <Link to="/events/$eventId" params={{ eventId: arrived.event_id }} className={controls.primary}>
              See where it went
              <ArrowRight size={15} aria-hidden />
            </Link>
          </div>
        ) : (
          <div className={styles.arrival} role="status">
            <Radio size={28} aria-hidden className={styles.listening} />
            <p className={styles.arrivalTitle}>Waiting for an event</p>
            <p>Leave this page open and run the code. What it sends shows up here.</p>
          </div>
        );
      }}
    </Tile>
  );
};
