import { defineConfig, type Options } from "tsup";

/** Properties that no page, service, vendor, browser or disk ever sees: they need no names. */
const inner = [
  ..."after cancel ticks pack clockwork spend envelope tokens health resize leave".split(" "),
  ..."leaving fate told since part rows who weight merge settle end onDisk composed sliced unsafe say waiting".split(" "),
  ..."retryAfter kept slices lease heard recall ask answer forget stamp hand current of persist begin empty post".split(" "),
  ..."resets prepare whole counts found save place user track read anonymous session started seen count".split(" "),
];

/** Made anew for each build: terser writes into what it is given. */
const small = (more?: object): Options => ({
  minify: "terser",
  target: "es2021",
  terserOptions: { module: true, compress: { passes: 3, unsafe_arrows: true, pure_getters: true, keep_fargs: false, ...more } },
});

const core = (more?: object): Options => ({
  ...small(more),
  esbuildOptions: (options) => void Object.assign(options, { mangleProps: new RegExp(`^(${inner.join("|")})$`), minify: true }),
});

/** A bundler that names variables anew makes less of functions that lie in each other: 200 bytes with all entries together. */
const flat = { reduce_funcs: false, hoist_funs: true };

/** Has a browser compile the script beside the page's work, as it comes in, and not in the first calls. */
const eager = (options: Options): Options => ({ ...options, terserOptions: { ...options.terserOptions, module: false, format: { preamble: "//# allFunctionsCalledOnLoad" } } });

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
  { ...core(flat), entry: { index: "src/index.ts" }, format: ["esm", "cjs"], dts: true, splitting: false },
  { ...eager(core()), entry: { twintrack: "src/iife.ts" }, format: ["iife"], globalName: "twintrack" },
  { ...small(), ...beside, entry: { react: "src/react/index.ts" }, format: ["esm", "cjs"], dts: true, splitting: false },
  { ...small(), entry: { statsig: "src/destinations/statsig.ts", gtm: "src/destinations/gtm.ts" }, format: ["esm", "cjs"], dts: true, splitting: false },
  { ...small(), entry: { taps: "src/taps.ts", mask: "src/mask.ts", debug: "src/debug.ts" }, format: ["esm", "cjs"], dts: true, splitting: false },
  // Its names are those that the loaded script looks for: none of them is inner.
  { ...small(), entry: { stub: "src/stub.ts" }, format: ["iife"] },
]);

export { configurations as default };
