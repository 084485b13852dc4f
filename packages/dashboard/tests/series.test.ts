import { describe, expect, test } from "vitest";
import type { Activity } from "../src/api";
import { shape, stack, totals } from "../src/series";

const minute = (at: number) => new Date(Date.UTC(2026, 10, 24, 12, at)).toISOString();
const activity = (minutes: number[], series: Record<string, (number | null)[]>, unfinished = true): Activity => ({
  as_of: minute(59),
  minutes: minutes.map(minute),
  series: Object.entries(series).map(([event_name, counts]) => ({ event_name, counts })),
  unfinished,
});

describe("a minute", () => {
  test("without events is zero, and one nobody spoke of is a gap", () => {
    const shaped = shape(activity([0, 1, 4], { a: [5, 0, 7] }));
    expect(shaped.times.map((time) => (time - (shaped.times[0] ?? 0)) / 60)).toEqual([0, 1, 2, 3, 4]);
    expect(shaped.series[0]?.counts).toEqual([5, 0, null, null, 7]);
    expect(shaped.series[0]?.total).toBe(12);
  });
  test("that is running is the last one, and only where the server says so", () => {
    expect(shape(activity([0, 1, 4], { a: [1, 1, 1] })).unfinished).toBe(4);
    expect(shape(activity([0, 1], { a: [1, 1] }, false)).unfinished).toBeNull();
  });
  test("beyond the counts of a series is a gap", () => {
    expect(shape(activity([0, 1], { a: [3] })).series[0]?.counts).toEqual([3, null]);
  });
});

test("an event called as the rest is counted with it, as one series", () => {
  const { as_of, minutes, unfinished } = activity([0, 1, 2], {});
  const shaped = shape({ as_of, minutes, unfinished, series: [
    { event_name: "other", counts: [1, null, null] },
    { event_name: "a", counts: [5, 5, 5] },
    { event_name: "other", counts: [10, 20, null] },
  ] });
  expect(shaped.series).toEqual([
    { name: "other", counts: [11, 20, null], total: 31 },
    { name: "a", counts: [5, 5, 5], total: 15 },
  ]);
});

test("no minutes at all make an empty shape", () => {
  expect(shape(activity([], {}))).toEqual({ times: [], series: [], unfinished: null });
});

describe("a stack", () => {
  test("sums from the bottom up", () => {
    expect(stack([[1, 2], [10, 20], [100, 200]])).toEqual([[1, 2], [11, 22], [111, 222]]);
  });
  test("keeps a gap only where every series has one", () => {
    expect(stack([[1, null, null], [null, null, 4]])).toEqual([[1, null, 0], [1, null, 4]]);
  });
  test("leaves its input alone", () => {
    const counts = [[1], [2]];
    stack(counts);
    expect(counts).toEqual([[1], [2]]);
  });
});

test("totals are the top of the stack", () => {
  expect(totals(shape(activity([0, 2], { a: [1, 2], b: [10, 20] })))).toEqual([11, null, 22]);
  expect(totals({ times: [0, 60], series: [], unfinished: null })).toEqual([null, null]);
});
