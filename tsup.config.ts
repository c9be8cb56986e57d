import { defineConfig } from "tsup"

export default defineConfig({
  entry: {
    index: "src/index.ts",
    core: "src/core.ts",
    effect: "src/effect.ts",
    engine: "src/engine.ts",
    worker: "src/worker.ts"
  },
  format: ["esm"],
  target: "node22",
  platform: "node",
  splitting: true,
  sourcemap: true,
  clean: true,
  // `node:sqlite` exists only under its full name.
  removeNodeProtocol: false,
  dts: false
})
