/**
 * `@twintrack/browser/mask`: personal data out of a text before it leaves the page. The service masks again, whatever comes.
 *
 * The same first rule set as the service: e-mail, US SSN, payment cards (Luhn), common API keys, tokens and private keys,
 * tested on the same vectors. Browsers have no linear-time engine, so no pattern here can be tried twice over the same
 * characters: where a rule of the service could (an e-mail, a JWT), the text is cut into runs first.
 */

/** Longer texts are cut: nobody masks what nobody can send. The service takes events of so many bytes. */
export const MOST_CHARACTERS = 131_072;

interface Finding {
  start: number;
  end: number;
  token: string;
}

const KEYS = new RegExp(
  [
    "sk-[A-Za-z0-9_-]{16,}",
    "[srp]k_(?:live|test)_[A-Za-z0-9]{10,}",
    "whsec_[A-Za-z0-9+/=]{16,}",
    "(?:AKIA|ASIA)[A-Z0-9]{16}",
    "gh[pousr]_[A-Za-z0-9]{20,}",
    "github_pat_[A-Za-z0-9_]{20,}",
    "glpat-[A-Za-z0-9_-]{16,}",
    "xox[abeoprs]-[A-Za-z0-9-]{10,}",
    "AIza[A-Za-z0-9_-]{30,}",
    "npm_[A-Za-z0-9]{30,}",
    "pypi-[A-Za-z0-9_-]{30,}",
    "hf_[A-Za-z0-9]{20,}",
    "SG\\.[A-Za-z0-9_-]{16,}\\.[A-Za-z0-9_-]{16,}",
    "-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[^-]*-----END [A-Z ]*PRIVATE KEY-----|[^-]*)",
  ].join("|"),
  "g",
);
const TOKEN_RUN = /[A-Za-z0-9_-]+/g;
const JWT_START = /eyJ[A-Za-z0-9_-]{8}/;
const JWT_REST = /\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*/y;
const LOCAL_RUN = /[\p{L}\p{N}._%+-]+/gu;
const DOMAIN = /@[\p{L}\p{N}-]+(?:\.[\p{L}\p{N}-]+)+/uy;
const SSN = /\d{3}[- ]\d{2}[- ]\d{4}/g;
const DIGITS = /\d(?:[ -]?\d){12,}/g;
const GROUP = /\d+/g;
const UUID = /[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}/g;
// Digits of any script, and the raised and lowered ones: what the service calls a digit.
const DIGIT = /[\p{Nd}\u00b2\u00b3\u00b9\u2070\u2074-\u2089]/u;

const spans = (pattern: RegExp, text: string): { start: number; end: number }[] =>
  [...text.matchAll(pattern)].map((found) => ({ start: found.index ?? 0, end: (found.index ?? 0) + found[0].length }));

/** Where the pattern ends that begins exactly at this place; undefined where it does not. */
const endsAt = (sticky: RegExp, text: string, at: number): number | undefined => {
  sticky.lastIndex = at;
  return sticky.test(text) ? sticky.lastIndex : undefined;
};

/** Left to right; of two that overlap the one that starts first. */
const apart = (found: Finding[]): Finding[] => {
  let end = 0;
  return found.sort((a, b) => a.start - b.start).filter((one) => one.start >= end && ((end = one.end), true));
};

function apiKeys(text: string): Finding[] {
  const found = spans(KEYS, text);
  for (const run of text.includes("eyJ") ? spans(TOKEN_RUN, text) : []) {
    const first = text[run.end] === "." ? text.slice(run.start, run.end).search(JWT_START) : -1;
    const end = first < 0 ? undefined : endsAt(JWT_REST, text, run.end);
    if (end !== undefined) found.push({ start: run.start + first, end });
  }
  return apart(found.map((span) => ({ ...span, token: "[API_KEY]" })));
}

