// The types as a stranger's project sees them: from the built files, under each way in which TypeScript finds a package.
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";

const run = promisify(execFile);
const source = fileURLToPath(new URL("consumer/app.ts", import.meta.url));
// Inside the package, so that its dependencies are found; the package itself is found by the workspace's link.
const projects = fileURLToPath(new URL("../.consumers", import.meta.url));
const tsc = fileURLToPath(new URL("../../../node_modules/typescript/bin/tsc", import.meta.url));

const ways = {
  "NodeNext as ESM": { type: "module", module: "NodeNext", moduleResolution: "NodeNext" },
  "NodeNext as CommonJS": { type: "commonjs", module: "NodeNext", moduleResolution: "NodeNext" },
  Bundler: { type: "module", module: "ESNext", moduleResolution: "Bundler" },
  "CommonJS of old": { type: "commonjs", module: "CommonJS", moduleResolution: "Node10" },
};

afterAll(() => rmSync(projects, { recursive: true, force: true }));

describe("the types", () => {
  for (const [way, { type, ...options }] of Object.entries(ways)) {
    it(`hold in a project with ${way}`, { timeout: 60_000 }, async () => {
      const folder = `${projects}/${way.replaceAll(" ", "-")}`;
      mkdirSync(folder, { recursive: true });
      copyFileSync(source, `${folder}/app.ts`);
      writeFileSync(`${folder}/package.json`, JSON.stringify({ name: "app", private: true, type }));
      const compilerOptions = { ...options, target: "ES2022", lib: ["ES2022", "DOM"], strict: true, noEmit: true, types: [] };
      writeFileSync(`${folder}/tsconfig.json`, JSON.stringify({ compilerOptions, files: ["app.ts"] }));
      const told = await run(process.execPath, [tsc, "-p", folder]).then(() => "", (error) => error.stdout);
      expect(told).toBe("");
    });
  }
});
