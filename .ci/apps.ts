/**
 * Uses the packed packages as users' apps do: `node .ci/apps.ts <tarball>`.
 *
 * Builds a Next.js app and starts it in production mode, bundles a worker with esbuild, webpack and Vite, runs one on Bun and
 * Deno, and runs the README's first program as the README says. Everything is installed from the registry into scratch
 * folders.
 */
import assert from "node:assert/strict"
import fs from "node:fs"
import path from "node:path"
import { Scratch } from "./Scratch.ts"

const tarballArgument = process.argv[2]
if (tarballArgument === undefined) throw new Error("usage: node .ci/apps.ts <tarball>")
const tarball = path.resolve(tarballArgument)
const repository = path.join(import.meta.dirname, "..")
const { devDependencies, peerDependencies } = JSON.parse(
  fs.readFileSync(path.join(repository, "package.json"), "utf8")
)
/** The versions of compilers and types that this package is built with. */
const pinned = (name: string): string => `${name}@${devDependencies[name]}`

const begun = performance.now()
const reportDone = (what: string): void =>
  console.log(`${what} (${((performance.now() - begun) / 1000).toFixed(0)} s)`)

/** Starts the engine that the apps use. */
const startServer = (app: Scratch) =>
  app.start(
    process.execPath,
    [
      app.bin("@ironflow/node/dist/bin.js"),
      "serve",
      ...["--port", "0", "--data", "served.db"],
      "--allow-private-endpoints"
    ],
    /listens at (http:\S+?),/,
    { IRONFLOW_SIGNING_KEY: "secret" }
  )

const greet = `createFunction({ id: "greet", triggers: [{ event: "guest.arrived" }] }, async ({ event, step }) =>
  step.run("greet", async () => "hello " + event.data.name)
)`

// ---------------------------------------------------------------------------------------------------------------------
// The README's first program, in a project created by \`npm init -y\`
// ---------------------------------------------------------------------------------------------------------------------

const first = new Scratch("first", [], { version: "1.0.0", type: "commonjs" })
const readme = fs.readFileSync(path.join(repository, "README.md"), "utf8")
const [, program = ""] = /^```ts run\n(.*?)^```/ms.exec(readme) ?? []
const commands = /^```sh\n(npm init -y\n.*?)^```/ms.exec(readme)?.[1]?.split("\n").slice(1) ?? []
assert(commands.includes("npm install @ironflow/node"), "README.md says how to install into a new project")
first.write("main.ts", program)
for (const command of commands.filter((line) => line !== "")) {
  const [name = "", ...args] = command.replace("@ironflow/node", tarball).split(" ")
  const printed = first.run(name, args)
  if (command === "node main.ts") assert.match(printed, /completed \{ orderId: 'o-1', receipt: 'r-o-1' \}/)
}
assert(commands.includes("node main.ts"), "README.md runs its first program")
reportDone("README.md: the first program")

// ---------------------------------------------------------------------------------------------------------------------
// Next.js
// ---------------------------------------------------------------------------------------------------------------------

const next = new Scratch(
  "next",
  [tarball, "next", "react", "react-dom", pinned("typescript"), "@types/react", pinned("@types/node")],
  {}
)
const route = /`(app\/api\/[^`]*route\.ts)`:\n\n```ts\n(.*?)^```/ms.exec(
  fs.readFileSync(path.join(repository, "docs/push.md"), "utf8")
)
assert(route !== null, "docs/push.md has a route for Next.js")
const [, file = "", documented = ""] = route
next.write(
  file,
  'import { createFunction } from "@ironflow/node"\n' +
    documented.replace("export const", `const processOrder = ${greet}\n\nexport const`)
)
next.write(
  "app/layout.tsx",
  `export default function Layout({ children }: { children: React.ReactNode }) {
  return <html><body>{children}</body></html>
}\n`
)
next.write("app/page.tsx", "export default function Page() { return <p>shop</p> }\n")
const quiet = { NEXT_TELEMETRY_DISABLED: "1", IRONFLOW_SIGNING_KEY: "secret" }
const nextBin = next.bin("next/dist/bin/next")
next.run(process.execPath, [nextBin, "build"], quiet)
const server = await startServer(next)
const url = server.match[1] ?? ""
const app = await next.start(
  process.execPath,
  [nextBin, "start", "--port", "0", "--hostname", "127.0.0.1"],
  /Local:\s+(http:\S+)[\s\S]*Ready/,
  { ...quiet, IRONFLOW_SERVER_URL: url }
)
const ironflow = (...args: ReadonlyArray<string>): string =>
  next.run(process.execPath, [next.bin("@ironflow/node/dist/bin.js"), ...args, "--server-url", url])
ironflow("functions", "register", `${app.match[1]}/api/ironflow`)
assert.match(ironflow("emit", "guest.arrived", '{"name":"next"}', "--wait", "--json"), /hello next/)
await app.stop()
reportDone("Next.js: built, started, ran a function")

// ---------------------------------------------------------------------------------------------------------------------
// Bundlers and other runtimes
// ---------------------------------------------------------------------------------------------------------------------

const bundlers = new Scratch("bundlers", [tarball, "esbuild", "webpack", "vite"])
// one worker and one client, which makes enough calls to switch to a WebSocket
bundlers.write(
  "main.mjs",
  `import { createClient, createFunction, createSubscriptionClient, createWorker } from "@ironflow/node"
