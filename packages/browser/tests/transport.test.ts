import { describe, expect, it } from "vitest";

import { SLICE_MS } from "../src/outbox";
import { accept, createStage, refuse, type Answering } from "./stage";

/** A browser that packs; what it packs is not packed here, only said to be. */
const packing = () => {
  const stage = createStage();
  stage.environment.clockwork.pack = (text) => Promise.resolve(new TextEncoder().encode(text).buffer);
  const analytics = stage.open({ batchSize: 1 });
  const text = "x".repeat(2_000);
  return {
    stage,
    /** Whether each request of an event in turn was packed, over which the service says these things. */
    async packed(...answers: Answering[]): Promise<boolean[]> {
      const from = stage.sent.length;
      for (const answer of answers) {
        stage.respond(answer);
        analytics.trackMessage({ content: text });
        await stage.pass(300_000);
      }
      return stage.sent.slice(from).map(({ headers }) => headers["Content-Encoding"] === "gzip");
    },
    analytics,
    text,
  };
};

describe("a large body", () => {
  it("is packed, and a small one is not", async () => {
    const { stage, packed, analytics } = packing();
    expect(await packed(accept)).toEqual([true]);
    analytics.trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    expect(stage.sent[1]?.headers).toEqual({ "Content-Type": "text/plain" });
  });

  it("is never packed when the page goes", async () => {
    const { stage, analytics, text } = packing();
    analytics.trackMessage({ content: text });
    stage.hide();
    expect(stage.sent.map(({ keepalive, headers }) => [keepalive, headers])).toEqual([[true, { "Content-Type": "text/plain" }]]);
  });

  it("goes plain after a failure, and is packed again once the network is back", async () => {
    let fails = 1;
    const once: Answering = (sent) => (fails-- > 0 ? Promise.reject(new TypeError("failed to fetch")) : accept(sent));
    expect(await packing().packed(once, accept)).toEqual([true, false, true]);
  });

  it("is packed no more where somebody does not take that", async () => {
    let fails = 1;
    expect(await packing().packed((sent) => (fails-- > 0 ? refuse(415) : accept(sent)), accept)).toEqual([true, false, false]);
  });
});
