/**
 * Checks the packed package as users get it: `node .ci/package.ts <tarball>`.
 *
 * Installs it and `@ironflow/core` into an empty project, type-checks and runs a program with it, starts a server and a worker
 * and emits with its command, bundles a client, and imports every entry point. Prints the import time and the bundled size of
 * each entry point. Fails if an entry point loads a module that it must not load, or exceeds its budget by far.
 */
import assert from "node:assert/strict"
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import { gzipSync } from "node:zlib"
import { build, type Plugin } from "esbuild"
import { packCore } from "./pack.ts"

/**
 * The budgets of entry points whose start time matters. `importMs` is the CPU time that the import may add to the start of
 * Node, in milliseconds. `bytes` is the size of our own code, minified and compressed, in a bundle that uses the export `one`.
 */
const budgets: Readonly<
  Record<string, { readonly importMs: number; readonly bytes: number; readonly one: string }>
> = {
  ".": { importMs: 120, bytes: 68 * 1024, one: "createClient" },
  "./serve": { importMs: 200, bytes: 120 * 1024, one: "serve" }
}
/** Shared cores are sometimes slow. Only more than this multiple of the budget is certainly caused by our code. */
const tolerance = 3
/** How many times each program is started. The median counts. */
const rounds = 9

const tarball = process.argv[2]
if (tarball === undefined) throw new Error("usage: node .ci/package.ts <tarball>")

