import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ArrowRight } from "lucide-react";
import { queries, mayGiveAccess } from "../queries";
import { useSample } from "../sample";
import { curlSnippet, NO_KEY } from "../snippets";
import { publicWriteKeys } from "../writekeys";
import { Code } from "./Code";
import controls from "./controls.module.css";
import styles from "./FirstEvent.module.css";
import { Bone } from "./Tile";

const MAKE_KEY = "twintrack keys create --role write";

/** Stands where the live page has nothing to show, and names the one next step. */
export const FirstEvent = () => {
  const { data: session } = useQuery(queries.session());
  return (
    <section className={styles.welcome} aria-labelledby="first-event">
      <div className={styles.words}>
        <h2 id="first-event">Nothing has been received yet</h2>
        {session?.demo ? (
          <>
            <p>Open the demo and click. Each event shows up here within two seconds, and you can follow it to the stored row.</p>
            <a href="/demo/" target="_blank" rel="noopener" className={controls.primary}>
              Open the demo
              <ArrowRight size={15} aria-hidden />
            </a>
          </>
        ) : (
          <>
            <p>Run this once. The event shows up here within two seconds, and you can follow it to the stored row.</p>
            <Link to="/setup" className={controls.button}>
              Send from npm or React instead
              <ArrowRight size={15} aria-hidden />
            </Link>
          </>
        )}
      </div>
      <OneEvent />
    </section>
  );
};

const OneEvent = () => {
  const { data: session } = useQuery(queries.session());
  const keys = useQuery(queries.keys(session));
  const { eventId, now } = useSample();
  const key = publicWriteKeys(keys.data?.keys ?? [])[0];
  if (keys.isLoading) return <Bone height="148px" />;
  if (mayGiveAccess(session) && !key) return <Code label="Make a write key; it is public, and shown in Setup" text={MAKE_KEY} />;
  return <Code label="Send one event by hand" text={curlSnippet({ origin: window.location.origin, writeKey: key?.write_key ?? NO_KEY }, eventId, now)} />;
};
