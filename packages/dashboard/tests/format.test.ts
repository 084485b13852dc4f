import { describe, expect, test } from "vitest";
import { address, ago, bytes, clock, count, duration, instant, plural, secondClock, sentence, short, words } from "../src/format";

describe("numbers", () => {
  test("are grouped, and exact below 100,000 even in narrow places", () => {
    expect(count(1234567)).toBe("1,234,567");
    expect(short(99_999)).toBe("99,999");
    expect(short(123_456)).toBe("123 k");
    expect(short(1_234_567)).toBe("1.23 M");
    expect(short(2_500_000_000)).toBe("2.5 G");
  });
  test("never round up to a thousand of the smaller unit", () => {
    expect(short(999_499)).toBe("999 k");
    expect(short(999_500)).toBe("1 M");
    expect(bytes(1023.99 * 1024)).toBe("1 MiB");
  });
  test("name one thing in the singular", () => {
    expect(plural(1, "event")).toBe("1 event");
    expect(plural(0, "event")).toBe("0 events");
  });
  test("of bytes use binary units", () => {
    expect(bytes(0)).toBe("0 B");
    expect(bytes(1536)).toBe("1.5 KiB");
    expect(bytes(5 * 1024 ** 3)).toBe("5 GiB");
  });
});

describe("durations", () => {
  test.each([
    [0, "0 s"],
    [0.0042, "4.2 ms"],
    [0.012, "12 ms"],
    [0.9996, "1 s"],
    [1.25, "1.3 s"],
    [42, "42 s"],
    [59.97, "1 min"],
    [75, "1 min 15 s"],
    [3600, "1 h"],
    [90_061, "1 d 1 h"],
    [-0.5, "−500 ms"],
  ])("of %s seconds read %s", (seconds, text) => expect(duration(seconds)).toBe(text));
});

describe("relative times", () => {
  const now = Date.parse("2026-11-24T12:00:00Z");
  test.each([
    [0, "just now"],
    [999, "just now"],
    [1000, "1 s ago"],
    [59_999, "59 s ago"],
    [60_000, "1 min ago"],
    [3_599_999, "59 min ago"],
    [3_600_000, "1 h ago"],
    [86_400_000 * 3, "3 d ago"],
  ])("of %s ms read %s", (gone, text) => expect(ago(now - gone, now)).toBe(text));

  test("forgive a second of clock difference, and say more than that", () => {
    expect(ago(now + 900, now)).toBe("just now");
    expect(ago(now + 30_000, now)).toBe("in 30 s");
  });
});

describe("instants", () => {
  const at = Date.parse("2026-11-24T00:05:09.123Z");
  test("in UTC do not depend on the device's zone, and midnight is 00", () => {
    expect(instant(at, "utc")).toBe("24 Nov 2026, 00:05:09.123 UTC");
    expect(clock(at, "utc")).toBe("00:05");
    expect(secondClock(at, "utc")).toBe("00:05:09");
  });
  test("in the local zone name that zone", () => {
    const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone;
    expect(instant(at, "local").endsWith(` ${zone}`)).toBe(true);
  });
});

test("a clause of the server reads as a sentence, once", () => {
  expect(sentence("this key is unknown or revoked")).toBe("This key is unknown or revoked.");
  expect(sentence("Is `twintrack serve` running?")).toBe("Is `twintrack serve` running?");
  expect(sentence("`twintrack keys create` prints one")).toBe("`twintrack keys create` prints one.");
  expect(sentence(" ")).toBe("");
});

test("an IPv4 address in a column of IPv6 reads as people write it", () => {
  expect(address("::ffff:7f00:0")).toBe("127.0.0.0");
  expect(address("::ffff:c0a8:1")).toBe("192.168.0.1");
  expect(address("::ffff:10.1.2.0")).toBe("10.1.2.0");
  expect(address("2001:db8:1::")).toBe("2001:db8:1::");
});

test("codes read as words", () => expect(words("metadata_too_deep")).toBe("metadata too deep"));
