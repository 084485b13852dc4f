import { defineConfig, type Options } from "tsup";

/** Properties that no page, service, vendor, browser or disk ever sees: they need no names. */
const inner = [
  ..."after cancel ticks pack clockwork spend envelope refreshToken health".split(" "),
  ..."rows place leaving fate told since make merge settle onDisk sliced unsafe say".split(" "),
  ..."statuses retryAfter kept standing heard forget learn renew persist stamp hand".split(" "),
  ..."resets whole resized ready counts parts group act tag found entry save draw prepare".split(" "),
];

/** Made anew for each build: terser writes into what it is given. */
const small = (): Options => ({
  minify: "terser",
  target: "es2021",
  terserOptions: { compress: { passes: 3, unsafe_arrows: true, unsafe_methods: true, pure_getters: true, keep_fargs: false } },
});

const core = (): Options => ({
  ...small(),
  esbuildOptions: (options) => void Object.assign(options, { mangleProps: new RegExp(`^(${inner.join("|")})$`), minify: true }),
});

/** The entry for React uses the service beside it, and does not bring one of its own. */
const beside: Options = {
  external: ["react"],
  esbuildPlugins: [
    {
      name: "beside",
      setup: (build) => void build.onResolve({ filter: /^\.\.\/index$/ }, () => ({ path: `./index.${build.initialOptions.format === "esm" ? "js" : "cjs"}`, external: true })),
    },
  ],
};

export const configurations = defineConfig([
  { ...core(), entry: { index: "src/index.ts" }, format: ["esm", "cjs"], dts: true, splitting: false },
  { ...core(), entry: { twintrack: "src/iife.ts" }, format: ["iife"], globalName: "twintrack" },
  { ...small(), ...beside, entry: { react: "src/react/index.ts" }, format: ["esm", "cjs"], dts: true, splitting: false },
  { ...small(), entry: { statsig: "src/destinations/statsig.ts", gtm: "src/destinations/gtm.ts" }, format: ["esm", "cjs"], dts: true, splitting: false },
]);

export { configurations as default };
