import { type LucideIcon } from "lucide-react";
import { useEffect, useState } from "react";
import { classes } from "../classes";
import controls from "./controls.module.css";
import styles from "./Access.module.css";

const ARMED_FOR = 5000;

type ConfirmButtonProps = {
  icon: LucideIcon;
  word: string;
  /** What the second press says, e.g. "Really remove". */
  again: string;
  /** What it acts on, for those who hear the button: "ann@example.com". */
  of: string;
  onConfirm: () => void;
  disabled?: boolean;
};

/** Acts on the second press: what it does cannot be undone. */
export const ConfirmButton = ({ icon: Icon, word, again, of, onConfirm, disabled = false }: ConfirmButtonProps) => {
  const [armed, setArmed] = useState(false);
  useEffect(() => {
    if (!armed) return;
    const timer = setTimeout(() => setArmed(false), ARMED_FOR);
    return () => clearTimeout(timer);
  }, [armed]);
  const press = () => {
    setArmed(!armed);
    if (armed) onConfirm();
  };
  return (
    <button
      type="button"
      className={classes(controls.quiet, armed && styles.armed)}
      onClick={press}
      disabled={disabled}
      aria-label={`${armed ? again : word}: ${of}`}
    >
      <Icon size={15} aria-hidden />
      {armed ? again : word}
    </button>
  );
};
