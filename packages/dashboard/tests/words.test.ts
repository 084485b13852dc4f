import { describe, expect, test } from "vitest";
import type { Key, Stage } from "../src/api";
import outcomes from "../../../src/twintrack/outcomes.py?raw";
import { byVendor, groupRow, ourTime, timeStages } from "../src/fate";
import { balanceWords, lagLevel, rate, reasonsOf } from "../src/flow";
import { isUuid, madeAt, readIdentifier, uuid7 } from "../src/identifier";
import { explain } from "../src/reasons";
import { readSlots } from "../src/preferences";
import { readLiveSearch, readSetupSearch, withLive } from "../src/search";
import { curlSnippet, npmSnippet } from "../src/snippets";
import { publicWriteKeys } from "../src/writekeys";

describe("the balance", () => {
  test("is told in plain words, whichever way it is off", () => {
    expect(balanceWords({ holds: true, difference: 0 })).toContain("exactly one");
    expect(balanceWords({ holds: false, difference: 1 })).toBe("1 received event has no counted fate.");
    expect(balanceWords({ holds: false, difference: 3 })).toBe("3 received events have no counted fate.");
    expect(balanceWords({ holds: false, difference: -2 })).toContain("counted twice");
    expect(balanceWords({ holds: false, difference: 0 })).toBe("The counts do not add up.");
    expect(balanceWords({ holds: true, difference: 0 }, true)).toContain("twintrack doctor");
  });
});

describe("a rate", () => {
  const look = (second: number, value: number) => ({ as_of: new Date(second * 1000).toISOString(), value });
  test("is events over the server's own time", () => expect(rate(look(10, 100), look(14, 120))).toBe(5));
  test("is unknown at the first look, without time between, and when the counter fell", () => {
    expect(rate(null, look(1, 1))).toBeNull();
    expect(rate(look(1, 1), look(1, 5))).toBeNull();
    expect(rate(look(1, 10), look(2, 3))).toBeNull();
  });
});

test("a lag worries only from a few seconds on", () => {
  expect([0, 0.4, 5, 5.1, 60, 61].map(lagLevel)).toEqual(["none", "fresh", "fresh", "slow", "slow", "stuck"]);
});

test("reasons come by outcome, most frequent first", () => {
  const reasons = [
    { outcome: "dropped", reason: "a", count: 1 },
    { outcome: "rejected", reason: "b", count: 9 },
    { outcome: "dropped", reason: "c", count: 5 },
  ];
  expect(reasonsOf(reasons, "dropped").map(({ reason }) => reason)).toEqual(["c", "a"]);
});

describe("an event id", () => {
  const fill = (byte: number) => (bytes: Uint8Array) => void bytes.fill(byte);
  test("is found inside pasted text", () => {
    expect(readIdentifier('{"event_id": "01980C1E-7A52-7C33-9D0E-5B0F5F6A2C11", "x": 1}')).toBe("01980c1e-7a52-7c33-9d0e-5b0f5f6a2c11");
    expect(readIdentifier("trace=01980C1E7A527C339D0E5B0F5F6A2C11 done")).toBe("01980c1e-7a52-7c33-9d0e-5b0f5f6a2c11");
    expect(readIdentifier("  my-own-id ")).toBe("my-own-id");
  });
  test("made here is a UUIDv7 that carries its time", () => {
    const now = Date.parse("2026-11-24T12:00:00.123Z");
    for (const byte of [0x00, 0xff]) {
      const id = uuid7(now, fill(byte));
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      expect(madeAt(id)).toBe(now);
    }
  });
  test("of another kind says nothing about time", () => {
    expect(madeAt("9fd73e77-7c04-4f34-9065-e05c2f792000")).toBeNull();
    expect(madeAt("x")).toBeNull();
    expect(isUuid("x9fd73e77-7c04-4f34-9065-e05c2f79200")).toBe(false);
  });
});

describe("stages", () => {
  const stage = (name: string, at: string | null): Stage => ({ name, at, detail: "" });
  test("carry the time since the last one whose time is known", () => {
    const timed = timeStages([
      stage("received", "2026-11-24T12:00:00.000Z"),
      stage("masked", null),
      stage("spooled", "2026-11-24T12:00:00.004Z"),
      stage("loaded", "2026-11-24T12:00:01.000Z"),
    ]);
    expect(timed.map(({ after }) => after)).toEqual([null, null, 4, 996]);
    expect(ourTime(timed)).toBe(1000);
  });
  test("before ours are not counted as our time: they ran on another clock", () => {
    const timed = timeStages([stage("sent", "2026-11-24T11:59:00.000Z"), stage("received", "2026-11-24T12:00:00.000Z"), stage("loaded", "2026-11-24T12:00:00.300Z")]);
    expect(timed[1]?.after).toBe(60_000);
    expect(ourTime(timed)).toBe(300);
  });
  test("alone have no length", () => {
    expect(ourTime(timeStages([stage("received", "2026-11-24T12:00:00.000Z")]))).toBeNull();
    expect(ourTime(timeStages([stage("received", null), stage("loaded", "2026-11-24T12:00:00.000Z")]))).toBeNull();
  });
});

