/**
 * Looks at the packed package as its users get it: `node .ci/package.ts <tarball>`.
 *
 * Installs it into an empty project, type-checks and runs a program against it, imports every entry point, and prints
 * what each costs to import and how large it is when bundled. Fails when the main entry loads the engine or SQLite, or
 * costs far more than its budget.
 */
import assert from "node:assert/strict"
import { execFileSync, spawnSync } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { gzipSync } from "node:zlib"
import { build } from "esbuild"

/** What importing the main entry may add to the start of Node, in milliseconds. */
const importBudgetMs = 120
/** Shared machines are noisy: only past this multiple of the budget it is certainly us. */
const tolerance = 3

const tarball = process.argv[2]
if (tarball === undefined) throw new Error("usage: node .ci/package.ts <tarball>")

const repository = path.join(import.meta.dirname, "..")
const { name, exports, peerDependencies } = JSON.parse(
  fs.readFileSync(path.join(repository, "package.json"), "utf8")
)
const entries = Object.keys(exports)
  .filter((entry) => entry !== "./package.json")
  .map((entry) => path.posix.join(name, entry))

const project = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-package-"))
process.on("exit", () => fs.rmSync(project, { recursive: true, force: true }))

const write = (file: string, content: string): void => fs.writeFileSync(path.join(project, file), content)

const run = (program: string, args: ReadonlyArray<string>): string =>
  execFileSync(program, args, { cwd: project, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })

/** Milliseconds that Node takes to run a module, the middle one of several. */
const startMs = (source: string): number => {
  const times = Array.from({ length: 7 }, () => {
    const begun = performance.now()
    const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", source], {
      cwd: project
    })
    assert.equal(status, 0, `${source}\n${stderr}`)
    return performance.now() - begun
  })
  return times.toSorted((a, b) => a - b)[3] ?? Number.NaN
}

const bundledBytes = async (
  entry: string
): Promise<{ readonly minified: number; readonly gzipped: number }> => {
  const bundle = await build({
    stdin: { contents: `export * from "${entry}"`, resolveDir: project },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    platform: "node",
    target: "node22",
    external: Object.keys(peerDependencies ?? {}),
    logLevel: "error"
  })
  const contents = bundle.outputFiles[0]?.contents ?? new Uint8Array()
  return { minified: contents.length, gzipped: gzipSync(contents).length }
}

write("package.json", JSON.stringify({ name: "consumer", private: true, type: "module" }))
run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", "--silent", tarball])

write(
  "consumer.ts",
  `import { createFunction } from "${name}"
import { startEngine } from "${name}/engine"

const greet = createFunction({ id: "greet", triggers: [{ event: "guest.arrived" }] }, async ({ event, step }) =>
  step.run("greet", async (): Promise<string> => "hello " + event.data.name)
)
await using engine = await startEngine({ filename: ":memory:", functions: [greet], logger: false })
const { runIds } = await engine.client.emit("guest.arrived", { name: "packed package" })
for (const runId of runIds) console.log((await engine.client.waitForRun(runId)).output)
`
)
run(path.join(repository, "node_modules/.bin/tsc"), [
  ...["--noEmit", "--strict", "--skipLibCheck", "--target", "es2023", "--module", "nodenext"],
  ...["--lib", "es2023,esnext.disposable", "--types", "node"],
  ...["--typeRoots", path.join(repository, "node_modules/@types"), "consumer.ts"]
])
assert.equal(run(process.execPath, ["consumer.ts"]), "hello packed package\n")

const bareMs = startMs("")
for (const entry of entries) {
  const addedMs = startMs(`await import("${entry}")`) - bareMs
  const { minified, gzipped } = await bundledBytes(entry)
  const kilobytes = (bytes: number) => `${(bytes / 1024).toFixed(0)} kB`
  console.log(
    `${entry.padEnd(24)} import +${addedMs.toFixed(0)} ms, bundled ${kilobytes(minified)}, gzip ${kilobytes(gzipped)}`
  )
  if (entry === name) {
    assert(
      addedMs < tolerance * importBudgetMs,
      `importing ${name} takes ${addedMs.toFixed(0)} ms; its budget is ${importBudgetMs} ms`
    )
  }
}

// What the main entry really loads, by the source maps of the files that Node asked for.
const loaded: Array<string> = JSON.parse(
  run(process.execPath, [
    "--input-type=module",
    "-e",
    `import { registerHooks } from "node:module"
     const urls = []
     registerHooks({ load(url, context, next) { urls.push(url); return next(url, context) } })
     await import("${name}")
     console.log(JSON.stringify(urls))`
  ])
)
const ownFiles = loaded.filter((url) => url.includes(`/node_modules/${name}/`))
const sources = ownFiles.flatMap((url): Array<string> => {
  const map = new URL(`${url}.map`)
  return fs.existsSync(map) ? JSON.parse(fs.readFileSync(map, "utf8")).sources : []
})
assert(
  sources.some((source) => source.endsWith("src/index.ts")),
  "no source map tells what the main entry loads"
)
assert(!loaded.includes("node:sqlite"), `${name} loads node:sqlite`)
assert.deepEqual(
  sources.filter((source) => source.includes("src/Engine/")),
  [],
  `${name} loads the engine`
)
console.log(`${name} loads ${loaded.length} modules, neither the engine nor node:sqlite among them`)
