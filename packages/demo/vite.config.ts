import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export const configuration = defineConfig({ base: "/demo/", plugins: [react()], build: { target: "es2022", modulePreload: { polyfill: false } } });

export { configuration as default };
