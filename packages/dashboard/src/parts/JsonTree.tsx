import { plural } from "../format";
import styles from "./JsonTree.module.css";

/** Levels that start open, and the most entries that do. */
const OPEN_LEVELS = 2;
const OPEN_ENTRIES = 20;

type JsonTreeProps = { value: unknown; level?: number };

/** JSON to read: objects and lists fold. */
export const JsonTree = ({ value, level = 0 }: JsonTreeProps) => {
  const entries: [string, unknown][] = Array.isArray(value)
    ? value.map((item, index) => [String(index), item])
    : Object.entries(typeof value === "object" && value !== null ? value : {});
  if (entries.length === 0) return <p className={styles.leaf}>{level === 0 ? "no metadata" : Array.isArray(value) ? "[]" : "{}"}</p>;
  return (
    <ul className={styles.tree}>
      {entries.map(([name, item]) => (
        <li key={name}>
          {typeof item === "object" && item !== null ? (
            <details open={level + 1 < OPEN_LEVELS && Object.keys(item).length <= OPEN_ENTRIES}>
              <summary>
                <span className={styles.name}>{name}</span>
                <span className={styles.size}>{Array.isArray(item) ? `list of ${item.length}` : plural(Object.keys(item).length, "field")}</span>
              </summary>
              <JsonTree value={item} level={level + 1} />
            </details>
          ) : (
            <p className={styles.leaf}>
              <span className={styles.name}>{name}</span>
              <span className={styles[typeof item] ?? styles.null}>{typeof item === "string" ? JSON.stringify(item) : String(item)}</span>
            </p>
          )}
        </li>
      ))}
    </ul>
  );
};
