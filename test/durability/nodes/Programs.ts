/** Bundles the programs of a storm: nine processes would spend most of it on loading the sources. */
import fs from "node:fs"
import path from "node:path"
import { pathToFileURL } from "node:url"
import { build } from "esbuild"

export interface Programs {
  /** The command `ironflow`. */
  readonly ironflow: string
  readonly worker: string
  readonly node: string
}

/** Builds them in a folder, which has to exist as long as they run. */
export const makePrograms = async (folder: string): Promise<Programs> => {
  const root = path.join(import.meta.dirname, "../../..")
  const outdir = path.join(folder, "programs")
  fs.mkdirSync(outdir, { recursive: true })
  // for packages that are not in a bundle
  fs.symlinkSync(path.join(root, "node_modules"), path.join(outdir, "node_modules"))
  fs.copyFileSync(path.join(root, "package.json"), path.join(outdir, "package.json"))
  const entries = {
    ironflow: path.join(root, "src/bin.ts"),
    worker: path.join(root, "test/durability/matrix/worker.ts"),
    node: path.join(root, "test/durability/nodes/node.ts")
  }
  await build({
    entryPoints: entries,
    outdir,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node22",
    conditions: ["@ironflow/source"],
    external: ["pg"],
    logLevel: "error",
    // CommonJS packages in the bundle call `require`
    banner: {
      js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);'
    }
  })
  const urlOf = (name: string): string => pathToFileURL(path.join(outdir, `${name}.js`)).href
  return { ironflow: urlOf("ironflow"), worker: urlOf("worker"), node: urlOf("node") }
}
