/** A page's life: shown before it has started, back from the browser's cache, signed out early, told no while a request is under way. */
import { describe, expect, it } from "vitest";

import { STORAGE_KEY } from "../src/identity";
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

  it("back from the browser's cache goes on as who another page signed in since", async () => {
    const stage = createStage();
    const analytics = stage.open();
    analytics.trackEvent({ name: "before" });
    await stage.pass(100);
    stage.hide();
    // No event of storage reaches a page that lies in the cache.
    stage.items.set(STORAGE_KEY, written(stage.now()));
    stage.show();
    analytics.trackEvent({ name: "after" });
    await analytics.flush();
    expect(stage.events().find((event) => event.event_name === "after")?.anonymous_id).toBe("ada-1");
    expect(stage.items.get(STORAGE_KEY)).toContain(KNOWN);
  });
});
