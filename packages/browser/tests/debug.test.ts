import { describe, expect, it } from "vitest";

import { explain } from "../src/debug";
import { gtm } from "../src/destinations/gtm";
import { mask } from "../src/mask";
import { accept, createStage, refuse } from "./stage";
import type { Configuration } from "../src/client";

function explained(configuration: Partial<Configuration> = {}) {
  const stage = createStage();
  const lines: string[] = [];
  const analytics = stage.open(explain({ endpoint: "/api/analytics/events", writeKey: "wk", ...configuration }, (line) => void lines.push(line)));
  return { stage, analytics, lines, said: () => lines.map((line) => line.replace(/^twintrack (\S+) \S+( \+\d+ ms)?:/, "$1:")) };
}

describe("the console", () => {
  it("is told each step of an event, what was masked, and never what the event says", async () => {
    const { analytics, said, lines, stage } = explained({ mask, destinations: [gtm({ dataLayerName: "debugLayer" })] });
    analytics.trackMessage({ content: "ada@example.com or bob@example.com", metadata: { ssn: "078-05-1120", note: "private" } });
    await stage.pass(50);
    await analytics.flush();
    expect(said()).toEqual([
      "message_sent: tracked",
      "message_sent: masked 1 [SSN], 2 [EMAIL]",
      "message_sent: gtm took it; what became of it is not known yet",
      "message_sent: in memory: the browser's storage is blocked or full, so a crash would lose it",
      "message_sent: on its way to your service",
      "message_sent: your service has it",
    ]);
    expect(lines.join()).not.toMatch(/example\.com|078-05|private/);
  });

  it("is told what a service did not take and why", async () => {
    const { analytics, said, stage } = explained();
    const statuses: Record<string, string> = {};
    stage.respond((sent) => (Object.keys(statuses).length > 0 ? accept(sent, statuses) : refuse(503)));
    const { id } = analytics.trackEvent({ name: "a" });
    await stage.pass(2_500);
    statuses[id] = "rejected";
    await stage.pass(60_000);
    expect(said().some((line) => line.includes("it will be sent again"))).toBe(true);
    expect(said().at(-1)).toBe("a: your service found it unfit; it goes no further");
  });

  it("is told of consent and of beforeSend", async () => {
    const { analytics, said, stage } = explained({ requireConsent: true, beforeSend: (event) => (event.event_name === "noise" ? null : event) });
    analytics.trackEvent({ name: "a" });
    await stage.pass(25);
    expect(said()).toEqual(["a: tracked", "a: held: nobody has answered for consent yet, so nothing is written or sent"]);
    analytics.consent("granted");
    analytics.trackEvent({ name: "noise" });
    await stage.pass(50);
    expect(said()).toContain("noise: `beforeSend` did not want it");
    analytics.consent("denied");
    analytics.trackEvent({ name: "b" });
    await stage.pass(50);
    expect(said().filter((line) => line.startsWith("b:"))).toEqual(["b: tracked", "b: discarded: consent is denied, or `beforeSend` did not want it"]);
  });

  it("that throws costs no event", async () => {
    const stage = createStage();
    const analytics = stage.open(explain({ endpoint: "/api/analytics/events", writeKey: "wk", beforeSend: () => { throw new Error("theirs"); } }, () => { throw new Error("no console"); }));
    const { id } = analytics.trackEvent({ name: "a" });
    await analytics.flush();
    expect(stage.ids()).toEqual([id]);
  });
});
