// The inline stub and the loaded script together, as a page runs them: two classic scripts, one after the other.
import { readFileSync } from "node:fs";
import vm from "node:vm";
import { gzipSync } from "node:zlib";
import { beforeEach, describe, expect, it } from "vitest";

const built = (name) => readFileSync(new URL(`../dist/${name}.global.js`, import.meta.url), "utf8");
const [stub, script] = [built("stub"), built("twintrack")];

let page, sent, appended, now;

const run = (code) => vm.runInContext(code, page);
const track = "analytics = twintrack.createAnalytics({ endpoint: '/e', writeKey: 'k', flushInterval: 0, destinations: [twintrack.gtm({ dataLayerName: 'layer' })] });";

beforeEach(() => {
  sent = [];
  appended = [];
  now = 1_780_000_000_000;
  const target = { addEventListener() {}, removeEventListener() {} };
  page = {
    ...target, setTimeout, clearTimeout, performance, TextEncoder, AbortController, crypto,
    // Promises of the page must be those that the test awaits.
    Promise,
    document: {
      ...target, title: "", referrer: "",
      currentScript: { nonce: "n0nce", dataset: { twintrack: "/sdk.js" } },
      createElement: () => ({}),
      head: { append: (element) => appended.push(element) },
    },
    location: { href: "https://x.example/", pathname: "/" }, navigator: { language: "en" },
    fetch: (_, init) => {
      const { events } = JSON.parse(init.body);
      sent.push(...events);
      return Promise.resolve(Response.json({ accepted: events.length, duplicate: 0, rejected: 0, dropped: 0, retry: 0, results: [] }));
    },
    Date: class extends Date {
      constructor(...words) {
        super(...(words.length > 0 ? words : [now]));
      }
      static now() {
        return now;
      }
    },
  };
  page.window = page;
  vm.createContext(page);
});

describe("the stub", () => {
  it("is smaller than 1 KB", () => {
    expect(gzipSync(stub, { level: 9 }).length).toBeLessThan(1024);
  });

  it("can stand between script tags", () => {
    expect(stub).not.toMatch(/<\/script|<!--/i);
  });

  it("loads the script under its own nonce", () => {
    run(stub);
    expect(appended).toMatchObject([{ async: true, nonce: "n0nce", src: "/sdk.js" }]);
  });

  it("keeps calls in order with the ids and times of their moment, and the page's object goes on working", async () => {
    run(stub);
    run(track);
    const ids = [run("analytics.trackEvent({ name: 'One', metadata: { n: 1 } }).id")];
    now += 1_000;
    run("analytics.identify('ada')");
    ids.push(run("analytics.trackMessage({ content: 'hello' }).id"), run("analytics.trackEvent({ name: 'two' }).id"));
    now += 60_000;
    run(script);
    ids.push(run("analytics.trackEvent({ name: 'three' }).id"));
    await run("analytics.flush()");
    expect(sent.filter(({ event_name }) => event_name !== "identify").map(({ event_id }) => event_id)).toEqual(ids);
    expect(sent.map(({ event_name, user_id, client_timestamp }) => [event_name, user_id, Date.parse(client_timestamp) - 1_780_000_000_000])).toEqual([
      ["one", undefined, 0], ["identify", "ada", 1_000], ["message_sent", "ada", 1_000], ["two", "ada", 1_000], ["three", "ada", 61_000],
    ]);
    expect([...ids].sort()).toEqual(ids);
    for (const id of ids) expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(page.layer.map(({ event_id }) => event_id)).toEqual(expect.arrayContaining(ids));
  });

  it("lets calls be awaited, before and after", async () => {
    run(stub);
    run(track);
    const before = run("analytics.trackEvent({ name: 'a' })");
    const flushed = run("analytics.flush()");
    run(script);
    expect(await before).toBe("memory");
    await flushed;
    expect(await run("analytics.trackEvent({ name: 'b' })")).toBe("memory");
    expect(run("analytics.stats()").tracked).toBe(2);
  });

  it("serves several services and mixes none", async () => {
    run(stub);
    run(`${track} other = twintrack.createAnalytics({ endpoint: '/other', writeKey: 'k2' });`);
    run("analytics.trackEvent({ name: 'a' }); other.trackEvent({ name: 'b' }); analytics.consent('denied');");
    run(script);
    await run("other.flush()");
    expect(sent.map(({ event_name }) => event_name)).toEqual(["b"]);
    expect(run("[analytics.stats().discarded, other.stats().sent]")).toEqual([1, 1]);
  });

  it("breaks nothing where the script never comes, and stays bounded", () => {
    run(stub);
    run(track);
    run("for (let n = 0; n < 5000; n++) analytics.trackEvent({ name: 'a' }); analytics.stats(); analytics.reset(); analytics.trackError(undefined);");
    expect(page.twintrack.made[0].calls).toHaveLength(1_000);
  });

  it("settles what is beyond its bounds at once, and the rest when the script is there", async () => {
    run(stub);
    run(track);
    run("all = Array.from({ length: 1001 }, (_, n) => analytics.trackEvent({ name: 'a' }))");
    expect(await run("all[1000]")).toBe("off");
    run(script);
    expect(await run("all[999]")).toBe("memory");
  });

  it("lets no page wait for a script that was blocked", async () => {
    run(stub);
    run(track);
    const before = run("analytics.trackEvent({ name: 'a' })");
    appended[0].onerror();
    expect(await before).toBe("off");
    expect(await run("analytics.flush()")).toBe("off");
    expect(page.twintrack.made[0].calls).toEqual([]);
  });

  it("breaks nothing where nothing is as it should be", () => {
    page.document.currentScript = null;
    expect(() => run(stub)).not.toThrow();
    delete page.crypto;
    run(track);
    expect(run("analytics.trackEvent({ name: 'a' }).id")).toBe("");
    expect(() => run("analytics.trackEvent(null); analytics.consent('x'); twintrack.createAnalytics(undefined).page();")).not.toThrow();
    expect(() => run(script)).not.toThrow();
  });

  it("yields to a script that is there already", () => {
    run(script);
    const real = page.twintrack;
    run(stub);
    expect([page.twintrack === real, appended.length]).toEqual([true, 0]);
  });
});
