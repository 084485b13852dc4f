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

  it("know of a sign-out on one of them: both are someone new, in one new session, and it outlives the page", async () => {
    const stage = shop();
    const [one, two] = [stage.open(), stage.open({ endpoint: "/b/events", writeKey: "two" })];
    one.identify("ada");
    two.identify("ada");
    await settled(stage, 3_000);
    one.reset();
    two.trackEvent({ name: "after" });
    one.trackEvent({ name: "after" });
    await settled(stage, 3_000);
    stage.hide();
    stage.show();
    const next = stage.open();
    next.trackEvent({ name: "after" });
    await settled(stage, 3_000);
    const who = (name: string): string[] => [...new Set(stage.events().filter((event) => event.event_name === name).map((event) => `${event.anonymous_id} ${event.session_id} ${event.user_id}`))];
    expect([who("identify").length, who("after").length]).toEqual([1, 1]);
    expect(who("after")[0]).toMatch(/ undefined$/);
    expect(who("after")[0]?.slice(0, 73)).not.toBe(who("identify")[0]?.slice(0, 73));
    expect([one, two, next].map(balance)).toEqual([0, 0, 0]);
  });

  it("that both sign out and in again both have the new user, and keep the old one to what came before", async () => {
    const stage = shop();
    const both = [stage.open(), stage.open({ writeKey: "two" })];
    for (const one of both) one.identify("ada");
    for (const one of both) one.trackEvent({ name: "before" });
    for (const one of both) one.reset();
    for (const one of both) one.identify("bob");
    for (const one of both) one.trackEvent({ name: "after" });
    await settled(stage, 6_000);
    const of = (name: string): (string | undefined)[][] => stage.events().filter((event) => event.event_name === name).map(({ user_id, anonymous_id }) => [user_id, anonymous_id]);
    const [before, after] = [of("before"), of("after")];
    expect([...before, ...after].map(([user]) => user)).toEqual(["ada", "ada", "bob", "bob"]);
    expect(before[0]?.[1]).not.toBe(after[0]?.[1]);
    expect(after[0]).toEqual(after[1]);
  });
});

describe("two tabs", () => {
  it("both are someone new after a sign-out in one, and the other's user is not linked to the next person", async () => {
    const one = shop();
    const two = createStage();
    Object.assign(two.page, { indexedDB: (one.page as unknown as { indexedDB: IDBFactory }).indexedDB, localStorage: one.page.localStorage });
    const [here, there] = [one.open(), two.open()];
    here.identify("ada");
    await settled(one, 3_000);
    there.identify("ada");
    await settled(two, 3_000);
    here.reset();
    const late = [here.trackEvent({ name: "next" }).id, there.trackEvent({ name: "next" }).id];
    await settled(one, 3_000);
    await settled(two, 3_000);
    const events = [...one.events(), ...two.events()].filter(({ event_id }) => late.includes(event_id));
    expect(events).toHaveLength(2);
    expect(new Set(events.map(({ anonymous_id }) => anonymous_id)).size).toBe(1);
    expect(events.map(({ user_id }) => user_id)).toEqual([undefined, undefined]);
  });

  it("where nothing can be written each keep the session they began", async () => {
    const stage = createStage();
    const analytics = stage.open();
    analytics.trackEvent({ name: "earlier" });
    await stage.pass(100);
    stage.page.localStorage.setItem = () => {
      throw new DOMException("full", "QuotaExceededError");
    };
    stage.jump(31 * 60_000);
    for (let n = 0; n < 3; n++) {
      analytics.trackEvent({ name: "a" });
      await stage.pass(100);
    }
    analytics.reset();
    for (let n = 0; n < 3; n++) {
      analytics.trackEvent({ name: "b" });
      await stage.pass(100);
    }
    await stage.pass(3_000);
    const sessions = (name: string): number => new Set(stage.events().filter((event) => event.event_name === name).map(({ anonymous_id, session_id }) => `${anonymous_id} ${session_id}`)).size;
    expect([sessions("a"), sessions("b")]).toEqual([1, 1]);
  });
});
