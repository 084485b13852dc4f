import { X } from "lucide-react";
import { Code } from "./Code";
import controls from "./controls.module.css";
import styles from "./Access.module.css";

type ToldProps = { title: string; note: string; text: string; onClose: () => void };

/** A secret that the server tells once. */
export const Told = ({ title, note, text, onClose }: ToldProps) => (
  <div className={styles.told} role="status">
    <div className={styles.toldHead}>
      <h3>{title}</h3>
      <button type="button" className={controls.icon} onClick={onClose} aria-label="Close; it is not shown again">
        <X size={18} aria-hidden />
      </button>
    </div>
    <p>{note}</p>
    <Code label={title} text={text} />
  </div>
);
