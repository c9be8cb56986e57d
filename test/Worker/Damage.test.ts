/** Messages of a worker are damaged in transit, one bit at a time: no other worker gets its runs. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { afterEach, assert, it, vi } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { DamagingWire, type Flip } from "./DamagingWire.ts"
import { starts, type Transport } from "./Starts.ts"

const transports: ReadonlyArray<Transport> = ["HTTP", "its channel", "rpc", "ConnectRPC"]
const streams = transports.slice(2)

type Occasion = "it registers" | "its engine comes back" | "its stream is cut"

const damages: ReadonlyArray<
  readonly [what: string, occasion: Occasion, flip: Flip, affected: typeof transports]
> = [
  ["the id of its job", "its engine comes back", { text: '"jobs":["job_', at: 3 }, transports],
  ["the name of the field with its jobs", "its engine comes back", { text: '"jobs":', at: -4 }, transports],
  ["the id of its job", "its stream is cut", { text: '"jobs":["job_', at: 3 }, streams],
  ["the id of its instance", "its stream is cut", { text: '"instance":"busy-', at: 1 }, streams],
  ...(process.platform === "linux"
    ? [["the start of its process", "it registers", { text: '"startedAt":"', at: 0 }, transports] as const]
    : [])
]

const cases = damages.flatMap(([what, occasion, flip, affected]) =>
  affected.map((name) => ({ what, occasion, flip, name, start: starts[name] }))
)

it.concurrent.each(cases)(
  "a worker over $name keeps its run when $what is damaged in transit as $occasion",
  { timeout: 30_000 },
  async ({ flip, occasion, start }) => {
    const folder = mkdtempSync(join(tmpdir(), "ironflow-damage-"))
    const open = (port: number) =>
      startEngine({
        filename: join(folder, "ironflow.db"),
        logger: false,
        listen: { port, leaseTerm: "5s" }
      })
    let engine = await open(0)
    const url = engine.url!
    await using wire = await DamagingWire.before(url)
    const began: Array<string> = []
    const finish = createDeferred<void>()
    const orders = (worker: string) =>
      createFunction({ id: "charge-order", triggers: [{ event: "order.placed" }] }, ({ step }) =>
        step.run("charge", async () => {
          began.push(worker)
          await finish.promise
          return worker
        })
      )
    const bell = createFunction({ id: "answer-bell", triggers: [{ event: "bell.rung" }] }, () =>
      Promise.resolve("answered")
    )
    if (occasion === "it registers") wire.damage(flip)
    const busy = await start(wire.url, "busy", [orders("busy"), bell])
    const [runId] = (await engine.client.emit("order.placed", {})).runIds
    await vi.waitFor(() => assert.deepStrictEqual(began, ["busy"]), { timeout: 10_000 })
    const idle = await start(url, "idle", [orders("idle")])

    wire.shut()
    if (occasion === "its engine comes back") {
      await engine.close()
      engine = await open(Number(new URL(url).port))
    }
    if (occasion !== "it registers") wire.damage(flip)
    wire.open()
    await wire.flipped.promise
    // only the busy worker has this function: once it has run, that worker is back, and others have had time to claim its run
    const rung = await engine.client.emit("bell.rung", {})
    await engine.client.waitForRun(rung.runIds[0]!)
    finish.resolve()

    const run = await engine.client.waitForRun(runId!)
    assert.deepStrictEqual(began, ["busy"])
    assert.deepInclude(run, { status: "completed", output: "busy" })
    await busy.stop()
    await idle.stop()
    await engine.close()
    rmSync(folder, { recursive: true, force: true })
  }
)

/** Messages from the engine are damaged on their way to the worker. */
const toWorker = (Object.keys(starts) as ReadonlyArray<Transport>).map((name) => ({
  name,
  start: starts[name]
}))

it.concurrent.each(toWorker)(
  "a worker over $name runs no job whose data was damaged in transit, and runs it when it is sent again",
  { timeout: 30_000 },
  async ({ start }) => {
    await using engine = await startEngine({
      filename: ":memory:",
      logger: false,
      listen: { port: 0, leaseTerm: "3s" }
    })
    await using wire = await DamagingWire.before(engine.url!)
    const order = createFunction({ id: "charge-order", triggers: [{ event: "order.placed" }] }, ({ event }) =>
      Promise.resolve(event.data)
    )
    const worker = await start(wire.url, "shop", [order])
    wire.damage({ text: '"data":"{\\"amount\\":', at: 0, to: "worker" })

    const { runIds } = await engine.client.emit("order.placed", { amount: 4 })
    await wire.flipped.promise
    const run = await engine.client.waitForRun(runIds[0]!)

    assert.deepInclude(run, { status: "completed", output: { amount: 4 } })
    await worker.stop()
  }
)

it.concurrent.each(toWorker)(
  "a worker over $name does not assume a longer lease when the term was damaged in transit",
  { timeout: 30_000 },
  async ({ start }) => {
    await using engine = await startEngine({
      filename: ":memory:",
      logger: false,
      listen: { port: 0, leaseTerm: "3s" }
    })
    await using wire = await DamagingWire.before(engine.url!)
    const said: Array<string> = []
    const orders = (worker: string) =>
      createFunction({ id: "charge-order", triggers: [{ event: "order.placed" }] }, ({ step }) =>
        step.run("charge", ({ signal }) => {
          said.push(`${worker} begins`)
          return new Promise((_, reject) =>
            signal.addEventListener("abort", () => {
              said.push(`${worker} stops`)
              reject(signal.reason as Error)
            })
          )
        })
      )
    // the flipped bit makes three seconds seven
    wire.damage({ text: '"leaseMs":', at: 0, mask: 4, to: "worker" })
    const cut = await start(wire.url, "cut", [orders("cut")])
    await engine.client.emit("order.placed", {})
    await vi.waitFor(() => assert.deepStrictEqual(said, ["cut begins"]), { timeout: 10_000 })
    const other = await start(engine.url!, "other", [orders("other")])

    wire.shut()
    await vi.waitFor(() => assert.include(said, "other begins"), { timeout: 10_000 })

    assert.deepStrictEqual(said, ["cut begins", "cut stops", "other begins"])
    wire.open()
    await cut.stop()
    await other.stop()
  }
)

afterEach(() => void vi.unstubAllEnvs())

it.each(["HTTP", "its channel", "rpc"] as const)(
  "a worker over %s whose API key was damaged in transit continues, because the same key is accepted a moment later",
  { timeout: 30_000 },
  async (name) => {
    await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    vi.stubEnv("IRONFLOW_API_KEY", (await engine.client.apiKeys.create({ name: "operator" })).secret)
    await using wire = await DamagingWire.before(engine.url!)
    const order = createFunction({ id: "charge-order", triggers: [{ event: "order.placed" }] }, () =>
      Promise.resolve("charged")
    )
    const worker = await starts[name](wire.url, "shop", [order])
    wire.damage({ text: "Bearer ", at: 12 })
    wire.cut()
    await wire.flipped.promise

    const { runIds } = await engine.client.emit("order.placed", {})
    const run = await engine.client.waitForRun(runIds[0]!)

    assert.deepInclude(run, { status: "completed", output: "charged" })
    await worker.stop()
  }
)
