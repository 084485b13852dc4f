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
export type Stage = "tracked" | "held" | "discarded" | "excluded" | "stored" | "vendor" | "sent" | "settled" | "retry";
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

/** Hexadecimal digits of chance in an id, and how many are made at once, so that few calls need to make them. */
const CHANCE = 15;
const READY_BYTES = 64;

export interface Draw {
  (): string;
  /** Makes ready what the next ids need. */
  prepare(): void;
}

/**
 * A maker of UUIDv7 that never goes back within one page, even when the clock does: milliseconds, 10 bits of a counter, then
 * 60 random bits. Source: RFC 9562 section 6.2, method 1.
 */
export function uuid7(now: () => number, fill: (bytes: Uint8Array<ArrayBuffer>) => unknown): Draw {
  let chance = "";
  /** Time and counter as one number, exact beyond the year 2200. */
  let last = 0;
  const prepare = (): void => {
    const bytes = new Uint8Array(READY_BYTES);
    if (chance.length > READY_BYTES) return;
    fill(bytes);
    for (const byte of bytes) chance += (byte + 256).toString(16).slice(1);
  };
  const draw: Draw = () => {
    last = Math.max(Math.floor(now() * 1024), last + 1);
    if (chance.length < CHANCE) prepare();
    // The counter fills its three digits but for two bits.
    const text = (last * 4).toString(16).padStart(15, "0");
    const end = chance.slice(-CHANCE);
    chance = chance.slice(0, -CHANCE);
    return `${text.slice(0, 8)}-${text.slice(8, 12)}-7${text.slice(12)}-a${end.slice(12)}-${end.slice(0, 12)}`;
  };
  draw.prepare = prepare;
  return draw;
}
