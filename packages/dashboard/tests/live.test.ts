import { describe, expect, test } from "vitest";
import type { LiveAnswer, LiveRow } from "../src/api";
import { filterByName, findArrival, KEPT, mergeLive, PAGE } from "../src/live";

const row = (id: number, name = "page_view"): LiveRow => ({
  event_id: `id-${id}`,
  event_name: name,
  event_timestamp: "2026-11-24T12:00:00.000Z",
  server_timestamp: "2026-11-24T12:00:00.000Z",
  user_id: null,
  anonymous_id: "anonymous",
  session_id: null,
  thread_id: null,
  event_value: null,
  identity: "anonymous",
  masked: [],
  is_bot: false,
  source: "sdk",
});
const NOW = Date.parse("2026-11-24T12:00:10.000Z");
const page = (ids: number[], cursor = "c", as_of = "2026-11-24T12:00:10.000Z"): LiveAnswer => ({ cursor, as_of, events: ids.map((id) => row(id)) });
const range = (from: number, to: number) => Array.from({ length: from - to + 1 }, (_, index) => from - index);
const ids = (live: { events: { event_id: string }[] }) => live.events.map(({ event_id }) => event_id);

describe("the live list", () => {
  test("puts newer events on top and lists each once", () => {
    const first = mergeLive(undefined, page([2, 1]), NOW);
    const second = mergeLive(first, page([4, 3, 2]), NOW);
    expect(ids(second)).toEqual(["id-4", "id-3", "id-2", "id-1"]);
  });
  test("marks as new only what came after the page was opened", () => {
    const first = mergeLive(undefined, page([1]), NOW);
    const second = mergeLive(first, page([2]), NOW + 1000);
    expect(second.events.map(({ seenAt }) => seenAt)).toEqual([NOW + 1000, 0]);
  });
  test("keeps its list and moves its cursor when nothing new came", () => {
    const first = mergeLive(undefined, page([1], "c1"), NOW);
    const second = mergeLive(first, page([], "c2"), NOW);
    expect(second.events).toBe(first.events);
    expect(second.cursor).toBe("c2");
    expect(mergeLive(second, page([], ""), NOW).cursor).toBe("c2");
  });
  test("says where events may be left out: below a full page, and nowhere else", () => {
    const first = mergeLive(undefined, page(range(PAGE, 1)), NOW);
    expect(first.events.some(({ gapBelow }) => gapBelow)).toBe(false);
    const second = mergeLive(first, page(range(PAGE * 3, PAGE * 2 + 1)), NOW);
    expect(second.events.filter(({ gapBelow }) => gapBelow).map(({ event_id }) => event_id)).toEqual([`id-${PAGE * 2 + 1}`]);
    const third = mergeLive(second, page(range(PAGE * 3 + 3, PAGE * 3 + 1)), NOW);
    expect(third.events.filter(({ gapBelow }) => gapBelow)).toHaveLength(1);
  });
  test("is bounded", () => {
    let live = mergeLive(undefined, page([0]), NOW);
    for (let at = 1; at <= KEPT + 40; at += 1) live = mergeLive(live, page([at]), NOW);
    expect(live.events).toHaveLength(KEPT);
    expect(live.events[0]?.event_id).toBe(`id-${KEPT + 40}`);
  });
  test("knows how far the server's clock is off", () => {
    expect(mergeLive(undefined, page([], "c", "2026-11-24T12:00:12.500Z"), NOW).skew).toBe(2500);
    expect(mergeLive(undefined, page([], "c", "nonsense"), NOW).skew).toBe(0);
  });
});

test("the filter finds names by any part, whatever the case", () => {
  const live = mergeLive(undefined, { ...page([]), events: [row(1, "Page_View"), row(2, "message_sent")] }, NOW);
  expect(filterByName(live.events, " page ").map(({ event_id }) => event_id)).toEqual(["id-1"]);
  expect(filterByName(live.events, "")).toHaveLength(2);
});

describe("the setup page", () => {
  const busy = mergeLive(undefined, page([1]), NOW);
  test("does not take somebody else's event for the reader's", () => {
    const later = mergeLive(busy, { ...page([]), events: [row(2, "page_view")] }, NOW + 10);
    expect(findArrival(later.events, "sample", NOW)).toBeUndefined();
  });
  test("finds the snippet's event by its name, and the sample by its id", () => {
    const named = mergeLive(busy, { ...page([]), events: [row(3, "first_event")] }, NOW + 10);
    expect(findArrival(named.events, "sample", NOW)?.event_id).toBe("id-3");
    expect(findArrival(named.events, "id-1", NOW)?.event_id).toBe("id-1");
  });
  test("takes any event in a project that was silent before", () => {
    const silent = mergeLive(undefined, page([]), NOW);
    expect(findArrival(mergeLive(silent, page([9]), NOW + 10).events, "sample", NOW)?.event_id).toBe("id-9");
  });
});
