import { Fragment } from "react";
import { sentence } from "../format";

/** A server's sentence; what it puts between backticks is code. */
export const Hint = ({ text }: { text: string }) => (
  <>
    {sentence(text).split("`").map((part, index, parts) => {
      // Odd parts stand between two backticks; a last one without its partner is text.
      const isCode = index % 2 === 1 && index < parts.length - 1;
      return <Fragment key={index}>{isCode ? <code>{part}</code> : part}</Fragment>;
    })}
  </>
);
