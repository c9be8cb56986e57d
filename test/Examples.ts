/**
 * Code examples from documents, written to files where they can be type-checked and run as a user would.
 *
 * The files are in a folder in the repository while the scope that made it is open, because `@ironflow/node` resolves to
 * itself only there.
 */
import { execFile } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import process from "node:process"
import { build, type Plugin } from "esbuild"
import { builtPackage, fromSources, nodeArguments } from "./Built.ts"
import { entryPoints, makeDeclarations } from "./types/Declarations.ts"

export interface Examples extends Disposable {
  /** The full path of an example. */
  readonly pathOf: (file: string) => string
  /** What the compiler says about all of them together. The empty string when they are correct. */
  readonly typeCheck: () => Promise<string>
  /** Runs an example, one of `runnable`, in a process of its own. */
  readonly run: (file: string) => Promise<Ending>
}

interface Ending {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const repository = path.join(import.meta.dirname, "..")

const execute = (program: string, args: ReadonlyArray<string>): Promise<Ending> =>
  new Promise((resolve) =>
    execFile(program, args, { timeout: 60_000 }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : typeof error.code === "number" ? error.code : 1, stdout, stderr })
    )
  )

/** The compiler settings for files. */
const settingsFor = (files: ReadonlyArray<string>) => ({
  extends: path.join(repository, "tsconfig.json"),
  compilerOptions: {
    // examples introduce some names only to show where they come from
    noUnusedLocals: false,
    noUnusedParameters: false,
    // users may have projects that are strict, and no stricter
    noUncheckedIndexedAccess: false,
    // examples use the declarations, as users do: the sources would be checked again for each example
    customConditions: [],
    paths: entryPoints(makeDeclarations())
  },
  include: [],
  files
})

/** Makes every import of `@ironflow/node` find the built package: to the resolver, the import comes from that package. */
const findsBuilt: Plugin = {
  name: "finds-built",
  setup: ({ onResolve, resolve }) =>
    onResolve({ filter: /^@ironflow\/node(\/|$)/ }, ({ kind, path: asked, pluginData }) =>
      pluginData === "asked again"
        ? undefined
        : resolve(asked, { kind, resolveDir: builtPackage(), pluginData: "asked again" })
    )
}

/**
 * Bundles examples with the built package and all other packages, which they share. Each process would load two hundred files
 * otherwise.
 */
const bundle = (files: ReadonlyArray<string>, outdir: string): Promise<unknown> =>
  build({
    entryPoints: [...files],
    outdir,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node22",
    // those who use Postgres have installed it
    external: ["pg"],
    plugins: [findsBuilt],
    // errors are known by the names of their classes
    keepNames: true,
    logLevel: "error",
    // CommonJS packages in a bundle call `require`
    banner: {
      js: 'import { createRequire as makeRequire } from "node:module"; const require = makeRequire(import.meta.url);'
    }
  })

/** Writes files, given by name and content, to a new folder. */
export const makeExamples = (
  files: Readonly<Record<string, string>>,
  runnable: ReadonlyArray<string> = []
): Examples => {
  const folder = fs.mkdtempSync(path.join(import.meta.dirname, ".examples-"))
  const pathOf = (file: string): string => path.join(folder, file)

  let bundled: Promise<unknown> | undefined

  for (const [file, content] of Object.entries(files)) fs.writeFileSync(pathOf(file), content)

  return {
    pathOf,
    typeCheck: async () => {
      fs.writeFileSync(pathOf("tsconfig.json"), JSON.stringify(settingsFor(Object.keys(files))))
      const tsc = path.join(repository, "node_modules/.bin/tsc")
      const { code, stdout, stderr } = await execute(tsc, ["--pretty", "false", "-p", folder])
      const said = (stdout + stderr)
        .replaceAll(`${path.relative(process.cwd(), folder)}${path.sep}`, "")
        .trim()
      return code === 0 || said !== "" ? said : `tsc ended with ${code} and said nothing`
    },
    run: async (file) => {
      if (fromSources) return execute(process.execPath, [...nodeArguments(), pathOf(file)])
      await (bundled ??= bundle(runnable.map(pathOf), pathOf("bundled")))
      const program = path.join(pathOf("bundled"), file.replace(/\.ts$/, ".js"))
      return execute(process.execPath, ["--disable-warning=ExperimentalWarning", program])
    },
    [Symbol.dispose]: () => fs.rmSync(folder, { recursive: true, force: true })
  }
}
