import { describe, expect, it } from "vitest";

import { backoff, judge, MOST_ASKED_MS, MOST_MS, retryAfter } from "../src/retry";

const answer = (counts: object, results: object[] = []): string => JSON.stringify({ batch_id: "b", accepted: 0, duplicate: 0, rejected: 0, dropped: 0, retry: 0, results, config: { version: 1, kill: false }, ...counts });

/** What became of so many events, and the configurations that were heard. */
const judged = (status: number, body: string, events: number) => {
  const heard: unknown[] = [];
  return { fates: judge(status, body, events, (config) => heard.push(config)), heard };
};
const own = (code: string): string => JSON.stringify({ error: { code, message: "m", hint: "h" } });

describe("an answer", () => {
  it.each([500, 502, 503, 504, 599])("of status %i has the batch sent again", (status) => {
    expect(judged(status, "", 3)).toEqual({ fates: "own", heard: [] });
  });

  it.each([301, 302, 400, 401, 403, 404, 405, 408, 415, 422, 425, 429])("of status %i by someone else settles nothing", (status) => {
    for (const body of ["", "<html>", "{}", "null", '{"error":"no"}', '{"error":{"code":403,"message":"x"}}']) expect(judged(status, body, 3)).toEqual({ fates: "foreign", heard: [] });
  });

  it.each([
    [401, "unknown_key"],
    [403, "foreign_origin"],
    [415, "unsupported_encoding"],
    [400, "bad_encoding"],
    [429, "rate_limited"],
  ])("of status %i by our own service, %s, settles nothing either", (status, code) => {
    expect(judged(status, own(code), 1)).toEqual({ fates: "own", heard: [] });
  });

  it.each([
    [413, "", "says too large"],
    [400, own("no_events"), "cannot be read there"],
  ])("of status %i (%s) that %s settles nothing until one event is left", (status, body) => {
    expect(judged(status, body, 2).fates).toBe("halve");
    expect(judged(status, body, 1).fates).toEqual(["refused"]);
  });

  it.each([
    ["cannot be read", "<html>sign in to the network</html>"],
    ["is empty", ""],
    ["is null", "null"],
    ["lacks its counts", '{"results":[]}'],
    ["has counts that do not sum to the events sent", answer({ accepted: 2 })],
    ["has counts above the events sent", answer({ accepted: 4 })],
    ["has counts that are no numbers", answer({ accepted: "3" })],
    ["counts a retry it does not name", answer({ accepted: 2, retry: 1 })],
    ["names an event that was not sent", answer({ accepted: 2, retry: 1 }, [{ index: 7, status: "retry" }])],
    ["names an event twice", answer({ accepted: 1, retry: 2 }, [{ index: 1, status: "retry" }, { index: 1, status: "retry" }])],
    ["has a status nobody knows", answer({ accepted: 2, rejected: 1 }, [{ index: 1, status: "lost" }])],
  ])("that %s settles nothing", (_, body) => {
    expect(judged(200, body, 3)).toEqual({ fates: "foreign", heard: [] });
  });

  it("that adds up settles each event by itself", () => {
    const body = answer({ accepted: 1, duplicate: 1, retry: 1 }, [{ index: 0, status: "duplicate" }, { index: 2, status: "retry" }]);
    expect(judged(200, body, 3)).toEqual({ fates: ["duplicate", "accepted", "retry"], heard: [{ version: 1, kill: false }] });
  });
});

describe("the wait", () => {
  it("is anywhere up to four seconds doubled per failure, five minutes at most", () => {
    expect([0, 1, 2, 3, 8, 9, 400].map((n) => backoff(n, 1))).toEqual([4_000, 8_000, 16_000, 32_000, MOST_MS, MOST_MS, MOST_MS]);
    expect(backoff(5, 0)).toBe(0);
    expect(backoff(3, 0.25)).toBe(8_000);
  });

  it("is what the service asked for, in seconds or as a date", () => {
    const now = Date.parse("Wed, 21 Oct 2026 07:28:00 GMT");
    expect(retryAfter("7", now)).toBe(7_000);
    expect(retryAfter("Wed, 21 Oct 2026 07:28:30 GMT", now)).toBe(30_000);
    expect(retryAfter("Wed, 21 Oct 2026 07:00:00 GMT", now)).toBeUndefined();
    expect(retryAfter("0", now)).toBeUndefined();
    expect(retryAfter("-5", now)).toBeUndefined();
    expect(retryAfter("soon", now)).toBeUndefined();
    expect(retryAfter(null, now)).toBeUndefined();
    expect(retryAfter("99999999999", now)).toBe(MOST_ASKED_MS);
  });
});
