import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ArrowRight } from "lucide-react";
import { queries } from "../queries";
import { useSample } from "../sample";
import { curlSnippet } from "../snippets";
import { publicWriteKeys } from "../writekeys";
import { Code } from "./Code";
import controls from "./controls.module.css";
import styles from "./FirstEvent.module.css";
import { Bone } from "./Tile";

const MAKE_KEY = "twintrack keys create --role write";

/** Stands where the live page has nothing to show, and names the one next command. */
export const FirstEvent = () => {
  const keys = useQuery(queries.keys());
  const { eventId, now } = useSample();
  const key = publicWriteKeys(keys.data?.keys ?? [])[0];
  return (
    <section className={styles.welcome} aria-labelledby="first-event">
      <div className={styles.words}>
        <h2 id="first-event">Nothing has been received yet</h2>
        <p>
          {key
            ? "Run this once. The event shows up here within two seconds, and you can follow it to the stored row."
            : "A page needs a public write key to send with. Make one; it is printed once and shown in Setup."}
        </p>
        <Link to="/setup" className={controls.button}>
          Send from npm or React instead
          <ArrowRight size={15} aria-hidden />
        </Link>
      </div>
      {keys.isPending ? (
        <Bone height="148px" />
      ) : key ? (
        <Code label="Send one event" text={curlSnippet({ origin: window.location.origin, writeKey: key.write_key }, eventId, now)} />
      ) : (
        <Code label="Make a write key" text={MAKE_KEY} />
      )}
    </section>
  );
};
