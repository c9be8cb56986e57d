/**
 * The programs that tests start as processes and kill, each bundled with the package and its dependencies. They are bundled once
 * for each state of the sources. A process with a bundle starts in half of the time that it takes with the built package,
 * which loads two hundred files of Effect.
 */
import fs from "node:fs"
import path from "node:path"
import { buildSync } from "esbuild"
import { buildInputs, fromSources, keptFolder, nodeArguments } from "./Built.ts"

const programs = [
  "durability/app.ts",
  "durability/engine.ts",
  "durability/kvApp.ts",
  "durability/matrix/engine.ts",
  "durability/matrix/worker.ts",
  "durability/nodes/node.ts",
  "durability/poison/app.ts",
  "durability/projections/engine.ts",
  "durability/projections/worker.ts",
  "durability/push/app.ts",
  "durability/streams/app.ts",
  "durability/subscriptions/client.ts",
  "durability/subscriptions/member.ts",
  "Engine/Store/files/Engine.ts"
] as const

/** A program, as its path below `test/`. */
export type Program = (typeof programs)[number]

const bundle = (folder: string): void => {
  // it says that these files are ECMAScript modules
  fs.copyFileSync(path.join(import.meta.dirname, "../package.json"), path.join(folder, "package.json"))
  buildSync({
    entryPoints: programs.map((program) => path.join(import.meta.dirname, program)),
    outbase: import.meta.dirname,
    outdir: folder,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node22",
    conditions: ["@ironflow/source"],
    external: ["pg"],
    // errors are known by the names of their classes
    keepNames: true,
    // a process starts with a sixth less of work: it reads all of its code
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: "none",
    logLevel: "error",
    // CommonJS packages in a bundle call `require`
    banner: {
      js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);'
    }
  })
}

let known: string | undefined

/** Arguments for Node.js that run a program. With `IRONFLOW_TEST_SOURCES=1` it is run from its sources. */
export const programArguments = (program: Program): ReadonlyArray<string> => {
  if (fromSources) return [...nodeArguments(), path.join(import.meta.dirname, program)]
  known ??= keptFolder("ironflow-programs", [...buildInputs, "test"], bundle)
  return ["--disable-warning=ExperimentalWarning", path.join(known, program.replace(/\.ts$/, ".js"))]
}
