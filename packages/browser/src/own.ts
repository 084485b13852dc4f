/**
 * Ids that this page itself handed to vendors, so that a tap does not take them for someone else's. The entries of this
 * package are bundled apart, so they meet on the page and not in a module.
 */

/** As many as Statsig's client keeps at most; GTM trims its data layer to fewer. */
export const MOST_OWN = 4_000;

const PLACE = Symbol.for("twintrack.own");

const ids = (): Set<string> => {
  const page = globalThis as { [PLACE]?: Set<string> };
  return (page[PLACE] ??= new Set());
};

/** To be called before the vendor gets the event: a tap may see it at once. */
export function remember(id: string): void {
  const known = ids().add(id);
  if (known.size > MOST_OWN) known.delete(known.values().next().value as string);
}

export const isOwn = (id: unknown): boolean => typeof id === "string" && ids().has(id);