const repository = path.join(import.meta.dirname, "..")
const { name, exports, dependencies, peerDependencies } = JSON.parse(
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

/**
 * Calls that bundlers would remove although they have an effect: statements with a mark that says they are pure. The build
 * sets these marks by the names of functions.
 */
const lostCalls = (): ReadonlyArray<string> => {
  const dist = path.join(installed, "dist")
  return fs
    .readdirSync(dist)
    .filter((file) => file.endsWith(".js"))
    .flatMap((file) =>
      [
        ...fs
          .readFileSync(path.join(dist, file), "utf8")
          .matchAll(/(?:[;{}]|=>)\s*\n\s*(\/\* @__PURE__ \*\/ [\w$]+\(.*)/g)
      ].map(([, call]) => `${file}: ${call}`)
    )
}

/** The CPU time of a process that runs `source`, in milliseconds. Clock time would depend on the other work of the machine. */
const startMs = (source: string): number => {
  const measuredSource = `${source}\nconst { user, system } = process.cpuUsage(); console.log((user + system) / 1000)`
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    ["--input-type=module", "-e", measuredSource],
    {
      cwd: project,
      encoding: "utf8"
    }
  )
  assert.equal(status, 0, `${source}\n${stderr}`)
  return Number(stdout.trim().split("\n").at(-1))
}

const median = (times: ReadonlyArray<number>): number =>
  times.toSorted((a, b) => a - b)[times.length >> 1] ?? Number.NaN

/** The CPU time that the import of each entry point adds to the start of Node, in milliseconds. */
const importMs = (): ReadonlyMap<string, number> => {
  const sources = ["", ...entries.map((entry) => `await import("${entry}")`)]
  const times = sources.map((): Array<number> => [])
  // every entry point starts once in each round, so that a busy minute of the machine affects all of them
  for (let round = 0; round < rounds; round++) {
    for (const [i, source] of sources.entries()) times[i]?.push(startMs(source))
  }
  const [bare = Number.NaN, ...medians] = times.map(median)
  return new Map(entries.map((entry, i) => [entry, (medians[i] ?? Number.NaN) - bare]))
}

/**
 * The minified size of exports in a bundle, without the packages in `external` and without files that the plugins leave out.
 */
const bundled = async (
  contents: string,
  external: ReadonlyArray<string>,
  plugins: Array<Plugin> = []
): Promise<{ readonly minified: number; readonly gzipped: number }> => {
  const bundle = await build({
    stdin: { contents, resolveDir: project },
    bundle: true,
    minify: true,
    write: false,
    format: "esm",
    platform: "node",
    target: "node22",
    external: [...external],
    plugins,
    logLevel: "error"
  })
  const output = bundle.outputFiles[0]?.contents ?? new Uint8Array()
  return { minified: output.length, gzipped: gzipSync(output).length }
}

/** Leaves out files that contain only the code of a bundled dependency: its size does not count as ours. */
const withoutInside: Plugin = {
  name: "without-inside",
  setup: (it) =>
    it.onResolve({ filter: /^\.\// }, ({ path: requestedPath, resolveDir }) => {
      const map = path.join(resolveDir, `${requestedPath}.map`)
      if (!fs.existsSync(map)) return undefined
      const { sources } = JSON.parse(fs.readFileSync(map, "utf8")) as {
        readonly sources: ReadonlyArray<string>
      }
      const isInside = sources.length > 0 && sources.every((source) => source.includes("node_modules/"))
      return isInside ? { path: requestedPath, external: true } : undefined
    })
}

/** The modules that Node loads when an entry point is imported. */
const loadedBy = (entry: string): ReadonlyArray<string> =>
  JSON.parse(
    run(process.execPath, [
      "--input-type=module",
      "-e",
      `import { registerHooks } from "node:module"
       const urls = []
       registerHooks({ load(url, context, next) { urls.push(url); return next(url, context) } })
       await import("${entry}")
       console.log(JSON.stringify(urls))`
    ])
  )

write("package.json", JSON.stringify({ name: "consumer", private: true, type: "module" }))
run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", "--silent", tarball, packCore(tarball)])

const installed = path.join(project, "node_modules", name)
assert.deepEqual(lostCalls(), [], "no bundler removes a call that has an effect")
for (const file of fs.readdirSync(installed, { recursive: true, encoding: "utf8" })) {
  const where = path.join(installed, file)
  if (fs.statSync(where).isFile() && fs.readFileSync(where).includes(repository)) {
    throw new Error(`${file} contains the path where it was built: ${repository}`)
  }
}

write(
  "consumer.ts",
  `import { createFunction } from "${name}"
import { startEngine } from "${name}/engine"

const greet = createFunction({ id: "greet", triggers: [{ event: "guest.arrived" }] }, async ({ event, step }) =>
  step.run("greet", async (): Promise<string> => "hello " + event.data.name)
)
const engine = await startEngine({ filename: ":memory:", functions: [greet], logger: false })
const { runIds } = await engine.client.emit("guest.arrived", { name: "packed package" })
for (const runId of runIds) console.log((await engine.client.waitForRun(runId)).output)
await engine.close()
`
)
write(
  "core.ts",
  `import * as core from "@ironflow/core"
import { defineEvent, NonRetryableError, parseDuration } from "@ironflow/core"
import { RUN_STATUS } from "@ironflow/core/protocol"
import * as node from "${name}"
import * as same from "${name}/core"

const error: Error = new NonRetryableError("no")
console.log(error instanceof node.NonRetryableError, new node.IronflowError("yes") instanceof core.IronflowError)
const names = Object.keys(same) as Array<keyof typeof same>
console.log(names.every((name) => core[name] === same[name]), names.length === Object.keys(core).length)
console.log(parseDuration("5m"), RUN_STATUS.COMPLETED, typeof defineEvent)
`
)
run(path.join(repository, "node_modules/.bin/tsc"), [
  "--noEmit",
  "--strict",
  "--skipLibCheck",
  "--target",
  "es2023",
  "--module",
  "nodenext",
  "--lib",
  "es2023,esnext.disposable",
  "--types",
  "node",
  "--typeRoots",
  path.join(repository, "node_modules/@types"),
  "consumer.ts",
  "core.ts"
])
assert.equal(run(process.execPath, ["consumer.ts"]), "hello packed package\n")
assert.equal(run(process.execPath, ["core.ts"]), "true true\ntrue true\n300000 completed function\n")

/** Starts a program of the package and waits until its output matches `ready`. */
const start = async (
  args: ReadonlyArray<string>,
  ready: RegExp
): Promise<[ChildProcess, RegExpExecArray]> => {
  const child = spawn(process.execPath, args, { cwd: project, stdio: ["ignore", "pipe", "pipe"] })
  process.on("exit", () => child.kill("SIGKILL"))
  let printed = ""
  const found = await new Promise<RegExpExecArray>((resolve, reject) => {
    const read = (text: string): void => {
      printed += text
      const match = ready.exec(printed)
      if (match !== null) resolve(match)
    }
    child.stdout.setEncoding("utf8").on("data", read)
    child.stderr.setEncoding("utf8").on("data", read)
    child.on("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}:\n${printed}`)))
  })
  return [child, found]
}

write(
  "functions.ts",
  `import { createFunction } from "${name}"

export const greet = createFunction({ id: "greet", triggers: [{ event: "guest.arrived" }] }, async ({ event, step }) =>
  step.run("greet", async (): Promise<string> => "hello " + event.data.name)
)
`
)
write(
  "client.mjs",
  `import { createClient } from "${name}"
const client = createClient({ serverUrl: process.argv[2] })
const { runIds } = await client.emit("guest.arrived", { name: "bundled client" })
console.log((await client.waitForRun(runIds[0])).output)
await client.close()
`
)
await build({
  absWorkingDir: project,
  entryPoints: ["client.mjs"],
  outfile: "bundled.mjs",
  bundle: true,
  platform: "node",
  format: "esm",
  logLevel: "error"
})
const command = path.join(project, "node_modules", name, "dist/bin.js")
const [server, [, url = ""]] = await start(
  [command, "serve", "--port", "0", "--data", "served.db"],
  /(http:\S+?),/
)
const page = await (await fetch(`${url}/console/runs`)).text()
const [, script = ""] = /src="(console-[^"]+\.js)"/.exec(page) ?? []
assert.equal((await fetch(`${url}/console/${script}`)).status, 200, "the packed command serves the console")
const [worker] = await start([command, "worker", "functions.ts", "--server-url", url], /greet/)
const emitted = run(process.execPath, [
  command,
  "emit",
  "guest.arrived",
  '{"name":"packed command"}',
  "--wait",
  "--json",
  "--server-url",
  url
])
assert.match(emitted, /hello packed command/)
const [compiled = ""] = fs.readdirSync(path.join(project, "node_modules/.cache/ironflow"))
assert.notEqual(
  fs.readdirSync(path.join(project, "node_modules/.cache/ironflow", compiled)).length,
  0,
  "a command keeps its compiled code for the next one"
)
assert.equal(run(process.execPath, ["bundled.mjs", url]), "hello bundled client\n")

