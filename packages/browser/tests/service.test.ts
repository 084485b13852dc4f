import { afterEach, describe, expect, it } from "vitest";

import type { Analytics } from "../src/client";
import { gtm } from "../src/destinations/gtm";
import { statsig } from "../src/destinations/statsig";
import { SLICE_MS } from "../src/outbox";
import { balance, createStage, rest } from "./stage";

const page = globalThis as unknown as Record<string, unknown>;
afterEach(() => {
  delete page["dataLayer"];
  delete page["ours"];
});

const recorder = () => {
  const calls: { name: string; value: unknown; metadata: Record<string, string> }[] = [];
  return { calls, logEvent: (name: string, value?: unknown, metadata: Record<string, string> = {}) => void calls.push({ name, value, metadata }) };
};

describe("one call", () => {
  it("reaches Statsig, the data layer and our service under one id", async () => {
    const stage = createStage();
    const vendor = recorder();
    const analytics = stage.open({ destinations: [statsig(vendor), gtm()] });
    const id = analytics.trackConversion("Upgrade Plan", 29, { plan: "pro", seats: 3, deep: { a: [1] }, none: null }).id;
    await analytics.flush();
    expect(vendor.calls).toEqual([{ name: "conversion_upgrade_plan", value: "29", metadata: { plan: "pro", seats: "3", deep: '{"a":[1]}', event_id: id } }]);
    expect(page["dataLayer"]).toEqual([
      { event: "conversion_upgrade_plan", event_category: "conversion", event_action: "Upgrade Plan", event_label: "conversion_upgrade_plan", value: "29", custom_parameters: { plan: "pro", seats: 3, deep: { a: [1] }, none: null }, event_id: id },
    ]);
    expect(stage.events()).toEqual([expect.objectContaining({ event_id: id, event_name: "conversion_upgrade_plan", event_value: "29", consent: "granted", source: "sdk", client_timestamp: "2026-01-05T12:00:00.000Z", sequence: 0 })]);
    expect(stage.sent[0]?.envelope.receipts?.map(({ vendor, status, event_id }) => [vendor, status, event_id])).toEqual([["statsig", "handed", id], ["gtm", "handed", id]]);
  });

  it("goes under the name of its kind", async () => {
    const stage = createStage();
    const a = stage.open();
    a.trackEvent({ name: "Sign Up" });
    a.trackInteraction("click", "Buy Button");
    a.trackFeatureUsage("Search", "opened");
    a.trackConversion("sale");
    a.trackError(new TypeError("bad"), { where: "cart" });
    a.trackMessage({ content: "hi", threadId: "t1", role: "assistant" });
    a.page("Home");
    a.identify("ada");
    await a.flush();
    const events = stage.events();
    expect(events.map((e) => e.event_name)).toEqual(["sign_up", "click_buy_button", "feature_search_opened", "conversion_sale", "error_occurred", "message_sent", "page_view", "identify"]);
    expect(events[4]?.event_metadata).toEqual({ error_name: "TypeError", error_message: "bad", where: "cart" });
    expect(events[5]).toMatchObject({ message_content: "hi", thread_id: "t1", event_metadata: { role: "assistant", message_length: 2 } });
    expect(events[6]?.event_value).toBe("Home");
    expect(events[7]).toMatchObject({ user_id: "ada", anonymous_id: events[0]?.anonymous_id });
    expect(events.map((e) => e.sequence)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("leaves the data layer of others as it was", async () => {
    const stage = createStage();
    const before = [Object.freeze({ event: "gtm.js" })];
    page["ours"] = before;
    stage.open({ destinations: [gtm({ dataLayerName: "ours" })] }).trackEvent({ name: "a" });
    await stage.pass(SLICE_MS);
    expect(page["ours"]).toBe(before);
    expect(before[0]).toEqual({ event: "gtm.js" });
    expect(before).toHaveLength(2);
  });
});

describe("a vendor", () => {
  it("that throws or is missing costs neither the others nor the page", async () => {
    const stage = createStage();
    const vendor = recorder();
    const broken = { logEvent: () => { throw new Error("blocked"); } };
    const analytics = stage.open({ destinations: [statsig(broken), statsig(() => undefined), statsig(vendor), gtm()] });
    const id = analytics.trackEvent({ name: "a" }).id;
    await analytics.flush();
    expect(vendor.calls).toHaveLength(1);
    expect(stage.ids()).toEqual([id]);
    expect(stage.sent[0]?.envelope.receipts?.map((r) => r.status)).toEqual(["failed", "absent", "handed", "handed"]);
  });

  it("never sees the text of a message", async () => {
    const stage = createStage();
    const vendor = recorder();
    const analytics = stage.open({ destinations: [statsig(vendor), gtm()] });
    analytics.trackMessage({ content: "my secret", metadata: { content: "my secret", copy: { of: "my secret" }, tone: "calm" } });
    await analytics.flush();
    expect(JSON.stringify([vendor.calls, page["dataLayer"]])).not.toContain("secret");
    expect(vendor.calls[0]?.metadata).toMatchObject({ tone: "calm", message_length: "9" });
    expect(stage.events()[0]?.message_content).toBe("my secret");
  });

  it("sees the text where that is switched on, masked, and without a mask it does not", async () => {
    for (const [mask, seen] of [[(text: string) => text.replace("ada", "[name]"), "hello [name]"], [undefined, undefined]] as const) {
      const stage = createStage();
      const vendor = recorder();
      stage.open({ destinations: [statsig(vendor)], messageContentToVendors: true, ...(mask ? { mask } : {}) }).trackMessage({ content: "hello ada" });
      await stage.pass(SLICE_MS);
      expect(vendor.calls).toHaveLength(1);
      expect(vendor.calls[0]?.metadata["message_content"]).toBe(seen);
    }
  });

  it("gets nothing under Global Privacy Control, and our service does", async () => {
    const stage = createStage();
    stage.page.navigator.globalPrivacyControl = true;
    const vendor = recorder();
    const analytics = stage.open({ destinations: [statsig(vendor), gtm()] });
    const id = analytics.trackEvent({ name: "a" }).id;
    await analytics.flush();
    expect(vendor.calls).toEqual([]);
    expect(page["dataLayer"]).toBeUndefined();
    expect(stage.ids()).toEqual([id]);
    expect(stage.sent[0]?.envelope.receipts?.map((r) => r.status)).toEqual(["blocked", "blocked"]);
  });

  it("cannot change what our service gets", async () => {
    const stage = createStage();
    const analytics = stage.open({ destinations: [{ vendor: "gtm", send: (event) => { (event.metadata["deep"] as { a: number }).a = 9; return true; } }] });
    analytics.trackEvent({ name: "a", metadata: { deep: { a: 1 } } });
    await analytics.flush();
    expect(stage.events()[0]?.event_metadata).toEqual({ deep: { a: 1 } });
  });
});

describe("the page", () => {
  it("never gets an exception, whatever it hands us", async () => {
    const stage = createStage();
    const analytics = stage.open({ destinations: [gtm()] });
    const wild: unknown[] = [undefined, null, 1, "x", Symbol("s"), [], () => 1, new Proxy({}, { get: () => { throw new Error("trap"); } })];
    for (const value of wild) {
      const any = value as never;
      for (const name of ["trackEvent", "trackInteraction", "trackFeatureUsage", "trackConversion", "trackError", "trackMessage", "page", "identify", "consent"] as const) {
        expect(() => (analytics[name] as (...given: never[]) => unknown)(any, any, any)).not.toThrow();
      }
    }
    analytics.reset();
    await expect(analytics.flush()).resolves.toBeUndefined();
    expect(() => createStage().open(undefined)).not.toThrow();
  });

  it("is not harmed by storage that throws", async () => {
    const stage = createStage();
    Object.defineProperty(stage.page, "localStorage", { get: () => { throw new Error("SecurityError"); } });
    const analytics = stage.open();
    analytics.trackEvent({ name: "a" });
    analytics.trackEvent({ name: "b" });
    await analytics.flush();
    const [a, b] = stage.events();
    expect(b).toMatchObject({ anonymous_id: a?.anonymous_id, session_id: a?.session_id, sequence: 1 });
  });

  it("keeps half an emoji as it was", async () => {
    const stage = createStage();
    const analytics = stage.open();
    analytics.trackMessage({ content: "half \ud83c!" });
    await analytics.flush();
    expect(stage.sent[0]?.body).toContain("half \\ud83c!");
  });

  it("is left alone when switched off", () => {
    const stage = createStage();
    const analytics = stage.open({ enabled: false });
    expect(analytics.trackEvent({ name: "a" }).id).toBe("");
    expect([stage.listening(), stage.timers(), stage.items.size]).toEqual([0, 0, 0]);
  });
});

describe("an identity", () => {
  const ids = async (stage: ReturnType<typeof createStage>, analytics: Analytics) => {
    analytics.trackEvent({ name: "a" });
    await analytics.flush();
    const { anonymous_id, session_id, sequence, user_id } = stage.events()[stage.events().length - 1] ?? {};
    return { anonymous_id, session_id, sequence, user_id };
  };

  it("stays over visits and is shared by tabs, the session until it is idle", async () => {
    const stage = createStage();
    const first = await ids(stage, stage.open());
    const second = await ids(stage, stage.open());
    expect(second).toEqual({ ...first, sequence: 1 });
    stage.jump(30 * 60_000 + 1);
    const third = await ids(stage, stage.open());
    expect(third).toMatchObject({ anonymous_id: first.anonymous_id, sequence: 0 });
    expect(third.session_id).not.toBe(first.session_id);
  });

  it("has a session of a day at most", async () => {
    const stage = createStage();
    const analytics = stage.open();
    const seen = new Set<string | undefined>();
    for (let n = 0; n <= 24 * 3; n++) {
      seen.add((await ids(stage, analytics)).session_id);
      stage.jump(20 * 60_000);
    }
    expect(seen.size).toBe(1);
    expect((await ids(stage, analytics)).session_id).not.toBe([...seen][0]);
  });

  it("is new after a reset, and the user is gone", async () => {
    const stage = createStage();
    const analytics = stage.open();
    analytics.identify("ada");
    const before = await ids(stage, analytics);
    analytics.reset();
    const after = await ids(stage, analytics);
    expect(before.user_id).toBe("ada");
    expect(after).toMatchObject({ user_id: undefined, sequence: 0 });
    expect(after.anonymous_id).not.toBe(before.anonymous_id);
  });

  it("does not believe storage that was tampered with", async () => {
    for (const text of ["{", "null", '{"anonymous":5}', '{"anonymous":"a","session":"s","started":"x","seen":1,"sequence":1}']) {
      const stage = createStage();
      stage.items.set("twintrack", text);
      expect((await ids(stage, stage.open())).anonymous_id).toMatch(/^[0-9a-f-]{36}$/);
    }
  });
});

describe("consent", () => {
  it("is waited for: nothing is stored, sent or handed over, and on a grant all of it goes in order with its id and time", async () => {
    const stage = createStage();
    const vendor = recorder();
    const analytics = stage.open({ requireConsent: true, destinations: [statsig(vendor)] });
    const sent = [analytics.trackEvent({ name: "a" }).id];
    await stage.pass(5_000);
    sent.push(analytics.trackEvent({ name: "b" }).id);
    stage.hide();
    await stage.pass(60_000);
    expect([stage.sent.length, stage.items.size, vendor.calls.length, analytics.stats().held]).toEqual([0, 0, 0, 2]);
    analytics.consent("granted");
    await analytics.flush();
    expect(stage.ids()).toEqual(sent);
    expect(stage.events().map((e) => [e.client_timestamp, e.consent])).toEqual(["2026-01-05T12:00:00.000Z", "2026-01-05T12:00:05.000Z"].map((at) => [at, { state: "granted", at: "2026-01-05T12:01:05.000Z", denied: [] }]));
    expect(vendor.calls.map((c) => c.metadata["event_id"])).toEqual(sent);
    expect(stage.items.size).toBe(1);
  });

  it("granted on a later visit goes on with the person of the first", async () => {
    const stage = createStage();
    for (let visit = 0; visit < 2; visit++) {
      const analytics = stage.open({ requireConsent: true });
      analytics.trackEvent({ name: "a" });
      analytics.consent("granted");
      await analytics.flush();
    }
    expect(new Set(stage.events().map((e) => e.anonymous_id)).size).toBe(1);
    expect(stage.events().map((e) => e.sequence)).toEqual([0, 1]);
  });

  it("granted after a sign-out keeps the two people apart", async () => {
    const stage = createStage();
    const analytics = stage.open({ requireConsent: true });
    analytics.identify("ada");
    analytics.reset();
    analytics.trackEvent({ name: "b" });
    analytics.consent("granted");
    analytics.trackEvent({ name: "c" });
    await analytics.flush();
    const [a, b, c] = stage.events();
    expect([a?.user_id, b?.user_id]).toEqual(["ada", undefined]);
    expect(a?.anonymous_id).not.toBe(b?.anonymous_id);
    expect(c?.anonymous_id).toBe(b?.anonymous_id);
  });

  it("denied discards what was held, counts it, and forgets the person", async () => {
    const stage = createStage();
    stage.items.set("twintrack", "from an earlier visit");
    const analytics = stage.open({ requireConsent: true });
    analytics.trackEvent({ name: "a" });
    analytics.consent("denied");
    analytics.trackEvent({ name: "b" });
    analytics.reset();
    await stage.pass(60_000);
    expect([stage.sent.length, stage.items.size]).toEqual([0, 0]);
    expect(analytics.stats()).toMatchObject({ tracked: 2, discarded: 2, held: 0 });
    expect(balance(analytics)).toBe(0);
  });

  it("withdrawn discards what is queued", async () => {
    const stage = createStage();
    const analytics = stage.open();
    analytics.trackEvent({ name: "a" });
    analytics.consent("denied");
    stage.hide();
    await stage.pass(60_000);
    await rest();
    expect([stage.sent.length, stage.items.size, analytics.stats().discarded]).toEqual([0, 0, 1]);
  });

  it("follows Do Not Track only where the page says so", async () => {
    for (const [respectDoNotTrack, sent] of [[true, 0], [false, 1]] as const) {
      const stage = createStage();
      stage.page.navigator.doNotTrack = "1";
      const analytics = stage.open({ respectDoNotTrack });
      analytics.trackEvent({ name: "a" });
      await analytics.flush();
      expect(stage.events()).toHaveLength(sent);
    }
  });
});
