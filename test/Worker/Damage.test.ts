/** What a worker sends is damaged on its way, a bit at a time: nobody else is given what it is at. */
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import net from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { createFunction } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { assert, it, vi } from "vitest"
import { createDeferred } from "../../src/Deferred.ts"
import { starts, type Transport } from "./Starts.ts"

/** Turns over the lowest bit of the byte that stands `at` bytes behind the end of `text`. */
interface Flip {
  readonly text: string
  readonly at: number
}

/** A wire that turns over one bit in what goes to the engine. */
class Wire implements AsyncDisposable {
  readonly #server: net.Server
  readonly #sockets = new Set<net.Socket>()
  #flip: Flip | undefined
  #isShut = false
  flipped = createDeferred<void>()

  private constructor(target: number) {
    this.#server = net.createServer((worker) => {
      if (this.#isShut) return void worker.destroy()
      const engine = net.connect(target, "127.0.0.1")
      for (const socket of [worker, engine]) {
        this.#sockets.add(socket)
        socket.setNoDelay(true)
        socket.on("error", () => undefined)
        socket.on("close", () => {
          this.#sockets.delete(socket)
          worker.destroy()
          engine.destroy()
        })
      }
      worker.on("data", (chunk) => engine.write(this.#damage(chunk)))
      engine.pipe(worker)
    })
  }

  static async before(url: string): Promise<Wire> {
    const wire = new Wire(Number(new URL(url).port))
    wire.#server.listen(0, "127.0.0.1")
    await once(wire.#server, "listening")
    return wire
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`
  }

  /** Does so once, where the text comes next. */
  damage(flip: Flip): void {
    this.flipped = createDeferred<void>()
    this.#flip = flip
  }

  /** Lets nobody through any more. */
  shut(): void {
    this.#isShut = true
    this.cut()
  }

  open(): void {
    this.#isShut = false
  }

  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy()
  }

  #damage(chunk: Buffer): Buffer {
    const flip = this.#flip
    if (flip === undefined) return chunk
    const { start, text } = unmasked(chunk)
    const found = text.indexOf(flip.text)
    if (found === -1) return chunk
    this.#flip = undefined
    const bytes = Buffer.from(chunk)
    bytes[start + found + flip.text.length + flip.at]! ^= 1
    this.flipped.resolve()
    return bytes
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, "close")
  }
}

/** What a chunk says, and where that starts in it: frames of WebSockets hide it under a mask. */
const unmasked = (chunk: Buffer): { readonly start: number; readonly text: string } => {
  const isTextFrame = chunk[0] === 0x81 && (chunk[1]! & 0x80) !== 0
  if (!isTextFrame) return { start: 0, text: chunk.toString("latin1") }
  const length = chunk[1]! & 0x7f
  const start = (length === 126 ? 4 : length === 127 ? 10 : 2) + 4
  const mask = chunk.subarray(start - 4, start)
  const bytes = Buffer.from(chunk.subarray(start).map((byte, i) => byte ^ mask[i % 4]!))
  return { start, text: bytes.toString("latin1") }
}

const transports: ReadonlyArray<Transport> = ["HTTP", "its channel", "rpc", "ConnectRPC"]
const streams = transports.slice(2)

type Occasion = "it registers" | "its engine comes back" | "its stream is cut"

const damages: ReadonlyArray<
  readonly [what: string, occasion: Occasion, flip: Flip, among: typeof transports]
> = [
  ["a job that it holds", "its engine comes back", { text: '"jobs":["job_', at: 3 }, transports],
  ["the word for its jobs", "its engine comes back", { text: '"jobs":', at: -4 }, transports],
  ["a job that it holds", "its stream is cut", { text: '"jobs":["job_', at: 3 }, streams],
  ["who it is", "its stream is cut", { text: '"instance":"busy-', at: 1 }, streams],
  ...(process.platform === "linux"
    ? [["which process it is", "it registers", { text: '"startedAt":"', at: 0 }, transports] as const]
    : [])
]

const cases = damages.flatMap(([what, occasion, flip, among]) =>
  among.map((name) => ({ what, occasion, flip, name, start: starts[name] }))
)

it.each(cases)(
  "a worker over $name keeps its run when $what is damaged on its way as $occasion",
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
    await using wire = await Wire.before(url)
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
    // only it has this function: it is back, and who takes runs could have taken by now what it holds
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
