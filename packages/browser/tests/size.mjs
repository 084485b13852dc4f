// The byte budget: gzip -9 of each built entry against its limit. Exits non-zero where one is over.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const budgets = { "index.js": 8460, "react.js": 1000, "statsig.js": 700, "gtm.js": 750 };
let over = false;
for (const [file, most] of Object.entries(budgets)) {
  const size = gzipSync(readFileSync(new URL(`../dist/${file}`, import.meta.url)), { level: 9 }).length;
  console.log(`${file}: ${size} of ${most} bytes gzip`);
  over ||= size > most;
}

const entries = { "taps.js": 1600, "mask.js": 1600, "debug.js": 1400, "stub.global.js": 1023, "twintrack.global.js": 9760 };
for (const [file, most] of Object.entries(entries)) {
  const size = gzipSync(readFileSync(new URL(`../dist/${file}`, import.meta.url)), { level: 9 }).length;
  console.log(`${file}: ${size} of ${most} bytes gzip`);
  over ||= size > most;
}

// A page with both vendors and React, as its bundler makes one file of it; React itself and Statsig's client not counted.
const MOST_TOGETHER = 9_990;
const contents = ["index", "react", "statsig", "gtm"].map((name) => `export * from "../dist/${name}.js";`).join("\n");
const { outputFiles } = await build({
  stdin: { contents, resolveDir: new URL(".", import.meta.url).pathname },
  bundle: true, minify: true, format: "esm", target: "es2020", write: false, external: ["react", "react/jsx-runtime"],
});
const together = gzipSync(outputFiles[0].contents, { level: 9 }).length;
console.log(`with Statsig, GTM and React: ${together} of ${MOST_TOGETHER} bytes gzip`);
over ||= together > MOST_TOGETHER;
process.exit(over ? 1 : 0);
