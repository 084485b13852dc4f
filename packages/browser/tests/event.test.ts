import { describe, expect, it } from "vitest";

import limits from "../../../contract/limits.json";
import { MOST_URL_CHARACTERS } from "../src/context";
import { eventName, snapshot, uuid7, withoutText } from "../src/event";
import { MOST_BYTES } from "../src/queue";
import { BATCH_BYTES } from "../src/backend";

const fill = (numbers: Uint8Array<ArrayBuffer>): Uint8Array => crypto.getRandomValues(numbers);

describe("an id", () => {
  it("is a UUIDv7 of its time", () => {
    // A browser may have a clock that was never set, or one far ahead.
    for (const at of [7, Date.UTC(2026, 4, 6, 7, 8, 9, 10), Date.UTC(2199, 11, 31)]) {
      const id = uuid7(fill)(at);
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      expect(parseInt(id.replaceAll("-", "").slice(0, 12), 16)).toBe(at);
    }
  });

  it("is larger than every one before it, within a millisecond and when the clock goes back", () => {
    let at = Date.UTC(2026, 4, 6);
    const draw = uuid7(fill);
    const ids = Array.from({ length: 9_000 }, (_, n) => {
      if (n === 6_000) at -= 60_000;
      return draw(at);
    });
    expect([...ids].sort()).toEqual(ids);
    expect(new Set(ids).size).toBe(9_000);
  });
});

describe("a name", () => {
  it("is lower case with underscores for spaces", () => {
    expect(eventName("Open", "Side  Panel")).toBe("open_side_panel");
  });
});

describe("metadata", () => {
  it("is taken as it was when the event happened", () => {
    const live = { cart: { items: 1 } };
    const taken = snapshot(live);
    live.cart.items = 2;
    expect(taken).toEqual({ cart: { items: 1 } });
  });

  it("loses only the keys that cannot be written", () => {
    const circle: Record<string, unknown> = { plan: "pro", big: 12n, call: () => 1 };
    circle["self"] = circle;
    Object.defineProperty(circle, "trap", { enumerable: true, get: () => { throw new Error("no"); } });
    expect(snapshot(circle)).toEqual({ plan: "pro", big: "12" });
    expect(snapshot("text")).toBeUndefined();
  });

  it("keeps the text of a message from vendors under any key and depth", () => {
    const copy = withoutText(JSON.stringify({ content: "hi there", deep: { copy: "hi there", list: ["hi there", "ok"] }, message_content: "x", n: 1 }), "hi there");
    expect(JSON.stringify(copy)).not.toContain("hi there");
    expect(copy).toEqual({ deep: { list: [undefined, "ok"] }, n: 1 });
  });
});

describe("the limits of the SDK", () => {
  it("lie within those of the service", () => {
    expect(MOST_URL_CHARACTERS).toBeLessThanOrEqual(limits.url_characters);
    expect(MOST_BYTES).toBeLessThanOrEqual(limits.body_bytes);
    expect(BATCH_BYTES).toBeLessThanOrEqual(limits.body_bytes);
  });
});
