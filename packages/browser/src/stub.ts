/**
 * An inline snippet, below 1 KB: it takes calls until the script is there, with the id and the time that they have now.
 *
 * Paste the built file between the tags of `<script data-twintrack="/path/twintrack.global.js">`. Who reads what it wrote:
 * replay.ts, at the end of the loaded script. Where the script never comes, calls go nowhere, what awaits them goes on, and
 * nothing breaks.
 */
import type { Buffered, Stub } from "./replay";

const METHODS = "trackEvent trackInteraction trackFeatureUsage trackConversion trackError trackMessage page identify reset consent flush shutdown stats observe";
const MOST_CALLS = 1_000;
/** The fate of a call that nobody will do. */
const LOST = "off";

(function (page: Window & { twintrack?: unknown }, document: Document) {
  try {
    if (page.twintrack) return;
    const made: Buffered[] = [];
    let calls = 0;
    let never: boolean | undefined;
    /** Like the SDK's own: time, then chance; a later one of the same millisecond sorts behind. */
    const draw = (at: number): string => {
      const bytes = Array.from(crypto.getRandomValues(new Uint8Array(10)), (byte) => (byte + 256).toString(16).slice(1)).join("");
      const time = (at + 2 ** 48).toString(16).slice(-12);
      return `${time.slice(0, 8)}-${time.slice(8)}-7${(calls % 4096 | 4096).toString(16).slice(-3)}-a${bytes.slice(1, 4)}-${bytes.slice(4, 16)}`;
    };
    const later = (name: string) => (...words: unknown[]) => ({ twintrack: name, words });
    const stub: Stub = {
      made,
      createAnalytics(configuration) {
        const one: Buffered = { configuration, calls: [], analytics: {} };
        for (const name of METHODS.split(" ")) {
          one.analytics[name] = (...words) => {
            if (one.real) return one.real(name, words);
            const at = Date.now();
            let id = "";
            try {
              id = draw(at);
            } catch {
              // A browser without Web Crypto: the id is drawn when the script is there.
            }
            let settle: (value: unknown) => void = () => undefined;
            const settled = new Promise((resolve) => (settle = resolve));
            if (!never && calls++ < MOST_CALLS) one.calls.push({ name, words, at, id, resolve: settle });
            else settle(LOST);
            return { id, then: settled.then.bind(settled) };
          };
        }
        made.push(one);
        return one.analytics;
      },
      gtm: later("gtm"),
      statsig: later("statsig"),
    };
    page.twintrack = stub;
    const own = document.currentScript as HTMLScriptElement;
    const script = document.createElement("script");
    script.async = true;
    script.nonce = own.nonce ?? "";
    script.src = own.dataset["twintrack"] as string;
    // A page may await what nobody will do any more.
    script.onerror = () => {
      never = true;
      for (const one of made) for (const { resolve } of one.calls.splice(0)) resolve(LOST);
    };
    document.head.append(script);
  } catch {
    // The page comes first.
  }
})(window, document);
