/** A bounded copy of what other code handed around: plain data alone, never a node of the page, whatever its size. */
import { guard } from "./guard";

export const MOST_DEPTH = 4;
export const MOST_KEYS = 64;
export const MOST_PARTS = 500;
export const MOST_TEXT_CHARACTERS = 1_024;
export const MOST_ALL_CHARACTERS = 16_384;

const isPlain = (value: object): boolean => {
  const parent = Object.getPrototypeOf(value) as unknown;
  return parent === null || parent === Object.prototype || Object.getPrototypeOf(parent) === null;
};

/**
 * Copies text, numbers, booleans, arrays and plain objects; other things are left out. At most 4 deep, 64 keys an object,
 * 500 parts and 16,384 characters in all, keys included, 1,024 a text; what is beyond is left out. `skip` names keys of
 * the outermost object that are left out. Undefined where nothing can be copied.
 */
export function plain(value: unknown, skip: (key: string) => boolean = () => false): unknown {
  let parts = MOST_PARTS;
  let characters = MOST_ALL_CHARACTERS;
  const text = (whole: string): string => {
    const cut = whole.slice(0, Math.max(0, Math.min(MOST_TEXT_CHARACTERS, characters)));
    characters -= cut.length;
    return cut;
  };
  const copy = (from: unknown, depth: number): unknown => {
    if (parts-- <= 0 || characters <= 0) return undefined;
    if (typeof from === "string") return text(from);
    if (typeof from === "bigint") return String(from);
    if (typeof from === "number" || typeof from === "boolean" || from === null) return from;
    if (typeof from !== "object" || depth >= MOST_DEPTH) return undefined;
    if (from instanceof Date) return guard(() => from.toISOString(), undefined);
    if (Array.isArray(from)) return from.slice(0, MOST_KEYS).map((part) => copy(part, depth + 1) ?? null);
    if (!isPlain(from)) return undefined;
    const made: Record<string, unknown> = {};
    let keys = MOST_KEYS;
    for (const key of Object.keys(from)) {
      if (key === "__proto__" || (depth === 0 && skip(key))) continue;
      if (keys-- <= 0) break;
      // A getter of the page may throw: that key alone is lost.
      const part = guard(() => copy((from as Record<string, unknown>)[key], depth + 1), undefined);
      if (part !== undefined) made[text(key)] = part;
    }
    return made;
  };
  return guard(() => copy(value, 0), undefined);
}
