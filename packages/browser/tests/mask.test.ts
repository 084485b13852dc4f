import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

import { mask, MOST_CHARACTERS } from "../src/mask";

interface Vectors {
  texts: { text: string; masked: string }[];
}
const { texts } = JSON.parse(readFileSync(new URL("../../../contract/vectors/mask.json", import.meta.url), "utf8")) as Vectors;

describe("masking", () => {
  it.each(texts)("leaves of $text what the service leaves", ({ text, masked }) => {
    expect(mask(text)).toBe(masked);
  });

  it.each(texts)("of what is masked changes nothing: $masked", ({ masked }) => {
    expect(mask(masked)).toBe(masked);
  });

  it("cuts a text beyond its bound", () => {
    expect(mask("x".repeat(MOST_CHARACTERS + 1))).toHaveLength(MOST_CHARACTERS);
  });
});

/** Each would take a backtracking engine minutes or more in the plain form of the service's rules. */
const hostile: Record<string, string> = {
  "local parts without an @": "a.",
  "e-mails that are none": "a@",
  "domains without a dot": "a@a",
  "e-mails": "a@b.c ",
  "starts of a JWT": "eyJ",
  "starts of a JWT of two parts": "eyJaaaaaaaaaa.",
  "digits": "4",
  "digits apart": "4 ",
  "groups of digits": "411 ",
  "starts of a private key": "-----BEGIN ",
  "a private key that never ends": "-----BEGIN PRIVATE KEY-----",
  "capitals": "-----BEGIN A",
  "keys": "sk-",
  "two-part keys": "SG.aaaaaaaaaaaaaaaa",
  "hex": "0f",
  "parts of a UUID": "aaaaaaaa-aaaa-",
  "social security numbers": "078-05-1120 ",
};

describe("hostile input", () => {
  // The bound is an order of magnitude above what 100 kB take, and many below what backtracking would.
  it.each(Object.entries(hostile))("of %s takes time by its length alone", { timeout: 10_000 }, (_, part) => {
    const text = part.repeat(Math.ceil(100_000 / part.length));
    expect(mask(text).length).toBeGreaterThan(0);
    expect(mask(`${text}!`).length).toBeGreaterThan(0);
    expect(mask(`${text} ada@example.com`).includes("ada@")).toBe(false);
  });
});
