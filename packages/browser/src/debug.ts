/** `@twintrack/browser/debug`: what happens to each event, a line for each step in the console. For development. */
import type { Configuration } from "./client";
import type { Receipt, Stage } from "./event";
import { guard } from "./guard";

/** Events whose story is remembered; of older ones the id is told without name and time. */
const MOST_KNOWN = 500;

interface Known {
  name: string;
  /** Milliseconds since 1970. */
  at: number;
}

const VENDORS: Record<Receipt["status"], string> = {
  handed: "took it; what became of it is not known yet",
  delivered: "has it, by its own word",
  failed: "failed with it",
  absent: "is not on this page",
  blocked: "did not get it: the person or the browser does not want that",
};

const FATES: Record<string, string> = {
  accepted: "your service has it",
  duplicate: "your service had it already",
  rejected: "your service found it unfit; it goes no further",
  dropped: "your service left it out on purpose (sampling, share, consent or kill switch)",
  refused: "it is too large for your service, or not readable there",
  elsewhere: "another tab brought it to its end",
  "no room": "dropped: newer events needed the room",
  held: "held: nobody has answered for consent yet, so nothing is written or sent",
  discarded: "discarded: consent is denied, or `beforeSend` did not want it",
  disk: "safe on this browser's disk",
  memory: "in memory: the browser's storage is blocked or full, so a crash would lose it",
};

function words(stage: Stage, detail: unknown): string {
  const told = typeof detail === "string" || typeof detail === "number" ? String(detail) : "";
  if (stage === "tracked") return "tracked";
  if (stage === "excluded") return `left out here on purpose${told && `: ${told}`}`;
  if (stage === "sent") return "on its way to your service";
  if (stage === "retry") return `not taken yet${told && ` (${told})`}; it will be sent again`;
  if (stage === "vendor") {
    const { vendor, status } = detail as Receipt;
    return `${vendor} ${VENDORS[status] ?? status}`;
  }
  return FATES[told] ?? `${stage} ${told}`;
}

const count = (tokens: string[]): string => [...new Set(tokens)].map((token) => `${tokens.filter((other) => other === token).length} ${token}`).join(", ");

/**
 * The same configuration, which now explains each event: `createAnalytics(explain({ endpoint, writeKey }))`. It tells
 * steps, ids and names, never what an event says. Never throws.
 */
export function explain(configuration: Configuration, print: (line: string) => void = (line) => console.info(line)): Configuration {
  const known = new Map<string, Known>();
  const { beforeSend, mask, debug } = configuration;
  /** The event that is being made ready, and what was masked in it. */
  let current: { id: string; tokens: string[]; texts: Set<string> } | undefined;

  const say = (id: string, text: string): void =>
    guard(() => {
      const { name, at } = known.get(id) ?? {};
      print(`twintrack ${name ?? "?"} ${id.slice(-6)}${at === undefined ? "" : ` +${Date.now() - at} ms`}: ${text}`);
    }, undefined);
  const sayMasked = (): void => {
    const { id, tokens } = current ?? { id: "", tokens: [] as string[] };
    current = undefined;
    if (tokens.length > 0) say(id, `masked ${count(tokens)}`);
  };

  return {
    ...configuration,
    debug(stage, id, detail) {
      guard(() => debug?.(stage, id, detail), undefined);
      guard(() => {
        if (stage === "tracked") {
          known.set(id, { name: String(detail), at: Date.now() });
          if (known.size > MOST_KNOWN) known.delete(known.keys().next().value as string);
        }
        sayMasked();
        say(id, words(stage, detail));
      }, undefined);
    },
    beforeSend(event) {
      sayMasked();
      current = { id: event.event_id, tokens: [], texts: new Set() };
      if (!beforeSend) return event;
      try {
        const wanted = beforeSend(event);
        if (!wanted) say(event.event_id, "`beforeSend` did not want it");
        return wanted;
      } catch (error) {
        say(event.event_id, `\`beforeSend\` threw a ${guard(() => (error as Error).name, "value")}, so the event goes as it was`);
        throw error;
      }
    },
    ...(mask
      ? {
          mask(text: string) {
            const masked = mask(text);
            // A text is masked for our own service and once more to keep copies of it from vendors.
            if (current && masked !== text && !current.texts.has(text)) {
              current.texts.add(text);
              current.tokens.push(...(masked.match(/\[[A-Z_]+\]/g) ?? ["text"]));
            }
            return masked;
          },
        }
      : {}),
  };
}
