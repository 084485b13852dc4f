/** Numbers, sizes and instants as words. Pure; times in the zone the reader chose. */

/** The two zones a reader may choose: UTC (default) or the browser's own. */
export type Zone = "utc" | "local";

const whole = new Intl.NumberFormat("en-GB");

/** 1234567 -> "1,234,567". */
export const count = (value: number): string => whole.format(value);

/** For narrow places: 1234567 -> "1.23 M"; exact below 100,000. */
export const short = (value: number): string => {
  const size = Math.abs(value);
  if (size < 100_000) return count(value);
  // Units change where rounding would say "1000 k".
  const [divisor, unit] = size < 999_500 ? [1e3, "k"] : size < 999_500_000 ? [1e6, "M"] : [1e9, "G"];
  return `${Number((value / (divisor as number)).toPrecision(3))} ${unit}`;
};

/** 1 -> "1 event", 2 -> "2 events". */
export const plural = (value: number, one: string, many = `${one}s`): string => `${count(value)} ${value === 1 ? one : many}`;

/** Bytes in binary units: 1536 -> "1.5 KiB". */
export const bytes = (value: number): string => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  while (size >= 1023.95 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toFixed(1).replace(/\.0$/, "")} ${units[unit]}`;
};

/** Seconds as the largest unit that still says something: 0.0042 -> "4.2 ms", 75 -> "1 min 15 s". */
export const duration = (seconds: number): string => {
  const sign = seconds < 0 ? "−" : "";
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 0.9995) return `${sign}${trim(size * 1000)} ms`;
  if (size < 59.95) return `${sign}${trim(size)} s`;
  const rounded = Math.round(size);
  if (rounded < 3600) return `${sign}${pair(rounded, 60, "min", 1, "s")}`;
  if (rounded < 86_400) return `${sign}${pair(rounded, 3600, "h", 60, "min")}`;
  return `${sign}${pair(rounded, 86_400, "d", 3600, "h")}`;
};

const trim = (value: number): string => String(value < 10 ? Number(value.toFixed(1)) : Math.round(value));

const pair = (seconds: number, large: number, largeUnit: string, small: number, smallUnit: string): string => {
  const rest = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large)} ${largeUnit}${rest > 0 ? ` ${rest} ${smallUnit}` : ""}`;
};

/** How long ago, in the coarsest words that are still true. Both arguments in milliseconds since 1970. */
export const ago = (then: number, now: number): string => {
  const seconds = Math.floor((now - then) / 1000);
  if (seconds < -1) return `in ${duration(-seconds)}`;
  if (seconds < 1) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
};

const zoned = (zone: Zone, options: Intl.DateTimeFormatOptions) =>
  new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...options, ...(zone === "utc" ? { timeZone: "UTC" } : {}) });

const CLOCK: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit" };
const DAY: Intl.DateTimeFormatOptions = { day: "numeric", month: "short", year: "numeric" };
const clocks = { utc: zoned("utc", CLOCK), local: zoned("local", CLOCK) };
const days = { utc: zoned("utc", DAY), local: zoned("local", DAY) };
const second: Intl.DateTimeFormatOptions = { ...CLOCK, second: "2-digit" };
const seconds = { utc: zoned("utc", second), local: zoned("local", second) };
const precise: Intl.DateTimeFormatOptions = { ...CLOCK, second: "2-digit", fractionalSecondDigits: 3 };
const precises = { utc: zoned("utc", precise), local: zoned("local", precise) };

/** "14:05". */
export const clock = (at: number, zone: Zone): string => clocks[zone].format(at);

/** "14:05:09". */
export const secondClock = (at: number, zone: Zone): string => seconds[zone].format(at);

/** "14:05:09.123". */
export const preciseClock = (at: number, zone: Zone): string => precises[zone].format(at);

/** "24 Nov 2026". */
export const day = (at: number, zone: Zone): string => days[zone].format(at);

/** "24 Nov 2026, 14:05:09.123 UTC", as read in tooltips. */
export const instant = (at: number, zone: Zone): string => `${day(at, zone)}, ${preciseClock(at, zone)} ${zoneName(zone)}`;

/** "UTC", or the browser's own zone by name. */
export const zoneName = (zone: Zone): string =>
  zone === "utc" ? "UTC" : new Intl.DateTimeFormat().resolvedOptions().timeZone || "local time";

/** Words for a code: "message_too_long" -> "message too long". */
export const words = (code: string): string => code.replaceAll("_", " ");

/** The server's clause as a sentence: "this key is unknown" -> "This key is unknown." Code at its start stays as it is. */
export const sentence = (text: string): string => {
  const whole = text.trim();
  if (whole === "") return "";
  return whole.charAt(0).toUpperCase() + whole.slice(1) + (/[.!?…]$/.test(whole) ? "" : ".");
};

/** An IPv4 address that a column of IPv6 holds, as people write it: "::ffff:7f00:0" -> "127.0.0.0". Others stay. */
export const address = (text: string): string => {
  const halves = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/i.exec(text)?.slice(1).map((half) => Number.parseInt(half, 16));
  return halves ? halves.flatMap((half) => [half >> 8, half & 255]).join(".") : text.replace(/^::ffff:(?=\d+\.)/i, "");
};
