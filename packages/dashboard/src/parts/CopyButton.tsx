import { Check, Copy } from "lucide-react";
import { useEffect, useState } from "react";
import controls from "./controls.module.css";

const SHOWN_FOR = 2000;

type CopyButtonProps = {
  text: string;
  /** What is copied, for those who hear the button: "Copy the event id". */
  label: string;
  /** Shows the icon alone. Default false. */
  bare?: boolean;
  /** What the button says. Default "Copy". */
  word?: string;
};

/** Copies, and says whether that worked: the clipboard is closed to pages served over plain HTTP from elsewhere. */
export const CopyButton = ({ text, label, bare = false, word: idle = "Copy" }: CopyButtonProps) => {
  const [state, setState] = useState<"idle" | "copied" | "failed">("idle");
  useEffect(() => {
    if (state === "idle") return;
    const timer = setTimeout(() => setState("idle"), SHOWN_FOR);
    return () => clearTimeout(timer);
  }, [state]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setState("copied");
    } catch {
      setState("failed");
    }
  };
  const word = state === "copied" ? "Copied" : state === "failed" ? "Select and copy by hand" : idle;
  return (
    <button type="button" className={bare && state === "idle" ? controls.icon : controls.quiet} onClick={() => void copy()} aria-label={state === "idle" ? label : word}>
      {state === "copied" ? <Check size={15} aria-hidden /> : <Copy size={15} aria-hidden />}
      {!(bare && state === "idle") && <span aria-live="polite">{word}</span>}
    </button>
  );
};
