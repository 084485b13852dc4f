// @vitest-environment happy-dom
// The code of the pages: it runs as written, in a page of its own, against a service that listens on a real socket.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import vm from "node:vm";
import { gunzipSync } from "node:zlib";
import { StatsigClient } from "@statsig/js-client";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import * as main from "../dist/index.js";
import * as debug from "../dist/debug.js";
import * as gtm from "../dist/gtm.js";
import * as mask from "../dist/mask.js";
import * as statsig from "../dist/statsig.js";
import * as taps from "../dist/taps.js";

const entries = { "@twintrack/browser": main, "@twintrack/browser/debug": debug, "@twintrack/browser/gtm": gtm, "@twintrack/browser/mask": mask, "@twintrack/browser/statsig": statsig, "@twintrack/browser/taps": taps };
const everything = Object.assign({}, ...Object.values(entries));

const blocks = ["moving", "browser"].flatMap((name) =>
  // process.cwd() is the package's folder; the document's own URL is that of the page.
  [...readFileSync(`${process.cwd()}/../../docs/${name}.md`, "utf8").matchAll(/```js (\w+)\n(.*?)```/gs)].map(([, kind, code], at) => ({ title: `${name}.md, block ${at + 1} (${kind})`, kind, code })),
);
const runs = blocks.filter(({ kind }) => kind !== "before");

let server, received;
beforeAll(async () => {
  server = createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", () => {
      const body = Buffer.concat(parts);
      const { events = [] } = body.length > 0 ? JSON.parse(request.headers["content-encoding"] === "gzip" ? gunzipSync(body) : body) : {};
      received.push(...events);
      response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify({ accepted: events.length, duplicate: 0, rejected: 0, dropped: 0, retry: 0, results: [] }));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  window.happyDOM.setURL(`http://127.0.0.1:${server.address().port}/`);
});
afterAll(() => server.close());
afterEach(() => {
  delete globalThis.dataLayer;
  localStorage.clear();
});

const AsyncFunction = (async () => undefined).constructor;
const imports = (code) => [...code.matchAll(/^import \{ (.+) \} from "(.+)";$/gm)].map(([, names, from]) => [names.split(", "), from]);

describe("the code of the pages", () => {
  it("is there", () => {
    expect(runs.length).toBeGreaterThan(8);
  });

  it.each(blocks)("$title imports what exists", ({ code }) => {
    for (const [names, from] of imports(code)) for (const name of names) expect(typeof entries[from]?.[name], `${from}: ${name}`).toBe("function");
  });

  it.each(blocks.filter(({ kind }) => kind === "before"))("$title can be read", ({ code }) => {
    expect(() => new vm.Script(code)).not.toThrow();
  });

  it.each(runs)("$title sends what it says", async ({ code }) => {
    received = [];
    const client = new StatsigClient(`client-${Math.random()}`, {}, { networkConfig: { networkOverrideFunc: async () => new Response("{}", { status: 202 }) }, disableStorage: true, logLevel: 0 });
    client.initializeSync({ disableBackgroundCacheRefresh: true });
    const made = [];
    const scope = { ...everything, client, createAnalytics: (configuration) => made[made.push(main.createAnalytics({ ...configuration, flushInterval: 10 })) - 1] };
    const own = /const analytics = /.test(code);
    if (!own) scope.analytics = scope.createAnalytics({ endpoint: "/api/analytics/events", writeKey: "wk", destinations: [statsig.statsig(client), gtm.gtm()] });
    // A block's own names stand before those of the page.
    const names = Object.keys(scope).filter((name) => !(own && name === "analytics"));
    await new AsyncFunction(...names, code.replaceAll(/^import .*$/gm, ""))(...names.map((name) => scope[name]));
    const wanted = [...code.matchAll(/\/\/ sends (\w+)/g)].map(([, name]) => name);
    // What taps have seen is theirs in a later task.
    await new Promise((resolve) => setTimeout(resolve, 5));
    for (const analytics of made) await analytics.shutdown();
    await client.shutdown();
    expect(received.map(({ event_name }) => event_name).sort()).toEqual(wanted.sort());
  });
});
