import type { ReactNode } from "react";
import controls from "./controls.module.css";

type SegmentedProps<Value> = {
  /** What is chosen here, e.g. "Span". */
  label: string;
  value: Value;
  options: readonly { value: Value; word: ReactNode }[];
  onChange: (value: Value) => void;
};

/** A few exclusive choices in a row. */
export const Segmented = <Value extends string | number>({ label, value, options, onChange }: SegmentedProps<Value>) => (
  <div className={controls.segmented} role="group" aria-label={label}>
    {options.map((option) => (
      <button key={option.value} type="button" className={controls.segment} aria-pressed={option.value === value} onClick={() => onChange(option.value)}>
        {option.word}
      </button>
    ))}
  </div>
);
