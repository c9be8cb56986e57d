/**
 * The process that starts and watches what the fuzzer attacks: a real `ironflow serve`, and an app with `serve()`, each as its
 * own process. It checks their health, their memory and the delay of their event loops all the time, and works as a client and
 * a worker in an environment that is not attacked.
 */
import { type ChildProcess, spawn } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { createClient, createFunction, createWorker } from "@ironflow/node"
import { Vitals } from "./Vitals.ts"
import type { Bounds, FromWatcher, Report, WatcherOptions } from "./Watched.ts"
import { commandArguments, nodeArguments } from "../../Built.ts"

const options = JSON.parse(process.argv[2] ?? "") as WatcherOptions
const { bounds, bootstrapKey, folder } = options
const say = (message: FromWatcher): void => void process.send?.(message)

// ---------------------------------------------------------------------------------------------------------------------
// Processes
// ---------------------------------------------------------------------------------------------------------------------

class Watched {
  readonly name: string
  readonly child: ChildProcess
  readonly #loopFile: string
  readonly #bounds: Bounds
  output = ""
  healthMs = 0
  rssMb = 0
  loopMs = 0
  readonly #vitals: Vitals

  constructor(name: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv) {
    this.name = name
    this.#bounds = bounds
    this.#loopFile = path.join(folder, `${name}.loop`)
    const loop = path.join(import.meta.dirname, "loop.ts")
    this.child = spawn(process.execPath, [...nodeArguments(), `--import=${loop}`, ...args], {
      cwd: folder,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...env, FUZZ_LOOP_FILE: this.#loopFile }
    })
    this.#vitals = new Vitals(this.child.pid ?? 0)
    const hear = (chunk: Buffer): void => {
      this.output = (this.output + String(chunk)).slice(-200_000)
      if (this.output.includes("because of a bug"))
        this.broken(`says that it has a bug:\n${this.output.slice(-4000)}`)
    }
    this.child.stdout?.on("data", hear)
    this.child.stderr?.on("data", hear)
    this.child.once("exit", (code, signal) => {
      if (!isOver) this.broken(`has ended with ${code ?? signal}:\n${this.output.slice(-4000)}`)
    })
  }

  broken(how: string): void {
    say({ type: "broken", how: `${this.name} ${how}` })
  }

  async until(text: string): Promise<void> {
    for (const end = performance.now() + 40_000; !this.output.includes(text); await delay(20)) {
      if (performance.now() > end) throw new Error(`${this.name} did not say "${text}":\n${this.output}`)
    }
  }

  async check(url: string): Promise<void> {
    const { answer, rssMb, tookMs } = await this.#vitals.check(url, bounds.healthMs * 10)
    this.healthMs = Math.max(this.healthMs, tookMs)
    if (answer !== 200)
      return this.broken(`answers its health check with ${answer}, after ${Math.round(tookMs)} ms`)
    if (tookMs > this.#bounds.healthMs) this.broken(`took ${Math.round(tookMs)} ms for its health check`)
    this.rssMb = Math.max(this.rssMb, rssMb)
    if (rssMb > this.#bounds.rssMb) this.broken(`has ${Math.round(rssMb)} MB in memory`)
    const bytes = fs.existsSync(this.#loopFile) ? fs.readFileSync(this.#loopFile) : Buffer.alloc(8)
    const delayMs = bytes.length === 8 ? bytes.readDoubleLE() : 0
    // the file has the longest delay of a quarter of a second, which ended at most another quarter ago
    const loopMs = delayMs - this.#vitals.waitedForProcessor(delayMs + 600)
    this.loopMs = Math.max(this.loopMs, loopMs)
    if (loopMs > this.#bounds.loopMs) this.broken(`did nothing else for ${Math.round(loopMs)} ms`)
  }

  get figures(): Report["server"] {
    return {
      healthMs: Math.round(this.healthMs),
      rssMb: Math.round(this.rssMb),
      loopMs: Math.round(this.loopMs)
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Life
// ---------------------------------------------------------------------------------------------------------------------

let isOver = false
const environment = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !name.startsWith("IRONFLOW_"))
)
const url = `http://127.0.0.1:${options.port}`
const appUrl = `http://127.0.0.1:${options.appPort}`
const server = new Watched(
  "The server",
  [...commandArguments(), "serve", "--port", String(options.port), "--allow-private-endpoints"],
  {
    ...environment,
    NO_COLOR: "1",
    IRONFLOW_MASTER_KEY: "ab".repeat(32),
    ...(bootstrapKey === undefined ? {} : { IRONFLOW_BOOTSTRAP_KEY: bootstrapKey })
  }
)
const app = new Watched(
  "The app",
  [path.join(import.meta.dirname, "app.ts"), String(options.appPort), url],
  environment
)
process.on("exit", () => {
  server.child.kill("SIGKILL")
  app.child.kill("SIGKILL")
})
process.on("disconnect", () => process.exit(1))

await server.until(`Ironflow listens at ${url}`)
await app.until("The app listens")

/** A key of an environment that is not attacked. */
const makeKey = async (): Promise<string | undefined> => {
  if (bootstrapKey === undefined) return undefined
  const operator = createClient({ serverUrl: url, apiKey: bootstrapKey })
  const { key } = await operator.apiKeys.create({
    name: "good",
    envId: "env_good",
    role_ids: ["role_developer"]
  })
  await operator.close()
  return key
}

const apiKey = await makeKey()
const connection = { serverUrl: url, environment: "good", ...(apiKey === undefined ? {} : { apiKey }) }
const greet = createFunction(
  { id: "greet", triggers: [{ event: "guest.came" }] },
  async ({ event, step }) => {
    const name = await step.run("name", () => event.data.name)
    return step.run("greet", () => `Hello ${name}`)
  }
)
const worker = createWorker({ ...connection, functions: [greet], logger: false })
const client = createClient(connection)
// runs until the process ends
worker
  .start()
  .catch((error: unknown) => say({ type: "broken", how: `The worker of the good client: ${String(error)}` }))
await worker.ready()

let runs = 0
let runMs = 0
const calls = async (): Promise<void> => {
  for (let n = 0; !isOver; n++) {
    const begun = performance.now()
    const { runIds } = await client.emit("guest.came", { name: `guest ${n}` })
    const run = await client.waitForRun(runIds[0] ?? "", { timeout: 2 * bounds.runMs })
    if (run.output !== `Hello guest ${n}`)
      throw new Error(`run ${run.id} of the good client is ${JSON.stringify(run)}`)
    runs++
    runMs = Math.max(runMs, performance.now() - begun)
    if (runMs > bounds.runMs) throw new Error(`a run of the good client took ${Math.round(runMs)} ms`)
    await delay(100)
  }
}
const checks = async (): Promise<void> => {
  for (; !isOver; await delay(50)) await Promise.all([server.check(url), app.check(appUrl)])
}
const living = Promise.all([calls(), checks()]).catch((error: unknown) => {
  if (!isOver)
    say({ type: "broken", how: `The good client: ${error instanceof Error ? error.stack : String(error)}` })
})

process.on("message", async () => {
  isOver = true
  await living
  say({
    type: "report",
    report: { server: server.figures, app: app.figures, runs, runMs: Math.round(runMs) }
  })
  process.exit(0)
})
say({ type: "ready", url, appUrl })
