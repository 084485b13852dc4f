/** How a tried text and what the rules leave of it are shown. */

import type { Found } from "./api";

export type Piece = { text: string; token: boolean };

const TOKEN = /(\[[A-Z][A-Z0-9_]*\])/;

/** The masked text in pieces, its tokens apart. */
export const pieces = (masked: string): Piece[] =>
  masked
    .split(TOKEN)
    .map((text, place) => ({ text, token: place % 2 === 1 }))
    .filter(({ text }) => text !== "");

/** What was found, as it was written. The server counts code points, a string here counts UTF-16 units. */
export const written = (text: string, found: Found): string => Array.from(text).slice(found.start, found.end).join("");

export const ACTION_WORDS: Readonly<Record<string, string>> = {
  token: "replaced by its token",
  last_four: "token with the last four",
  pseudonym: "keyed pseudonym",
  drop_field: "the field is dropped",
  quarantine: "the event keeps no text",
};
