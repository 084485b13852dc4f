/** Which colour a series has. It belongs to the name: a change of rank must not repaint the chart. */

/** Slots of the palette in tokens.css (--series-0 …). */
export const SLOTS = 10;

/** The rest beyond the named series; always grey. */
export const OTHER = "other";

/** FNV-1a: small, stable, good enough to spread names over ten slots. */
const hash = (name: string): number => {
  let value = 0x811c9dc5;
  for (const character of name) value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0;
  return value;
};

/**
 * Gives each name on show a slot of its own (as long as there are slots), preferring the slot it had before.
 * `kept` is what earlier calls decided; the answer is `kept` with the new decisions, to be kept for the next call.
 */
export const assignSlots = (names: readonly string[], kept: Readonly<Record<string, number>>): Record<string, number> => {
  const slots = new Map(Object.entries(kept));
  const taken = new Set<number>();
  const homeless: string[] = [];
  // Alphabetical, so that two pages that meet the same names choose the same colours.
  for (const name of [...names].filter((name) => name !== OTHER).sort()) {
    const slot = slots.get(name);
    if (slot !== undefined && !taken.has(slot)) taken.add(slot);
    else homeless.push(name);
  }
  for (const name of homeless) {
    let slot = hash(name) % SLOTS;
    for (let step = 0; step < SLOTS && taken.has(slot); step += 1) slot = (slot + 1) % SLOTS;
    taken.add(slot);
    slots.set(name, slot);
  }
  return Object.fromEntries(slots);
};

/** The slot of a name; a name such as `constructor` must not find what every object inherits. */
export const slotOf = (name: string, slots: Readonly<Record<string, number>>): number | undefined =>
  Object.hasOwn(slots, name) ? slots[name] : undefined;

/** The CSS variable that paints a series. */
export const colourVariable = (name: string, slots: Readonly<Record<string, number>>): string =>
  name === OTHER ? "--series-other" : `--series-${slotOf(name, slots) ?? "other"}`;
