/** The event as it travels, and the names it travels under. Pure. */
import { guard } from "./guard";

export type Metadata = Record<string, unknown>;

export type Consent = "granted" | "denied" | "pending";

/** A third party that events go to beside our own service. */
export type Vendor = "statsig" | "gtm";

/** Who saw the event: the page's own call, or a tap on what other code tells a vendor. */
export type Source = "sdk" | "tap:statsig" | "tap:gtm";

/** An answer that a person gave: for our own service, since when, and the vendors that it leaves out. */
export interface Answered {
  state: Consent;
  at: string;
  denied: Vendor[];
}

export interface WireEvent {
  event_id: string;
  event_name: string;
  event_value?: string;
  event_metadata?: Metadata;
  user_id?: string;
  anonymous_id?: string;
  session_id?: string;
  sequence?: number;
  client_timestamp: string;
  message_content?: string;
  thread_id?: string;
  context?: {
    page: { url: string; path: string; title: string };
    viewport: { width: number; height: number };
    referrer: string;
    locale: string;
  };
  consent: Consent | Answered;
  source: Source;
}

/** What a vendor did with one event. */
export interface Receipt {
  event_id: string;
  vendor: Vendor;
  status: "handed" | "delivered" | "failed" | "absent" | "blocked";
  at: string;
}

/** What a destination is given: never the text of a message unless that was switched on. */
export interface VendorEvent {
  id: string;
  name: string;
  value: string | undefined;
  metadata: Metadata;
  category: string;
  action: string;
  label: string;
}

/** One vendor behind one call. `send` may throw: the caller turns that into a receipt. */
export interface Destination {
  vendor: Vendor;
  /** Hands the event over; false where the vendor is not on the page. */
  send(event: VendorEvent): boolean;
  /** What the vendor's gate says of this visitor; undefined where it cannot say. A gate may drive our own rollout. */
  gate?(name: string): boolean | undefined;
  /** Called once, when events may be sent: `report` takes what the vendor says later. What it returns is called at shutdown. */
  start?(report: (receipt: Pick<Receipt, "event_id" | "status">) => void): void | (() => void);
}

/** What became of one event, as it happens. `detail` depends on the stage: a place, a fate, a receipt. */
export type Stage = "tracked" | "excluded" | "stored" | "vendor" | "sent" | "settled" | "retry";
export type Debug = (stage: Stage, id: string, detail?: unknown) => void;

export const eventName = (...parts: unknown[]): string => parts.map(String).join("_").trim().toLowerCase().replace(/\s+/g, "_");

/** The metadata as it is now, whatever the page does with its object later. A key that cannot be written costs itself alone. */
export function snapshot(metadata: unknown): Metadata | undefined {
  if (typeof metadata !== "object" || !metadata) return undefined;
  const copy: Metadata = {};
  for (const key of Object.keys(metadata)) {
    try {
      const value = (metadata as Metadata)[key];
      copy[key] = typeof value === "string" || typeof value === "number" ? value : JSON.parse(JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? String(part) : part)));
    } catch {
      // This key alone is lost.
    }
  }
  return copy;
}

/** A copy for vendors: without the text of a message, under whatever key and however deep. */
export const withoutText = (metadata: string, text: string | undefined): Metadata =>
  JSON.parse(metadata, (key, value: unknown) =>
    key === "message_content" || (text !== undefined && (key === "content" || (text !== "" && value === text))) ? undefined : value,
  ) as Metadata;

/** The event with each text that a page or person wrote masked. Ids, times and names are ours and stay; where the mask fails nothing of a text is left. */
export function masked(event: WireEvent, mask: ((text: string) => string) | undefined): WireEvent {
  if (!mask) return event;
  const { event_value, event_metadata, message_content, context } = event;
  const texts = JSON.stringify({ event_value, event_metadata, message_content, context });
  return { ...event, ...JSON.parse(texts, (_, value: unknown) => (typeof value === "string" ? guard(() => mask(value), "") : value)) as object };
}

/** Random ends of ids that are kept ready, so that a call need not make one. */
const READY = 8;
/** How far one number holds time and counter: 16 bits of milliseconds, 10 of the counter. */
const MINUTE = 2 ** 26;

export interface Draw {
  /** `at`: milliseconds since 1970. */
  (at: number): string;
  /** Makes ready what the next ids need. */
  prepare(): void;
}

/** A number's own way to text takes a browser longer than all else of a call. */
const digit = (number: number): string => "0123456789abcdef"[number & 15] as string;

/**
 * A maker of UUIDv7 that never goes back within one page, even when the clock does: milliseconds, 10 bits of a counter, then
 * 60 random bits. Source: RFC 9562 section 6.2, method 1.
 */
export function uuid7(fill: (bytes: Uint8Array<ArrayBuffer>) => Uint8Array): Draw {
  const ends: string[] = [];
  /** Time and counter in one, exact beyond the year 2200. */
  let last = 0;
  /** The first eight digits change once a minute. */
  let minute = -1;
  let start = "";
  const prepare = (): void => {
    while (ends.length < READY) {
      const end = Array.from(fill(new Uint8Array(15)), digit).join("");
      ends.push(`-a${end.slice(12)}-${end.slice(0, 12)}`);
    }
  };
  const draw: Draw = (at) => {
    last = Math.max(Math.floor(at) * 1024, last + 1);
    const low = last % MINUTE;
    if (last - low !== minute) start = ((minute = last - low) / MINUTE).toString(16).padStart(8, "0") + "-";
    if (!ends.length) prepare();
    return start + digit(low >> 22) + digit(low >> 18) + digit(low >> 14) + digit(low >> 10) + "-7" + digit(low >> 6) + digit(low >> 2) + digit(low << 2) + (ends.pop() as string);
  };
  draw.prepare = prepare;
  return draw;
}