function emails(text: string): Finding[] {
  const found: Finding[] = [];
  let before = 0;
  for (const run of text.includes("@") ? spans(LOCAL_RUN, text) : []) {
    const start = Math.max(run.start, before);
    const end = start < run.end && text[run.end] === "@" ? endsAt(DOMAIN, text, run.end) : undefined;
    if (end === undefined) continue;
    found.push({ start, end, token: "[EMAIL]" });
    before = end;
  }
  return found;
}

/** Areas 000, 666 and 9xx, group 00 and serial 0000 were never issued. Source: SSA, randomisation of 2011. */
function isSsn(text: string): boolean {
  const area = text.slice(0, 3);
  return text[3] === text[6] && area !== "000" && area !== "666" && area < "900" && text.slice(4, 6) !== "00" && text.slice(7) !== "0000";
}

const digitAt = (text: string, at: number): boolean => DIGIT.test(text[at] ?? "");

const ssns = (text: string): Finding[] =>
  spans(SSN, text)
    .filter(({ start, end }) => isSsn(text.slice(start, end)) && !digitAt(text, start - 1) && !digitAt(text, end))
    .map((span) => ({ ...span, token: "[SSN]" }));

/** Whether the check digit holds. Source: ISO/IEC 7812-1 annex B. */
function luhn(digits: string): boolean {
  let total = 0;
  for (let place = 0; place < digits.length; place++) {
    const value = digits.charCodeAt(digits.length - 1 - place) - 48;
    total += place % 2 === 0 ? value : value > 4 ? value * 2 - 9 : value * 2;
  }
  return total % 10 === 0;
}

const isCard = (digits: string): boolean => digits.length >= 13 && /^[2-6]/.test(digits) && luhn(digits) && /(\d)(?!\1)\d/.test(digits);

/** Windows of whole groups, 13 to 19 digits: `2 x 4111 ...` stays apart and an order number whole. */
function cards(text: string): Finding[] {
  const found: Finding[] = [];
  for (const run of spans(DIGITS, text)) {
    const groups = spans(GROUP, text.slice(run.start, run.end));
    for (let at = 0; at < groups.length; at++) {
      let digits = "";
      for (let last = at; last < groups.length && digits.length <= 19; last++) {
        const { start, end } = groups[last] as { start: number; end: number };
        digits += end - start > 19 ? "x".repeat(20) : text.slice(run.start + start, run.start + end);
        if (digits.length > 19 || !isCard(digits)) continue;
        found.push({ start: run.start + (groups[at] as { start: number }).start, end: run.start + end, token: "[CARD]" });
        at = last;
        break;
      }
    }
  }
  return found;
}

/** Marks what earlier rules have taken, so that a text full of findings is not compared pair by pair. */
function keep(found: Finding[], more: Finding[]): Finding[] {
  const kept: Finding[] = [];
  let at = 0;
  for (const one of more) {
    while (at < found.length && (found[at] as Finding).end <= one.start) at++;
    const next = found[at];
    if (!next || next.start >= one.end) kept.push(one);
  }
  return [...found, ...kept].sort((a, b) => a.start - b.start);
}

/** The text with each finding replaced by `[EMAIL]`, `[SSN]`, `[CARD]` or `[API_KEY]`. Time grows with the length alone; texts beyond 131,072 characters are cut. */
export function mask(text: string): string {
  const whole = text.length > MOST_CHARACTERS ? text.slice(0, MOST_CHARACTERS) : text;
  const uuids = whole.includes("-") ? spans(UUID, whole) : [];
  let at = 0;
  const outside = (one: Finding): boolean => {
    while (at < uuids.length && (uuids[at] as Finding).end < one.end) at++;
    const uuid = uuids[at];
    return !(uuid && uuid.start <= one.start && one.end <= uuid.end);
  };
  let found: Finding[] = [];
  for (const rule of [apiKeys, emails, ssns, cards]) {
    at = 0;
    found = keep(found, rule(whole).filter(outside));
  }
  let masked = "";
  let end = 0;
  for (const one of found) {
    masked += whole.slice(end, one.start) + one.token;
    end = one.end;
  }
  return masked + whole.slice(end);
}
