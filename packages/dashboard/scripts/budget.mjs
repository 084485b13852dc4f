// Fails the build when the first page outgrows its budget (kB = 1000 bytes, gzip -9).
import { readdirSync, readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const budgets = [
  { ending: ".js", kilobytes: 200 },
  { ending: ".css", kilobytes: 25 },
];
const assets = new URL("../dist/assets/", import.meta.url);

for (const { ending, kilobytes } of budgets) {
  const files = readdirSync(assets).filter((name) => name.endsWith(ending));
  if (files.length === 0) throw new Error(`no ${ending} file in dist/assets: the budget measured nothing`);
  const bytes = files.reduce((sum, name) => sum + gzipSync(readFileSync(new URL(name, assets)), { level: 9 }).length, 0);
  console.log(`${ending.padEnd(5)} ${(bytes / 1000).toFixed(1)} kB gzip of ${kilobytes} kB`);
  if (bytes > kilobytes * 1000) process.exitCode = 1;
}