describe("receipts", () => {
  const receipt = (vendor: string, status: string, second: number) => ({ vendor, status, at: new Date(second * 1000).toISOString() });
  test("show each vendor's furthest state, in whatever order they came", () => {
    const vendors = byVendor([receipt("statsig", "delivered", 1), receipt("statsig", "handed", 5), receipt("other", "failed", 2)]);
    expect(vendors.map(({ vendor, status }) => [vendor, status])).toEqual([
      ["statsig", "delivered"],
      ["gtm", null],
      ["other", "failed"],
    ]);
    expect(vendors[0]?.receipts.map(({ status }) => status)).toEqual(["delivered", "handed"]);
  });
});

describe("a row", () => {
  test("shows what is filled, and false and zero are filled", () => {
    const { groups, blank } = groupRow({ a: 0, b: false, c: "", d: null, e: {}, f: [], g: "x", event_metadata: { k: 1 } });
    expect(groups).toEqual([{ title: "Bookkeeping", filled: [["a", 0], ["b", false], ["g", "x"]] }]);
    expect(blank).toEqual(["c", "d", "e", "f"]);
  });
  test("shows every filled column once, grouped by what a reader asks", () => {
    const { groups } = groupRow({ chunk_id: "c", user_id: "u", event_name: "n", user_agent: "a", loaded_at: "t", event_value: "v", new_column: 1 });
    expect(groups.map(({ title, filled }) => [title, ...filled.map(([name]) => name)])).toEqual([
      ["What", "event_name", "event_value"],
      ["Who", "user_id"],
      ["When", "loaded_at"],
      ["Where from", "user_agent"],
      ["Bookkeeping", "chunk_id", "new_column"],
    ]);
  });
});

test("every reason of the server is explained, and no other", () => {
  const codes = [...(outcomes.split("class Reason")[1]?.split("class Refusal")[0] ?? "").matchAll(/= "([a-z_]+)"/g)].map(([, code]) => code ?? "");
  expect(codes).toContain("colliding_keys");
  expect(codes.filter((code) => explain(code) === null)).toEqual([]);
  expect(explain("constructor")).toBeNull();
});

describe("the address bar", () => {
  test("reads nonsense as the default", () => {
    expect(readLiveSearch({ name: " ", minutes: "7", view: "pie", hide: "x" })).toEqual({});
    expect(readLiveSearch({ minutes: 60, hide: [] })).toEqual({});
    expect(readSetupSearch({ with: "npm" })).toEqual({});
    expect(readSetupSearch({ with: "curl" })).toEqual({ with: "curl" });
  });
  test("keeps what differs, also a name that looks like a number", () => {
    expect(readLiveSearch({ name: 42, minutes: "15", view: "table", hide: ["a", "a", 1] })).toEqual({ name: "42", minutes: 15, view: "table", hide: ["a", "1"] });
  });
  test("drops a value that went back to its default and keeps the others", () => {
    expect(withLive({ minutes: 60, view: undefined })({ minutes: 15, view: "table", name: "x" })).toEqual({ name: "x" });
  });
});

describe("snippets", () => {
  const place = { origin: "https://t.example", writeKey: "tw_pub_1" };
  test("carry the project's key and address", () => {
    expect(npmSnippet(place)).toContain('endpoint: "https://t.example/api/analytics/events"');
    expect(npmSnippet(place)).toContain('writeKey: "tw_pub_1"');
  });
  test("of curl send one event the server can read", () => {
    const text = curlSnippet(place, "id-1", new Date(0));
    const body: unknown = JSON.parse(/-d '(.*)'$/.exec(text)?.[1] ?? "");
    expect(body).toEqual([{ event_id: "id-1", event_name: "first_event", event_value: "hello", anonymous_id: "curl", client_timestamp: "1970-01-01T00:00:00.000Z" }]);
  });
  test("cannot be broken out of by a quote", () => {
    expect(curlSnippet({ ...place, writeKey: "a'b" }, "id", new Date(0))).toContain(`'X-Write-Key: a'\\''b'`);
  });
});

test("only public keys that still work are offered, newest first", () => {
  const key = (id: string, write_key: string | null, revoked_at: string | null, created_at: string): Key => ({
    id, role: "write", project: "p", environment: "e", prefix: id, created_at, revoked_at, write_key,
    expires_at: id === "ended" ? "2026-01-01T00:00:00.000Z" : null, used_at: null, origins: [], networks: [], replaces: null,
  });
  const keys = [key("old", "k1", null, "2026-01-01"), key("gone", "k2", "2026-02-01", "2026-02-01"), key("secret", null, null, "2026-03-01"), key("new", "k4", null, "2026-04-01"), key("ended", "k5", null, "2025-01-01")];
  expect(publicWriteKeys(keys).map(({ id }) => id)).toEqual(["new", "old"]);
});

test("damaged memory of colours is forgotten and not fatal", () => {
  expect(readSlots("{")).toEqual({});
  expect(readSlots("null")).toEqual({});
  expect(readSlots('{"a": 1, "b": "x", "c": 1.5}')).toEqual({ a: 1 });
});