write(
  "streaming.mjs",
  `import { createClient, createWorker } from "${name}"
import { createStreamingWorker } from "${name}/worker-streaming"
const serverUrl = process.argv[2]
const config = { serverUrl, functions: [], logger: false }
const worker = createWorker({ ...config, workerId: "streaming", transport: "streaming" })
const stopped = worker.start()
await worker.ready()
const client = createClient({ serverUrl })
console.log((await client.listWorkers()).find(({ id }) => id === "streaming").transport)
await client.close()
await worker.stop()
await stopped
await createStreamingWorker(config).start().catch(({ code }) => console.log(code))
`
)
// the packages of ConnectRPC are not installed
assert.equal(run(process.execPath, ["streaming.mjs", url]), "rpc\nPACKAGES_MISSING\n")
for (const child of [worker, server]) {
  child.removeAllListeners("exit")
  const ended = new Promise((resolve) => child.once("exit", resolve))
  child.kill("SIGTERM")
  assert.equal(await ended, 0)
}

const kilobytes = (bytes: number): string => `${(bytes / 1024).toFixed(0)} kB`

// the console: all files that a browser may load
const consoleFolder = path.join(installed, "dist/console")
const consoleFiles = fs.readdirSync(consoleFolder)
const consoleBytes = consoleFiles
  .map((file) => gzipSync(fs.readFileSync(path.join(consoleFolder, file))).length)
  .reduce((sum, bytes) => sum + bytes, 0)
