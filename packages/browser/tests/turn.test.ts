import { IDBFactory, IDBKeyRange } from "fake-indexeddb";
import { describe, expect, it } from "vitest";

import { LEASE_MS, takeTurn } from "../src/turn";
import { createStage, refuse, rest } from "./stage";

globalThis.IDBKeyRange = IDBKeyRange;

type Work = () => Promise<void>;
const withLocks = (request: (name: string, work: Work) => Promise<void>): Window => ({ navigator: { locks: { request } } }) as unknown as Window;

describe("the turn", () => {
  it("is taken under a lock, however long the work takes, and only once", async () => {
    const stage = createStage();
    const done: boolean[] = [];
    let end: () => void = () => undefined;
    const turn = takeTurn(withLocks((_, work) => work()), "n", stage.environment.clockwork, (leased) => {
      done.push(leased);
      return new Promise((resolve) => (end = resolve));
    });
    await stage.pass(LEASE_MS * 2);
    end();
    await turn;
    expect([done, stage.timers()]).toEqual([[false], 0]);
  });

  it.each<[string, Window | undefined]>([
    ["there are no locks", { navigator: {} } as Window],
    ["the locks refuse", withLocks(() => Promise.reject(new DOMException("no", "SecurityError")))],
  ])("is taken under a lease where %s", async (_, page) => {
    const done: boolean[] = [];
    await takeTurn(page, "n", createStage().environment.clockwork, async (leased) => void done.push(leased));
    expect(done).toEqual([true]);
  });

  it("is taken under a lease after a minute where a frozen tab holds on to its lock, and not once more when that wakes", async () => {
    const stage = createStage();
    const done: boolean[] = [];
    let wake: Work = () => Promise.resolve();
    const held = withLocks((_, work) => new Promise((resolve) => (wake = () => work().then(resolve))));
    const turn = takeTurn(held, "n", stage.environment.clockwork, async (leased) => void done.push(leased));
    await stage.pass(LEASE_MS - 1);
    expect(done).toEqual([]);
    await stage.pass(1);
    await turn;
    await wake();
    expect(done).toEqual([true]);
  });
});

describe("the lease", () => {
  it("of another tab is not taken away by one that goes online or makes its last send", async () => {
    const factory = new IDBFactory();
    const tab = (random: number) => {
      const stage = createStage();
      Object.assign(stage.page, { indexedDB: factory });
      stage.environment.clockwork.random = () => random;
      return stage;
    };
    const [one, two, third] = [tab(0.1), tab(0.2), tab(0.3)] as const;
    const turns = async (): Promise<void> => {
      for (let n = 0; n < 20; n++) await rest();
    };
    const open = async (stage: typeof one): Promise<void> => {
      const analytics = stage.open({ batchSize: 1 });
      await stage.pass(1);
      await turns();
      analytics.trackEvent({ name: "a" });
      await stage.pass(30);
      await turns();
    };
    one.respond(() => new Promise(() => undefined));
    await open(one);
    expect(one.sent).toHaveLength(1);
    two.respond(() => refuse(503));
    await open(two);
    two.hide();
    await turns();
    two.fire("online");
    await turns();
    await open(third);
    // It found the lease of the first in its place.
    expect(third.sent.map(({ keepalive }) => keepalive)).toEqual([]);
  }, 20_000);
});
