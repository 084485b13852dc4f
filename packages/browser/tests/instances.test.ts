/** Several services on one page, and one made twice: as page builders and StrictMode make them. */
import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { describe, expect, it } from "vitest";

import { accept, balance, createStage } from "./stage";

globalThis.IDBKeyRange = IDBKeyRange;

const settled = async (stage: ReturnType<typeof createStage>, milliseconds: number): Promise<void> => {
  for (let n = 0; n < 20; n++) {
    await stage.pass(milliseconds / 20);
    for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 0));
  }
};

const shop = (): ReturnType<typeof createStage> => {
  const stage = createStage();
  Object.assign(stage.page, { indexedDB: new IDBFactory() });
  return stage;
};

describe("two services on one page", () => {
  it("under one key share the person and the session, and lose none of what either was told", async () => {
    const stage = shop();
    const [one, two] = [stage.open(), stage.open()];
    const ids = [one.trackEvent({ name: "a" }).id, two.trackEvent({ name: "b" }).id, one.trackEvent({ name: "c" }).id];
    await settled(stage, 6_000);
    expect(new Set(stage.ids())).toEqual(new Set(ids));
    expect(new Set(ids).size).toBe(3);
    expect(new Set(stage.events().map(({ anonymous_id, session_id }) => `${anonymous_id} ${session_id}`)).size).toBe(1);
    expect([balance(one), balance(two)]).toEqual([0, 0]);
    expect([one.stats().queued, two.stats().queued]).toEqual([0, 0]);
  });

  it("under two keys never mix what they send", async () => {
    const stage = shop();
    const [one, two] = [stage.open({ writeKey: "one" }), stage.open({ writeKey: "two" })];
    const ids = { one: one.trackEvent({ name: "a" }).id, two: two.trackEvent({ name: "b" }).id };
    await settled(stage, 6_000);
    const by = Object.fromEntries(stage.sent.map(({ envelope }) => [envelope.key, envelope.events.map(({ event_id }) => event_id)]));
    expect(by).toEqual({ one: [ids.one], two: [ids.two] });
  });

  it("end apart: the shutdown of one leaves the other at work", async () => {
    const stage = shop();
    const [one, two] = [stage.open(), stage.open()];
    await one.shutdown();
    const { id } = two.trackEvent({ name: "b" });
    await settled(stage, 6_000);
    expect(stage.ids()).toEqual([id]);
  });

  it("each make their last send when the page goes", async () => {
    const stage = createStage();
    stage.respond((sent) => accept(sent));
    const ids = [stage.open().trackEvent({ name: "a" }).id, stage.open().trackEvent({ name: "b" }).id];
    stage.hide();
    expect(stage.ids().sort()).toEqual(ids.sort());
  });
});