console.log(`console: ${consoleFiles.length} files, gzip ${kilobytes(consoleBytes)}`)
assert(
  consoleBytes < 120 * 1024,
  `the console is ${kilobytes(consoleBytes)} compressed; its budget is 120 kB`
)

const peers = Object.keys(peerDependencies ?? {})
const packages = [...Object.keys(dependencies), ...peers]

for (const [entry, addedMs] of importMs()) {
  const ownCode = await bundled(`export * from "${entry}"`, packages)
  const all = await bundled(`export * from "${entry}"`, peers)
  console.log(
    `${entry.padEnd(24)} import +${addedMs.toFixed(0)} ms; ` +
      `bundled ${kilobytes(ownCode.minified)} of ours, gzip ${kilobytes(ownCode.gzipped)}; ` +
      `with dependencies ${kilobytes(all.minified)}, gzip ${kilobytes(all.gzipped)}`
  )
  const budget = budgets[entry.replace(name, ".")]
  if (budget === undefined) continue
  assert(
    addedMs < tolerance * budget.importMs,
    `importing ${entry} takes ${addedMs.toFixed(0)} ms; its budget is ${budget.importMs} ms`
  )
  const one = await bundled(`export { ${budget.one} } from "${entry}"`, packages, [withoutInside])
  console.log(`${"".padEnd(24)} ${budget.one} alone: gzip ${kilobytes(one.gzipped)} of ours`)
  assert(
    one.gzipped < budget.bytes,
    `${budget.one} is ${kilobytes(one.gzipped)} of our own code when bundled; its budget is ${kilobytes(budget.bytes)}`
  )
}

/** Our source files in the modules that Node loaded, according to their source maps. */
const sourcesOf = (loaded: ReadonlyArray<string>, one: string): ReadonlyArray<string> => {
  const ownFiles = loaded.filter((url) => url.includes(`/node_modules/${name}/`))
  const sources = ownFiles.flatMap((url): Array<string> => {
    const map = new URL(`${url}.map`)
    return fs.existsSync(map) ? JSON.parse(fs.readFileSync(map, "utf8")).sources : []
  })
  assert(
    sources.some((source) => source.endsWith(one)),
    `no source map contains ${one}`
  )
  return sources
}

// what the main entry point really loads
const loaded = loadedBy(name)
const sources = sourcesOf(loaded, "src/index.ts")
const heavy = /^node:(sqlite|crypto)$|\/effect\/dist\/Schema(AST|Parser)?\.js$/
assert.deepEqual(
  [...loaded.filter((url) => heavy.test(url)), ...sources.filter((source) => source.includes("src/Engine/"))],
  [],
  `${name} loads modules that only engines and workers need`
)
assert.deepEqual(
  loadedBy(`${name}/core`).filter((url) => url.endsWith("/effect/dist/Effect.js")),
  [],
  `${name}/core loads the runtime of Effect`
)
const loadedByTest = loadedBy(`${name}/test`)
assert.deepEqual(
  [
    ...loadedByTest.filter((url) => /\/node_modules\/(@effect\/platform-node|ws)\//.test(url)),
    ...sourcesOf(loadedByTest, "src/Testing/TestClient.ts").filter((source) =>
      source.endsWith("src/Server/Server.ts")
    )
  ],
  [],
  `${name}/test loads the HTTP server`
)
console.log(`${name}/test loads ${loadedByTest.length} modules, without the HTTP server`)
console.log(`${name} loads ${loaded.length} modules, without the engine and node:sqlite`)
