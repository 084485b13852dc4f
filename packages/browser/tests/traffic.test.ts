/** How many requests a page makes: each costs more of its main thread than all events in it. */
import { describe, expect, it } from "vitest";

import { SLICE_MS } from "../src/outbox";
import { accept, createStage, rest, type Sent } from "./stage";

describe("what comes in while a batch is under way", () => {
  it.each([[[]], [[{ vendor: "gtm" as const, send: () => true }]]])("waits for its own time, and is no request of its own (%j)", async (destinations) => {
    const stage = createStage();
    const analytics = stage.open({ batchSize: 10, destinations });
    let answer = (): void => undefined;
    stage.respond((sent: Sent) => new Promise((resolve) => (answer = () => resolve(accept(sent)))));
    for (let n = 0; n < 10; n++) analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    stage.jump(1);
    analytics.trackEvent({ name: "meanwhile" });
    await stage.pass(SLICE_MS);
    answer();
    await rest();
    expect(stage.sent).toHaveLength(1);
    await stage.pass(1_900);
    expect(stage.sent).toHaveLength(1);
    await stage.pass(200);
    expect(stage.sent).toHaveLength(2);
  });
});
