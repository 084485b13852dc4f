import { expect, test } from "vitest";
import { pieces, written } from "../src/masked";

test("tokens stand apart, whatever an action makes of them", () => {
  expect(pieces("mail [EMAIL], card [CARD_1111] [x]")).toEqual([
    { text: "mail ", token: false },
    { text: "[EMAIL]", token: true },
    { text: ", card ", token: false },
    { text: "[CARD_1111]", token: true },
    { text: " [x]", token: false },
  ]);
  expect(pieces("[EMAIL]")).toEqual([{ text: "[EMAIL]", token: true }]);
});

test("what was found is cut by code points, as the server counts", () => {
  expect(written("🙂🙂 ada@example.com!", { rule: "email", start: 3, end: 18, action: "token" })).toBe("ada@example.com");
});
