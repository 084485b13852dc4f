import { useQuery } from "@tanstack/react-query";
import { EyeOff, TriangleAlert } from "lucide-react";
import { useEffect, useId, useState } from "react";
import type { MaskingRules, Tried } from "../api";
import { classes } from "../classes";
import { ACTION_WORDS, pieces, written } from "../masked";
import { Chip } from "../parts/Chip";
import controls from "../parts/controls.module.css";
import { Bone, Failure, Tile } from "../parts/Tile";
import { queries } from "../queries";
import { useTitle } from "../title";
import styles from "./MaskingPage.module.css";
import pages from "./Page.module.css";

const EXAMPLE = "Mail ada@example.com or call (415) 555-0132; card 4111 1111 1111 1111. Order 112-9483321-0094421.";
const MOST_CHARACTERS = 20_000;

/** Which rules mask what is stored, and what they would leave of a text. */
export const MaskingPage = () => {
  useTitle("Masking");
  const rules = useQuery(queries.masking());
  return (
    <div className={pages.stack}>
      <div className={styles.head}>
        <h1>Masking</h1>
        <p>Every text is masked before it is on disk. Try what the rules in force leave of one.</p>
      </div>
      <div className={styles.columns}>
        <Try version={rules.data?.version} />
        <Tile title="Rules in force" query={rules} flush skeleton={<Bone height="320px" />}>
          {(data) => <Rules rules={data} />}
        </Tile>
      </div>
    </div>
  );
};

/** Milliseconds without a key press after which a text is asked about. */
const PAUSE = 200;

const useSettled = (text: string): string => {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), PAUSE);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
};

const Try = ({ version }: { version: string | undefined }) => {
  const heading = useId();
  const field = useId();
  const [text, setText] = useState("");
  const asked = useSettled(text);
  const tried = useQuery(queries.tried(asked, version));
  return (
    <section className={styles.tile} aria-labelledby={heading}>
      <div className={styles.title}>
        <h2 id={heading}>Try a text</h2>
        <button type="button" className={controls.quiet} onClick={() => setText(text === "" ? EXAMPLE : "")}>
          {text === "" ? "Use an example" : "Clear"}
        </button>
      </div>
      <label htmlFor={field} className={styles.label}>
        Text as a person would write it
      </label>
      <textarea
        id={field}
        className={classes(controls.input, styles.text)}
        value={text}
        onChange={(event) => setText(event.target.value)}
        rows={5}
        maxLength={MOST_CHARACTERS}
        spellCheck={false}
        autoComplete="off"
      />
      <p className={styles.note}>It goes to your own server, which keeps and logs nothing of it. Pseudonyms shown here are not those that are stored.</p>
      <h3 className={styles.label}>What would be stored</h3>
      <div aria-live="polite" className={styles.result}>
        {asked.trim() === "" ? (
          <p className={styles.nothing}>Type above.</p>
        ) : tried.error && !tried.data ? (
          <Failure error={tried.error} />
        ) : tried.data ? (
          <Result text={asked} tried={tried.data} fresh={!tried.isPlaceholderData} />
        ) : (
          <Bone />
        )}
      </div>
    </section>
  );
};

const Result = ({ text, tried, fresh }: { text: string; tried: Tried; fresh: boolean }) => (
  <>
    {tried.dropped || tried.quarantined ? (
      <p className={styles.gone}>{tried.quarantined ? "Nothing: the event would keep none of its texts." : "Nothing: the whole field would be dropped."}</p>
    ) : (
      <p className={styles.masked}>
        {pieces(tried.masked).map((piece, place) =>
          piece.token ? (
            <mark key={place} className={styles.token}>
              {piece.text}
            </mark>
          ) : (
            piece.text
          ),
        )}
      </p>
    )}
    {tried.found.length === 0 ? (
      <p className={styles.nothing}>Nothing in it matched a rule.</p>
    ) : (
      fresh && (
        <ul className={styles.found} aria-label="What was found">
          {tried.found.map((found) => (
            <li key={found.start}>
              <code>{written(text, found)}</code>
              <Chip tone="masked" icon={EyeOff} title={ACTION_WORDS[found.action]}>
                {found.rule}
              </Chip>
            </li>
          ))}
        </ul>
      )
    )}
  </>
);

const Rules = ({ rules }: { rules: MaskingRules }) => (
  <>
    <div className={styles.version}>
      <p>
        Version <code>{rules.version}</code> in <strong>{rules.environment}</strong>
      </p>
      <p className={styles.note}>
        {rules.from_file ? "With the file that TWINTRACK_MASKING_RULES names; a change counts within a second." : "The built-in rules. TWINTRACK_MASKING_RULES names a file of your own."}
      </p>
      {rules.fault && (
        <p className={styles.fault} role="alert">
          <TriangleAlert size={16} aria-hidden />
          <span>The file is refused, the rules from before it stay in force: {rules.fault}</span>
        </p>
      )}
    </div>
    <table className={styles.rules}>
      <thead>
        <tr>
          <th scope="col">Rule</th>
          <th scope="col">What becomes of it</th>
        </tr>
      </thead>
      <tbody>
        {rules.rules.map((rule) => (
          <tr key={rule.name}>
            <td>
              <code>{rule.name}</code> {rule.own && <Chip tone="accent">yours</Chip>}
            </td>
            <td>{rule.action === "token" ? <code>{rule.token}</code> : (ACTION_WORDS[rule.action] ?? rule.action)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  </>
);
