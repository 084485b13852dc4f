import { X } from "lucide-react";
import { type Ref, useId } from "react";
import { zoneName } from "../format";
import { setPreferences, type Theme, usePreferences } from "../preferences";
import controls from "./controls.module.css";
import styles from "./HelpDialog.module.css";

const THEMES: readonly { value: Theme; word: string }[] = [
  { value: "system", word: "as the device asks" },
  { value: "light", word: "light" },
  { value: "dark", word: "dark" },
];

/** Keys, and the few things a reader may choose. */
export const HelpDialog = ({ ref }: { ref: Ref<HTMLDialogElement> }) => {
  const title = useId();
  const { theme, zone, shortcuts } = usePreferences();
  return (
    <dialog
      ref={ref}
      aria-labelledby={title}
      className={styles.dialog}
      onClick={(event) => {
        // A click on the dialog itself, not its content, is a click on the backdrop.
        if (event.target === event.currentTarget) event.currentTarget.close();
      }}
    >
      <form method="dialog" className={styles.content}>
        <div className={styles.head}>
          <h2 id={title}>Help</h2>
          <button type="submit" className={controls.icon} aria-label="Close">
            <X size={18} aria-hidden />
          </button>
        </div>
        <h3>Keys</h3>
        <dl className={styles.keys}>
          <dt>
            <kbd>/</kbd>
          </dt>
          <dd>Where is my event?</dd>
          <dt>
            <kbd>?</kbd>
          </dt>
          <dd>This help</dd>
          <dt>
            <kbd>←</kbd> <kbd>→</kbd>
          </dt>
          <dd>Minute by minute through the chart, when it has the focus</dd>
          <dt>
            <kbd>Esc</kbd>
          </dt>
          <dd>Close, or leave the search</dd>
        </dl>
        <label className={styles.check}>
          <input type="checkbox" checked={shortcuts} onChange={(event) => setPreferences({ shortcuts: event.target.checked })} />
          Use the single keys / and ?
        </label>
        <h3>Display</h3>
        <label className={styles.choice}>
          <span>Times in</span>
          <select className={controls.input} value={zone} onChange={(event) => setPreferences({ zone: event.target.value === "local" ? "local" : "utc" })}>
            <option value="utc">UTC</option>
            <option value="local">{zoneName("local") === "UTC" ? "This device's zone (UTC)" : zoneName("local")}</option>
          </select>
        </label>
        <label className={styles.choice}>
          <span>Colours</span>
          <select
            className={controls.input}
            value={theme}
            onChange={(event) => setPreferences({ theme: THEMES.find(({ value }) => value === event.target.value)?.value ?? "system" })}
          >
            {THEMES.map(({ value, word }) => (
              <option key={value} value={value}>
                {word}
              </option>
            ))}
          </select>
        </label>
      </form>
    </dialog>
  );
};
