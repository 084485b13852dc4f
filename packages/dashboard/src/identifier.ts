/** Event ids: UUIDs whose version 7 carries the time they were made. */

const UUID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i;

/** The same without its dashes, as some logs write it. */
const BARE = /\b([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})\b/i;

/** The id inside pasted text (a log line, a JSON fragment), lower case; else the trimmed text itself. */
export const readIdentifier = (text: string): string =>
  (UUID.exec(text)?.[0] ?? BARE.exec(text)?.slice(1).join("-"))?.toLowerCase() ?? text.trim();

export const isUuid = (text: string): boolean => text.length === 36 && UUID.test(text);

/** When a UUIDv7 was made, in milliseconds since 1970; null for every other id. */
export const madeAt = (id: string): number | null =>
  isUuid(id) && id[14] === "7" ? Number.parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : null;

/** A fresh UUIDv7 for `now` (milliseconds since 1970). `random` fills the bytes it is given. */
export const uuid7 = (now: number, random: (bytes: Uint8Array<ArrayBuffer>) => void): string => {
  const tail = new Uint8Array(10);
  random(tail);
  tail[0] = ((tail[0] ?? 0) & 0x0f) | 0x70;
  tail[2] = ((tail[2] ?? 0) & 0x3f) | 0x80;
  const digits = now.toString(16).padStart(12, "0") + Array.from(tail, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [digits.slice(0, 8), digits.slice(8, 12), digits.slice(12, 16), digits.slice(16, 20), digits.slice(20)].join("-");
};
