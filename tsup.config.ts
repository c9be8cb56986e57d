import { rmSync } from "node:fs"
import { defineConfig, type Options } from "tsup"

// both builds write to it, so neither may empty it
rmSync("dist", { recursive: true, force: true })

const shared: Options = {
  format: ["esm"],
  target: "node22",
  platform: "node",
  splitting: true,
  sourcemap: true,
  clean: false,
  // `node:sqlite` exists only under its full name.
  removeNodeProtocol: false,
  dts: false
}

export default defineConfig([
  {
    ...shared,
    entry: {
      index: "src/index.ts",
      core: "src/core.ts",
      effect: "src/effect.ts",
      engine: "src/engine.ts",
      test: "src/test.ts",
      worker: "src/worker.ts",
      serve: "src/serve.ts",
      "worker-streaming": "src/worker-streaming.ts",
      "cli-worker": "src/Cli/WorkerProcess.ts"
    }
  },
  {
    ...shared,
    // The command starts on its own: it has all that it needs inside, and only `serve` and `dev` load the engine.
    entry: { bin: "src/bin.ts" },
    noExternal: [/.*/],
    // errors are known by the names of their classes
    keepNames: true,
    minifySyntax: true,
    minifyWhitespace: true,
    sourcemap: false,
    // what is CommonJS among the dependencies asks for Node's own modules in its own way
    banner: {
      js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);'
    },
    esbuildOptions: (options) => {
      options.chunkNames = "cli/[name]-[hash]"
    },
    esbuildPlugins: [
      {
        name: "worker-process",
        // A worker shares this package and Effect with the user's code, so it comes from the build above.
        setup: (build) =>
          build.onResolve({ filter: /\/WorkerProcess\.ts$/ }, () => ({
            path: "./cli-worker.js",
            external: true
          }))
      }
    ]
  }
])
