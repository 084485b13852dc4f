// The byte budget: gzip -9 of each built entry against its limit. Exits non-zero where one is over.
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const budgets = { "index.js": 8950, "react.js": 1000, "statsig.js": 600, "gtm.js": 600 };
let over = false;
for (const [file, most] of Object.entries(budgets)) {
  const size = gzipSync(readFileSync(new URL(`../dist/${file}`, import.meta.url)), { level: 9 }).length;
  console.log(`${file}: ${size} of ${most} bytes gzip`);
  over ||= size > most;
}
process.exit(over ? 1 : 0);
