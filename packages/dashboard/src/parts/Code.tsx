import { CopyButton } from "./CopyButton";
import styles from "./Code.module.css";

type CodeProps = {
  text: string;
  /** What the block is, e.g. "Install command"; also names its copy button. */
  label: string;
  /** Shown above the block, e.g. a file name. Default: nothing. */
  title?: string;
};

/** A block of text to copy. Long lines scroll; the block can be reached with the keyboard to do so. */
export const Code = ({ text, label, title }: CodeProps) => (
  <div className={styles.block}>
    <div className={styles.bar}>
      <span>{title ?? label}</span>
      <CopyButton text={text} label={`Copy: ${label}`} />
    </div>
    <pre className={styles.text} tabIndex={0} role="region" aria-label={label}>
      <code>{text}</code>
    </pre>
  </div>
);
