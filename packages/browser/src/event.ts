/** The event as it travels, and the names it travels under. Pure. */
import { guard } from "./guard";

export type Metadata = Record<string, unknown>;

export type Consent = "granted" | "denied" | "pending";

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
  consent: Consent;
  source: "sdk";
}

/** What a vendor did with one event. */
export interface Receipt {
  event_id: string;
  vendor: "statsig" | "gtm";
  status: "handed" | "failed" | "absent" | "blocked";
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
  vendor: "statsig" | "gtm";
  /** Hands the event over; false where the vendor is not on the page. */
  send(event: VendorEvent): boolean;
}

export const eventName = (...parts: unknown[]): string => parts.map(String).join("_").trim().toLowerCase().replace(/\s+/g, "_");

const copyValue = (value: unknown): unknown => JSON.parse(JSON.stringify(value, (_, part: unknown) => (typeof part === "bigint" ? String(part) : part))) as unknown;

/** The metadata as it is now, whatever the page does with its object later. A key that cannot be written costs itself alone. */
export function snapshot(metadata: unknown): Metadata | undefined {
  if (typeof metadata !== "object" || metadata === null) return undefined;
  const copy: Metadata = {};
  for (const key of Object.keys(metadata)) {
    const value = guard(() => copyValue((metadata as Metadata)[key]), undefined);
    if (value !== undefined) copy[key] = value;
  }
  return copy;
}

/** The metadata as JSON, taken now. Almost always the page's object can be written as it is, which is the cheapest. */
export function frozen(metadata: unknown): string | undefined {
  if (typeof metadata !== "object" || metadata === null) return undefined;
  const text = Array.isArray(metadata) ? undefined : guard(() => JSON.stringify(metadata), undefined);
  return text?.startsWith("{") ? text : JSON.stringify(snapshot(metadata));
}

/** A copy for vendors: without the text of a message, under whatever key and however deep. */
export const withoutText = (metadata: string, text: string | undefined): Metadata =>
  JSON.parse(metadata, (key, value: unknown) =>
    key === "message_content" || (text !== undefined && (key === "content" || (text !== "" && value === text))) ? undefined : value,
  ) as Metadata;

/**
 * A maker of UUIDv7 that never goes back within one page, even when the clock does.
 * Source: RFC 9562 section 6.2, method 2.
 */
export function uuid7(now: () => number, fill: (bytes: Uint8Array) => void): () => string {
  let last = -1;
  let counter = 0;
  return () => {
    const bytes = new Uint8Array(16);
    fill(bytes);
    const at = Math.max(now(), last);
    if (at === last) {
      counter += 1;
    } else {
      counter = (((bytes[6] as number) & 7) << 8) | (bytes[7] as number);
    }
    last = counter > 4095 ? at + 1 : at;
    if (counter > 4095) counter = 0;
    for (let i = 0; i < 6; i++) bytes[i] = Math.floor(last / 2 ** (8 * (5 - i))) % 256;
    bytes[6] = 0x70 | (counter >> 8);
    bytes[7] = counter & 255;
    bytes[8] = 0x80 | ((bytes[8] as number) & 63);
    let text = "";
    bytes.forEach((byte, i) => {
      text += (i === 4 || i === 6 || i === 8 || i === 10 ? "-" : "") + (byte + 256).toString(16).slice(1);
    });
    return text;
  };
}
