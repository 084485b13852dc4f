/**
 * One request: the envelope, a time limit, and what browsers allow a page that goes away.
 *
 * Key and token travel in the envelope as text/plain, so the last request of a page, which can carry no headers of its
 * own, is like every other. Larger bodies are packed, off the main thread, where the browser can.
 */
import type { Clockwork } from "./environment";
import type { Receipt } from "./event";
import { within } from "./within";

/** Of events. Browsers give all keepalive requests of a page 64 KiB together; the page has its own, and an envelope its key and token. */
export const KEEPALIVE_BYTES = 54 * 1024;
/** A request or token that hangs must not hold back every event behind it. */
export const MOST_SEND_MS = 30_000;
export const MOST_TOKEN_MS = 10_000;
/** Smaller bodies are not worth packing. */
const PACK_CHARACTERS = 1_024;

/** `status` 0: no answer came. One that none came to in time is 504, as a proxy would say. */
export interface Answer {
  status: number;
  body?: string;
  retryAfter?: string | null;
}

export interface Transport {
  /** Of one identity. */
  envelope(rows: readonly { text: string; user?: string | undefined }[], receipts: readonly Receipt[]): string;
  /** Never rejects. `plain`: not packed, as the last words of a page must be. */
  post(place: string, body: string, keepalive: boolean, plain: boolean): Promise<Answer>;
  /** Asks for a user's token, and keeps it in memory for the last request of a page. Where none comes the earlier one stays: who has signed out did all this before. */
  ask(user: string | undefined): Promise<void>;
  /** What the page has answered so far, by user: one person's events never carry another's. */
  tokens: Map<string | undefined, string | null | undefined>;
}

export interface Service {
  writeKey: string;
  getToken: (() => string | undefined | null | Promise<string | undefined | null>) | undefined;
  /** What the batch says about the SDK itself. */
  health(): object;
  /** Counts the time of what it does at once. */
  spend<T>(work: () => T): T;
}

export function createTransport({ writeKey, getToken, health, spend }: Service, clockwork: Clockwork): Transport {
  const tokens: Transport["tokens"] = new Map();
  let { pack } = clockwork;

  return {
    envelope: (rows, receipts) =>
      spend(() => {
        const rest = JSON.stringify({
          receipts: receipts.length ? receipts : undefined,
          sent_at: new Date(clockwork.now()).toISOString(),
          sdk: { name: "@twintrack/browser", version: "0.1.0", health: health() },
          key: writeKey,
          token: tokens.get(rows[0]?.user) ?? undefined,
        });
        return `{"events":[${rows.map(({ text }) => text).join()}],${rest.slice(1)}`;
      }),
    async post(place, body, keepalive, plain) {
      const halt = new AbortController();
      const packer = plain || body.length < PACK_CHARACTERS ? undefined : pack;
      const found: Answer = { status: 0 };
      const send = async (): Promise<void> => {
        const packed = packer ? await packer(body) : body;
        const answer = await spend(() =>
          clockwork.fetch(place, {
            method: "POST",
            body: packed,
            headers: { "Content-Type": "text/plain", ...(packer && { "Content-Encoding": "gzip" }) },
            credentials: "omit",
            keepalive,
            signal: halt.signal,
          }),
        );
        found.body = await answer.text();
        found.retryAfter = answer.headers.get("Retry-After");
        found.status = answer.status;
      };
      try {
        // What a page put in place of the browser's own fetch may not know how to break off.
        await within(clockwork, send(), MOST_SEND_MS, () => {
          found.status = 504;
          halt.abort();
        });
      } catch {
        // No answer came.
      }
      // Somebody does not let packed bodies through. That a network failed says nothing of the kind: the next one goes plain, no more.
      if (found.status === 415) pack = undefined;
      return found;
    },
    async ask(user) {
      let token: string | undefined | null;
      try {
        const given = getToken?.();
        // A page that has it at hand has it also when it goes.
        token = typeof given === "object" ? await within(clockwork, Promise.resolve(given), MOST_TOKEN_MS, () => undefined) : given;
      } catch {
        // Without a token the events count as claimed by the same person; holding them back could lose them.
      }
      tokens.set(user, token ?? tokens.get(user));
    },
    tokens,
  };
}
