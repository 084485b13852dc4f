// What is published, loaded as its users load it: by a plain Node of its own and by a script tag.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import vm from "node:vm";
import { describe, expect, it } from "vitest";

const folder = fileURLToPath(new URL("..", import.meta.url));
const entries = { "": "createAnalytics,BackendAnalyticsClient", "/react": "AnalyticsProvider,useAnalytics", "/statsig": "statsig", "/gtm": "gtm", "/taps": "tapDataLayer,tapStatsig", "/mask": "mask", "/debug": "explain" };

const node = (kind, code) => execFileSync(process.execPath, [`--input-type=${kind}`, "-e", code], { cwd: folder, encoding: "utf8" });

describe("the script for a tag", () => {
  it("asks the browser to compile it whole as it comes in, so that the first call need not", () => {
    // The browser reads this in the first line alone.
    expect(readFileSync(new URL("../dist/twintrack.global.js", import.meta.url), "utf8").split("\n")[0]).toBe("//# allFunctionsCalledOnLoad");
  });
});

describe("the package", () => {
  for (const [entry, names] of Object.entries(entries)) {
    it(`@twintrack/browser${entry} loads in plain Node as ESM and as CommonJS`, () => {
      const check = `console.log("${names}".split(",").map((name) => typeof found[name]).join())`;
      const wanted = `${names.split(",").map(() => "function").join()}\n`;
      expect(node("module", `const found = await import("@twintrack/browser${entry}"); ${check}`)).toBe(wanted);
      expect(node("commonjs", `const found = require("@twintrack/browser${entry}"); ${check}`)).toBe(wanted);
    });
  }

  it("does nothing on a server and lets the process end", () => {
    const code = `import { createAnalytics } from "@twintrack/browser";
      globalThis.fetch = () => { throw new Error("sent"); };
      const analytics = createAnalytics({ endpoint: "/e", writeKey: "k" });
      const id = analytics.trackMessage(undefined).id + analytics.trackEvent({ name: "a" }).id;
      await analytics.flush(); await analytics.shutdown();
      console.log(JSON.stringify([id, analytics.stats().tracked]));`;
    expect(node("module", code)).toBe('["",0]\n');
  });

  it("taps nothing on a server, and leaves nothing there", () => {
    const code = `import { tapDataLayer } from "@twintrack/browser/taps";
      const before = Object.keys(globalThis).length;
      tapDataLayer({ observe() {} })();
      console.log(Object.keys(globalThis).length - before, typeof globalThis.dataLayer);`;
    expect(node("module", code)).toBe("0 undefined\n");
  });

  it("works by a script tag as the global twintrack", async () => {
    const sent = [];
    const target = { addEventListener() {}, removeEventListener() {} };
    const page = {
      ...target, setTimeout, clearTimeout, performance, TextEncoder, AbortController, crypto,
      document: { ...target, title: "", referrer: "" }, location: { href: "https://x.example/", pathname: "/" }, navigator: { language: "en" },
      fetch: (_, init) => {
        sent.push(JSON.parse(init.body));
        return Promise.resolve(Response.json({ accepted: 1, duplicate: 0, rejected: 0, dropped: 0, retry: 0, results: [] }));
      },
    };
    page.window = page;
    vm.createContext(page);
    vm.runInContext(readFileSync(new URL("../dist/twintrack.global.js", import.meta.url), "utf8"), page);
    const analytics = vm.runInContext('twintrack.createAnalytics({ endpoint: "/e", writeKey: "k", destinations: [twintrack.gtm()] })', page);
    const id = analytics.trackEvent({ name: "a" }).id;
    await analytics.flush();
    expect(sent.map((envelope) => envelope.events.map((event) => event.event_id))).toEqual([[id]]);
    expect(page.dataLayer).toHaveLength(1);
    expect(analytics.stats()).toMatchObject({ sent: 1, queued: 0 });
  });
});
