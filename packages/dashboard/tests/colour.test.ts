import { describe, expect, test } from "vitest";
import { assignSlots, colourVariable, OTHER, SLOTS } from "../src/colour";

const names = ["message_sent", "page_view", "identify", "error_occurred", "thread_opened", "a", "b", "c"];
const shown = (slots: Record<string, number>, of: string[]) => of.map((name) => slots[name]);

describe("a colour", () => {
  test("belongs to the name and not to its rank", () => {
    const first = assignSlots(names, {});
    expect(assignSlots([...names].reverse(), {})).toEqual(first);
    expect(assignSlots([...names].reverse(), first)).toEqual(first);
  });
  test("is no other's on the same chart, as long as there are colours", () => {
    const many = Array.from({ length: SLOTS }, (_, index) => `event_${index}`);
    expect(new Set(shown(assignSlots(many, {}), many)).size).toBe(SLOTS);
  });
  test("stays when other names come and go", () => {
    const first = assignSlots(names, {});
    const second = assignSlots(["page_view", "new_1", "new_2", "new_3"], first);
    const third = assignSlots(names, second);
    expect(shown(third, names)).toEqual(shown(first, names));
  });
  test("is given anew to the later of two names that met with the same one", () => {
    const slots = assignSlots(["a", "b"], { a: 3, b: 3 });
    expect(slots.a).toBe(3);
    expect(slots.b).not.toBe(3);
  });
  test("is shared rather than missing beyond the palette", () => {
    const many = Array.from({ length: SLOTS * 2 }, (_, index) => `event_${index}`);
    for (const slot of shown(assignSlots(many, {}), many)) {
      expect(slot).toBeGreaterThanOrEqual(0);
      expect(slot).toBeLessThan(SLOTS);
    }
  });
  test("is found for names that every object knows", () => {
    const odd = ["constructor", "__proto__", "toString"];
    const slots = assignSlots(odd, {});
    expect(new Set(odd.map((name) => colourVariable(name, slots))).size).toBe(3);
    expect(odd.map((name) => colourVariable(name, slots))).toEqual(odd.map(() => expect.stringMatching(/^--series-\d$/)));
    expect(odd.map((name) => colourVariable(name, {}))).toEqual(odd.map(() => "--series-other"));
    expect(assignSlots(odd, JSON.parse(JSON.stringify(slots)))).toEqual(slots);
  });
  test("of the rest is grey and takes no slot", () => {
    const slots = assignSlots([OTHER, "a"], {});
    expect(slots).not.toHaveProperty(OTHER);
    expect(colourVariable(OTHER, slots)).toBe("--series-other");
    expect(colourVariable("a", { a: 4 })).toBe("--series-4");
  });
});
