/** A proxy between workers and their engine that damages data on its way. */
import { once } from "node:events"
import net from "node:net"
import { createDeferred } from "../../src/Deferred.ts"

/** Flips the lowest bit of the byte that is `at` bytes after the end of `text`, or the bits of `mask`. */
export interface Flip {
  readonly text: string
  readonly at: number
  readonly mask?: number
  /** The direction of the data. By default to the engine. */
  readonly to?: "engine" | "worker"
}

/** A proxy that flips a bit in the data that it passes on. */
export class DamagingWire implements AsyncDisposable {
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
      worker.on("data", (chunk) => engine.write(this.#damage("engine", chunk)))
      engine.on("data", (chunk) => worker.write(this.#damage("worker", chunk)))
    })
  }

  static async before(url: string): Promise<DamagingWire> {
    const wire = new DamagingWire(Number(new URL(url).port))
    wire.#server.listen(0, "127.0.0.1")
    await once(wire.#server, "listening")
    return wire
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as net.AddressInfo).port}`
  }

  /** Flips once, where the text appears next. */
  damage(flip: Flip): void {
    this.flipped = createDeferred<void>()
    this.#flip = flip
  }

  /** Cuts all connections, and refuses new ones until {@link open}. */
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

  #damage(to: Flip["to"], chunk: Buffer): Buffer {
    const flip = this.#flip
    if (flip === undefined || (flip.to ?? "engine") !== to) return chunk
    const { start, text } = unmasked(chunk)
    const found = text.indexOf(flip.text)
    if (found === -1) return chunk
    this.#flip = undefined
    const bytes = Buffer.from(chunk)
    bytes[start + found + flip.text.length + flip.at]! ^= flip.mask ?? 1
    this.flipped.resolve()
    return bytes
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, "close")
  }
}

/** The text of a chunk, and where it starts: the frames of WebSockets are masked. */
const unmasked = (chunk: Buffer): { readonly start: number; readonly text: string } => {
  const isTextFrame = chunk[0] === 0x81 && (chunk[1]! & 0x80) !== 0
  if (!isTextFrame) return { start: 0, text: chunk.toString("latin1") }
  const length = chunk[1]! & 0x7f
  const start = (length === 126 ? 4 : length === 127 ? 10 : 2) + 4
  const mask = chunk.subarray(start - 4, start)
  const bytes = Buffer.from(chunk.subarray(start).map((byte, i) => byte ^ mask[i % 4]!))
  return { start, text: bytes.toString("latin1") }
}
