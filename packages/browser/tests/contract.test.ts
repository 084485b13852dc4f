/// <reference types="vite/client" />
/** What the SDK sends is what the contract says, and it understands every answer that the contract knows. */
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020";
import { describe, expect, it } from "vitest";

import schema from "../../../contract/event.schema.json";
import limits from "../../../contract/limits.json";
import { gtm } from "../src/destinations/gtm";
import type { Receipt } from "../src/event";
import { judge } from "../src/retry";
import { createStage } from "./stage";

interface Case {
  why: string;
  body?: unknown[] | { events?: unknown[] };
  text?: string;
  answer?: { status: string; code?: string; by_schema?: boolean }[];
  error?: { status: number; code: string };
}

const cases = Object.entries(import.meta.glob<Case>("../../../contract/cases/*/*.json", { eager: true, import: "default" })).map(
  ([path, content]): [string, Case] => [path.split("/").slice(-2).join("/"), content],
);

const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false, validateFormats: false, allErrors: true });
ajv.addSchema(schema, "contract");
const validator = (name: string): ValidateFunction => ajv.compile({ $ref: `contract#/$defs/${name}` });
const [isEvent, isEnvelope, isReceipt] = ["WireEvent", "Envelope", "WireReceipt"].map(validator) as [ValidateFunction, ValidateFunction, ValidateFunction];

const faults = (check: ValidateFunction, value: unknown): unknown => (check(value) ? [] : check.errors);

/** Everything that a page can call, with plain and with odd arguments. */
async function busyPage() {
  const stage = createStage();
  const analytics = stage.open({ destinations: [gtm()], getToken: () => "token" });
  analytics.trackEvent({ name: "Plan Chosen", value: 12.5, metadata: { plan: "pro", list: [1, "a", null, { deep: true }], none: undefined, big: 12n } });
  analytics.trackEvent({ name: "x", value: "", metadata: {} });
  analytics.trackInteraction("open", "Side Panel");
  analytics.trackFeatureUsage("search", "filter", { by: "date" });
  analytics.trackConversion("sale", 99);
  analytics.trackError(new TypeError("it broke \ud83d"), { where: "checkout" });
  analytics.trackError(Object.create(null));
  analytics.trackMessage({ content: "hello \ud83d\ude00", threadId: "t-1", role: "user" });
  analytics.page("home");
  analytics.identify("user-17", { plan: "pro" });
  analytics.trackEvent({ name: "after sign-in" });
  analytics.reset();
  stage.page.location.href = `https://shop.example/${"a".repeat(2 * limits.url_characters)}`;
  stage.page.document.title = "t".repeat(2 * limits.url_characters);
  analytics.page();
  await analytics.flush();
  await stage.pass(60_000);
  return stage;
}

describe("what the SDK sends", () => {
  it("is an envelope of the schema, whatever the page calls", async () => {
    const stage = await busyPage();
    expect(stage.events().length).toBe(12);
    for (const { envelope } of stage.sent) expect(faults(isEnvelope, envelope)).toEqual([]);
  });

  it("has no field that the contract does not know", async () => {
    const stage = await busyPage();
    const known = new Set(Object.keys(schema.$defs.WireEvent.properties));
    const unknown = stage.events().flatMap((event) => Object.keys(event).filter((name) => !known.has(name)));
    expect(unknown).toEqual([]);
  });

  it("reports receipts of the schema", async () => {
    const stage = await busyPage();
    const receipts = stage.sent.flatMap(({ envelope }): Receipt[] => envelope.receipts ?? []);
    expect(receipts.length).toBeGreaterThan(0);
    for (const receipt of receipts) expect(faults(isReceipt, receipt)).toEqual([]);
  });

  it("would be told apart from what the schema refuses", async () => {
    const [event] = (await busyPage()).events();
    expect(isEvent(event)).toBe(true);
    expect(isEvent({ ...event, event_name: "x".repeat(limits.event_name_characters + 1) })).toBe(false);
    expect(isEvent({ ...event, event_id: "5" })).toBe(false);
  });
});

describe.each(cases)("the case %s", (_, { body, answer, error }) => {
  it("is answered with statuses and reasons that the schema lists", () => {
    const statuses = new Set(schema.$defs.Status.enum);
    const reasons = new Set(schema.$defs.Reason.enum);
    for (const { status, code } of answer ?? []) {
      expect(statuses).toContain(status);
      if (code !== undefined) expect(reasons).toContain(code);
    }
    expect(answer !== undefined || error !== undefined).toBe(true);
  });

  it("leaves the SDK knowing what became of each event", () => {
    if (error) {
      const body = JSON.stringify({ error: { code: error.code, message: "", hint: "" } });
      expect(judge(error.status, body, 2, () => undefined)).toBe(error.status === 413 || error.code === "no_events" ? "halve" : "own");
      return;
    }
    const verdicts = answer ?? [];
    const counts = Object.fromEntries(schema.$defs.Status.enum.map((name) => [name, verdicts.filter(({ status }) => status === name).length]));
    const results = verdicts.flatMap(({ status, code }, index) => (status === "accepted" ? [] : [{ index, event_id: null, status, code, message: "" }]));
    const text = JSON.stringify({ batch_id: "b", ...counts, results, config: { version: 1, kill: false } });
    const heard: unknown[] = [];
    expect(judge(200, text, verdicts.length, (config) => heard.push(config))).toEqual(verdicts.map(({ status }) => status));
    expect(heard).toEqual([{ version: 1, kill: false }]);
  });

  it.runIf(body !== undefined && answer !== undefined)("is refused by the schema exactly where it is marked", () => {
    const events = (Array.isArray(body) ? body : body?.events) ?? [];
    expect(events.map((event) => !isEvent(event))).toEqual((answer ?? []).map((verdict) => verdict.by_schema ?? false));
  });
});
