import { defineConfig } from "tsup";

const entry = {
  index: "src/index.ts",
  react: "src/react/index.ts",
  statsig: "src/destinations/statsig.ts",
  gtm: "src/destinations/gtm.ts",
  taps: "src/taps.ts",
  mask: "src/mask.ts",
  debug: "src/debug.ts",
};

export const configurations = defineConfig([
  { entry, format: ["esm", "cjs"], dts: true, clean: true, minify: true, target: "es2020", splitting: false, external: ["react"] },
  { entry: { twintrack: "src/iife.ts" }, format: ["iife"], globalName: "twintrack", minify: true, target: "es2020" },
  { entry: { stub: "src/stub.ts" }, format: ["iife"], minify: true, target: "es2020" },
]);

export { configurations as default };