const [serverUrl, transport] = process.argv.slice(2)
const greet = ${greet}
const worker = createWorker({ serverUrl, functions: [greet], transport, logger: false })
const stopped = worker.start()
await worker.ready()
const client = createClient({ serverUrl })
const subscriptions = createSubscriptionClient({ serverUrl })
await subscriptions.connect()
const received = Promise.withResolvers()
await subscriptions.subscribe("guest.*", { onEvent: (event) => received.resolve(event.topic) })
for (let i = 0; i < 10; i++) {
  const { runIds } = await client.emit("guest.arrived", { name: String(i) })
  const { output } = await client.waitForRun(runIds[0])
  if (output !== "hello " + i) throw new Error("got " + output)
}
console.log("received", await received.promise)
subscriptions.close()
await client.close()
await worker.drain()
await stopped
`
)
const bundles = {
  esbuild: "esbuild.mjs",
  webpack: "webpack.mjs",
  vite: "vite/main.js"
}
bundlers.write(
  "bundle.mjs",
  `import { build as esbuild } from "esbuild"
import { build as vite } from "vite"
import webpack from "webpack"

const { warnings } = await esbuild({
  entryPoints: ["main.mjs"], outfile: "${bundles.esbuild}", bundle: true, minify: true,
  platform: "node", format: "esm", logLevel: "silent"
})
const problems = warnings.map(({ text }) => "esbuild: " + text)
const { promise, resolve, reject } = Promise.withResolvers()
webpack({
  mode: "production", target: "node22", entry: "./main.mjs", experiments: { outputModule: true },
  output: { path: import.meta.dirname, filename: "${bundles.webpack}", module: true, chunkFormat: "module" }
}, (error, stats) => error ? reject(error) : resolve(stats.toJson({ all: false, errors: true, warnings: true })))
const { errors, warnings: warned } = await promise
problems.push(...[...errors, ...warned].map(({ message }) => "webpack: " + message))
await vite({
  logLevel: "warn", ssr: { noExternal: true }, build: { ssr: "main.mjs", outDir: "vite", target: "node22" }
})
console.log(JSON.stringify(problems))
`
)
const problems: ReadonlyArray<string> = JSON.parse(
  bundlers.run(process.execPath, ["bundle.mjs"]).trim().split("\n").at(-1) ?? ""
)
assert.deepEqual(problems, [], "bundlers report no problems with the package")

const checkProgram = (program: string, args: ReadonlyArray<string>): void => {
  for (const transport of ["polling", "streaming"]) {
    assert.equal(bundlers.run(program, [...args, url, transport]), "received guest.arrived\n")
  }
}
for (const [bundler, bundle] of Object.entries(bundles)) {
  checkProgram(process.execPath, [bundle])
  reportDone(`${bundler}: a bundled worker and client`)
}

// ConnectRPC, and the README's first program, on other runtimes too
bundlers.install([
  "@oven/bun-linux-x64",
  "deno",
  ...Object.entries(peerDependencies)
    .filter(([name]) => name !== "pg")
    .map(([name, range]) => `${name}@${range}`)
])
bundlers.write("first.ts", program)
for (const [runtime, args] of [
  [bundlers.bin("@oven/bun-linux-x64/bin/bun"), []],
  [bundlers.bin(".bin/deno"), ["run", "-A"]]
] as const) {
  checkProgram(runtime, [...args, "main.mjs"])
  assert.match(bundlers.run(runtime, [...args, "first.ts"]), /completed/)
  reportDone(`${path.basename(runtime)}: a worker and a client, and an engine in the process`)
}
assert.equal(await server.stop(), 0)
