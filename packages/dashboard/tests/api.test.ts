import { afterEach, describe, expect, test, vi } from "vitest";
import { ApiError, api, readError } from "../src/api";

const answer = (body: BodyInit | null, status = 200) => vi.fn(async (..._: Parameters<typeof fetch>) => new Response(body, { status }));
const failure = async (promise: Promise<unknown>): Promise<ApiError> => {
  const error: unknown = await promise.then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof ApiError)) throw new Error(`no ApiError but ${String(error)}`);
  return error;
};

afterEach(() => vi.unstubAllGlobals());

describe("an error", () => {
  test("is told in the server's own words, with its hint", async () => {
    vi.stubGlobal("fetch", answer(JSON.stringify({ error: { code: "unknown_key", message: "Not known here.", hint: "List them." } }), 401));
    expect(await failure(api.session())).toMatchObject({ status: 401, code: "unknown_key", message: "Not known here.", hint: "List them." });
  });
  test("without a hint has none rather than an empty one", () => {
    expect(readError(400, { error: { code: "x", message: "y", hint: "" } }).hint).toBeNull();
    expect(readError(400, { error: { message: "y" } })).toMatchObject({ code: "error", hint: null });
  });
  test.each([null, "text", [], { error: "text" }, { error: { code: 1 } }, { detail: "Not Found" }])(
    "that is not in our shape (%j) is said not to be ours",
    (body) => expect(readError(502, body)).toMatchObject({ status: 502, code: "unreadable" }),
  );
  test("page of a proxy is not taken for an answer, whatever its status", async () => {
    vi.stubGlobal("fetch", answer("<html>", 200));
    expect((await failure(api.pipeline())).code).toBe("unreadable");
    vi.stubGlobal("fetch", answer("<html>", 504));
    expect(await failure(api.pipeline())).toMatchObject({ status: 504, code: "unreadable" });
  });
  test("of the network says that the server cannot be reached", async () => {
    vi.stubGlobal("fetch", vi.fn(async () => Promise.reject(new TypeError("Failed to fetch"))));
    expect(await failure(api.pipeline())).toMatchObject({ status: 0, code: "unreachable" });
  });
});

test("a question that is no longer wanted ends as an abort and not as an outage", async () => {
  const abort = new AbortController();
  vi.stubGlobal("fetch", vi.fn(async () => {
    abort.abort();
    throw new DOMException("gone", "AbortError");
  }));
  await expect(api.pipeline(abort.signal)).rejects.toMatchObject({ name: "AbortError" });
});

test("signing out has no body to read", async () => {
  vi.stubGlobal("fetch", answer(null, 204));
  await expect(api.signOut()).resolves.toBeNull();
});

test("the key travels in the body and never in the address", async () => {
  const fetch = answer("{}");
  vi.stubGlobal("fetch", fetch);
  await api.signIn({ key: "secret" });
  expect(fetch.mock.calls[0]?.[0]).toBe("/api/session");
  expect(fetch.mock.calls[0]?.[1]).toMatchObject({ method: "POST", body: '{"key":"secret"}', credentials: "same-origin" });
});

test("ids and cursors are escaped in the address", async () => {
  const fetch = answer("{}");
  vi.stubGlobal("fetch", fetch);
  await api.trace("../keys?x=1");
  await api.live({ limit: 50, after: "a+b&c" });
  await api.live({ limit: 50, after: undefined });
  expect(fetch.mock.calls.map(([path]) => path)).toEqual([
    "/api/analytics/events/..%2Fkeys%3Fx%3D1",
    "/api/analytics/live?limit=50&after=a%2Bb%26c",
    "/api/analytics/live?limit=50",
  ]);
});
