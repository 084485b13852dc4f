// A server that renders, as Next.js does it, from what is published: no DOM, both module systems, each set of conditions that
// its bundlers ask under. Next.js itself is not built here: 16.4 is 341 MB with its compiler, 45 s of `npm install` on 2 busy cores
// and 34 s of build. Built by hand once (docs/decisions/0007) it does what is tested here.
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const folder = fileURLToPath(new URL("..", import.meta.url));
const node = (kind, conditions, code) => execFileSync(process.execPath, [...conditions.map((one) => `--conditions=${one}`), `--input-type=${kind}`, "-e", code], { cwd: folder, encoding: "utf8" });

/** A page's tree: tracks while it renders, which nobody should, and in effects, which a server does not run. */
const render = `
  const analytics = core.createAnalytics({ endpoint: "/e", writeKey: "k", destinations: [gtm()] });
  const Page = () => {
    const { trackEvent } = useAnalytics();
    useTrackOnce((service) => service.page("home"));
    return createElement("b", null, String(trackEvent({ name: "rendered" }).id === ""));
  };
  const html = renderToString(createElement(StrictMode, null, createElement(AnalyticsProvider, { analytics }, createElement(Page))));
  analytics.flush().then(() => console.log(html, typeof window, Object.keys(globalThis).length - before, analytics.stats().tracked));
`;
const started = `const before = Object.keys(globalThis).length; globalThis.fetch = () => { throw new Error("sent"); };`;
const ways = {
  module: `${started}
    import { createElement, StrictMode } from "react"; import { renderToString } from "react-dom/server";
    import * as core from "@twintrack/browser"; import { AnalyticsProvider, useAnalytics, useTrackOnce } from "@twintrack/browser/react"; import { gtm } from "@twintrack/browser/gtm";
    ${render}`,
  commonjs: `${started}
    const { createElement, StrictMode } = require("react"); const { renderToString } = require("react-dom/server");
    const core = require("@twintrack/browser"); const { AnalyticsProvider, useAnalytics, useTrackOnce } = require("@twintrack/browser/react"); const { gtm } = require("@twintrack/browser/gtm");
    ${render}`,
};

describe("a server that renders", () => {
  for (const [kind, code] of Object.entries(ways)) {
    for (const conditions of [[], ["development"], ["production"], ["browser"]]) {
      it(`from ${kind} with the conditions [${conditions}] gives the page, sends nothing, leaves nothing and ends`, () => {
        expect(node(kind, conditions, code)).toBe("<b>true</b> undefined 0 0\n");
      });
    }
  }

  it("has no use of our own service's client alone either: nothing is sent, and the process ends", () => {
    const code = `${started}
      const { BackendAnalyticsClient } = await import("@twintrack/browser");
      const client = BackendAnalyticsClient({ endpoint: "http://127.0.0.1:9/api/analytics/events", writeKey: "k" });
      const tracked = client.trackEvent({ event_id: "a", event_name: "a", client_timestamp: "", consent: "granted", source: "sdk" });
      await client.flush();
      console.log(await tracked, client.stats().queued);`;
    expect(node("module", [], code)).toBe("off 0\n");
  });

  it("finds the parts without React also in a server component", () => {
    const code = `const found = await Promise.all(["", "/statsig", "/gtm", "/taps", "/mask", "/debug"].map((entry) => import("@twintrack/browser" + entry)));
      console.log(found.map((names) => Object.keys(names).length > 0).join());`;
    expect(node("module", ["react-server"], code)).toBe("true,true,true,true,true,true\n");
  });
});
