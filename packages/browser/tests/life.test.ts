/** A page's life: shown before it has started, back from the browser's cache, signed out early, told no while a request is under way. */
import { describe, expect, it } from "vitest";

import { createStage, rest } from "./stage";

const KNOWN = "ada-1 visit-1";
const written = (at: number): string => `${KNOWN} ${at} ${at} 7`;

describe("a page", () => {
  it("that is shown before it has started starts all the same", async () => {
    const stage = createStage();
    const listening: string[] = [];
    const { addEventListener } = stage.page;
    stage.page.addEventListener = (name, ...rest) => {
      listening.push(name);
      addEventListener(name, ...rest);
    };
    stage.open();
    stage.show();
    await stage.pass(1);
    expect(listening).toContain("storage");
  });
});
