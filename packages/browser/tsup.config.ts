import { defineConfig, type Options } from "tsup";

/** Properties that no page, service, vendor, browser or disk ever sees: they need no names. */
const inner = [
  ..."after cancel ticks pack clockwork spend envelope refreshToken health".split(" "),
  ..."rows place leaving fate told since make merge settle onDisk sliced unsafe say".split(" "),
  ..."statuses retryAfter kept standing heard forget learn renew persist stamp hand".split(" "),
  ..."resets whole resized ready counts".split(" "),
];

const small: Options = {
  minify: "terser",
  target: "es2021",
  terserOptions: { compress: { passes: 3, unsafe_arrows: true, unsafe_methods: true, pure_getters: true, keep_fargs: false } },
};

const core: Options = {
  ...small,
  esbuildOptions(options) {
    options.minify = true;
    options.mangleProps = new RegExp(`^(${inner.join("|")})$`);
  },
};

export const configurations = defineConfig([
  { ...core, entry: { index: "src/index.ts" }, format: ["esm", "cjs"], dts: true, splitting: false },
  { ...core, entry: { twintrack: "src/iife.ts" }, format: ["iife"], globalName: "twintrack" },
  {
    ...small,
    entry: { react: "src/react/index.ts", statsig: "src/destinations/statsig.ts", gtm: "src/destinations/gtm.ts" },
    format: ["esm", "cjs"],
    dts: true,
    splitting: false,
    external: ["react"],
  },
]);

export { configurations as default };
