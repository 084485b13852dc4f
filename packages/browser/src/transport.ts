/**
 * One request: the envelope, a time limit, and what browsers allow a page that goes away.
 *
 * Key and token travel in the envelope as text/plain, so the last request of a page, which can carry no headers of its
 * own, is like every other. Larger bodies are packed, off the main thread, where the browser can.
 */
import type { Clockwork } from "./environment";
import type { Receipt } from "./event";
import { within } from "./within";

/** Browsers give all keepalive requests of a page 64 KiB together, and the page has its own. */
export const KEEPALIVE_BYTES = 56 * 1024;
/** A request or token that hangs must not hold back every event behind it. */
export const MOST_SEND_MS = 30_000;
export const MOST_TOKEN_MS = 10_000;
/** Smaller bodies are not worth packing. */
const PACK_CHARACTERS = 1_024;

/** `status` 0: no answer came; -1: none came in time. */
export interface Answer {
  status: number;
  body?: string;
  retryAfter?: string | null;
}

export interface Transport {
  envelope(rows: readonly { text: string }[], receipts: readonly Receipt[]): string;
  /** Never rejects. */
  post(body: string, keepalive: boolean): Promise<Answer>;
  /** Asks for the token of the signed-in user, and keeps it in memory for the page's last request. */
  refreshToken(): Promise<void>;
}

export interface Service {
  /** Where batches go now. */
  there(): string;
  writeKey: string;
  getToken: (() => string | undefined | null | Promise<string | undefined | null>) | undefined;
  /** What the batch says about the SDK itself. */
  health(): object;
  /** Counts the time of what it does at once. */
  spend<T>(work: () => T): T;
}

export function createTransport({ there, writeKey, getToken, health, spend }: Service, clockwork: Clockwork): Transport {
  let token: string | undefined | null;
  let { pack } = clockwork;

  return {
    envelope: (rows, receipts) =>
      spend(() => {
        const rest = JSON.stringify({
          receipts: receipts.length ? receipts : undefined,
          sent_at: new Date(clockwork.now()).toISOString(),
          sdk: { name: "@twintrack/browser", version: "0.1.0", health: health() },
          key: writeKey,
          token: token ?? undefined,
        });
        return `{"events":[${rows.map(({ text }) => text).join()}],${rest.slice(1)}`;
      }),
    async post(body, keepalive) {
      const halt = new AbortController();
      const packer = keepalive || body.length < PACK_CHARACTERS ? undefined : pack;
      const found: Answer = { status: 0 };
      const ask = async (): Promise<void> => {
        const packed = packer ? await packer(body) : body;
        const answer = await spend(() =>
          clockwork.fetch(there(), {
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
        await within(clockwork, ask(), MOST_SEND_MS, () => {
          found.status = -1;
          halt.abort();
        });
      } catch {
        // No answer came.
      }
      if (packer && (found.status === 0 || found.status === 415)) {
        // Something on the way may not let packed bodies through: the next one goes plain, and this one again.
        pack = undefined;
        found.status = 0;
      }
      return found;
    },
    async refreshToken() {
      if (!getToken) return;
      try {
        token = await within(clockwork, Promise.resolve(getToken()), MOST_TOKEN_MS, () => undefined);
      } catch {
        // Without a token the events count as claimed by the same person; holding them back could lose them.
        token = undefined;
      }
    },
  };
}
