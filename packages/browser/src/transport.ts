/**
 * One request: the envelope, a time limit, and what browsers allow a page that goes away.
 *
 * Key and token travel in the envelope as text/plain, so no request needs a preflight, and the last one of a page, which
 * can carry no headers of its own, is like every other.
 */
import type { Clockwork } from "./environment";
import type { Receipt } from "./event";

/** Browsers give all keepalive requests of a page 64 KiB together, and the page has its own. */
export const KEEPALIVE_BYTES = 56 * 1024;
/** A request or token that hangs must not hold back every event behind it. */
export const MOST_SEND_MS = 30_000;
export const MOST_TOKEN_MS = 10_000;

const SDK = { name: "@twintrack/browser", version: "0.1.0" };

/** An event as it waits: turned into text once, when it was tracked. */
export interface Row {
  /** Who did it. A batch carries one identity. */
  who: string;
  text: string;
  bytes: number;
  at: number;
  /** Under way in a request that outlives the page. */
  leaving: boolean;
}

export interface Answer {
  status: number;
  body: string;
  retryAfter: string | null;
}

export interface Transport {
  envelope(rows: readonly Row[], receipts: readonly Receipt[]): string;
  /** Never rejects: without an answer the status is 0. */
  send(body: string, keepalive: boolean): Promise<Answer>;
  /** Asks for the token of the signed-in user, and keeps it in memory for the page's last request. */
  refreshToken(): Promise<void>;
}

export interface Service {
  endpoint: string;
  writeKey: string;
  getToken: (() => string | undefined | null | Promise<string | undefined | null>) | undefined;
}

export function createTransport({ endpoint, writeKey, getToken }: Service, clockwork: Clockwork): Transport {
  let token: string | undefined;

  const within = <T>(work: Promise<T>, milliseconds: number, late: () => T): Promise<T> =>
    new Promise((resolve, reject) => {
      const timer = clockwork.after(() => resolve(late()), milliseconds);
      work.then(resolve, reject).finally(() => clockwork.cancel(timer));
    });

  return {
    envelope(rows, receipts) {
      const rest = JSON.stringify({
        ...(receipts.length > 0 ? { receipts } : {}),
        sent_at: new Date(clockwork.now()).toISOString(),
        sdk: SDK,
        key: writeKey,
        ...(token ? { token } : {}),
      });
      return `{"events":[${rows.map((row) => row.text).join(",")}],${rest.slice(1)}`;
    },
    async send(body, keepalive) {
      const nothing: Answer = { status: 0, body: "", retryAfter: null };
      const halt = typeof AbortController === "undefined" ? undefined : new AbortController();
      const request = async (): Promise<Answer> => {
        const answer = await clockwork.fetch(endpoint, {
          method: "POST",
          body,
          headers: { "Content-Type": "text/plain" },
          credentials: "omit",
          ...(keepalive ? { keepalive } : {}),
          ...(halt ? { signal: halt.signal } : {}),
        });
        return { status: answer.status, retryAfter: answer.headers.get("Retry-After"), body: await answer.text() };
      };
      try {
        return await within(request(), MOST_SEND_MS, () => {
          halt?.abort();
          return nothing;
        });
      } catch {
        return nothing;
      }
    },
    async refreshToken() {
      if (!getToken) return;
      try {
        token = (await within(Promise.resolve(getToken()), MOST_TOKEN_MS, () => undefined)) ?? undefined;
      } catch {
        // Without a token the events count as claimed by the same person; holding them back could lose them.
        token = undefined;
      }
    },
  };
}
