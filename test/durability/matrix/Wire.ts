/** A TCP proxy between a worker and an engine. It passes everything on until another mode is set. */
import { once } from "node:events"
import net from "node:net"
import type { Dice } from "../Plan.ts"
import type { Garbage } from "./Plan.ts"

export type Mode =
  | { readonly _tag: "passing" }
  /** Breaks open connections after half of the next chunk, or after a moment, and refuses new ones. */
  | { readonly _tag: "cut" }
  /** Holds back what goes to the target (`up`), comes from it (`down`), or both, and hides that an end has closed. */
  | { readonly _tag: "deaf"; readonly towards: "up" | "down" | "both" }
  /** Open connections carry nothing any more, without an error; new ones work. */
  | { readonly _tag: "lost" }
  /** Answers in place of the target. */
  | { readonly _tag: "garbage"; readonly kind: Garbage }
  /** Passes on everything `ms` milliseconds later. */
  | { readonly _tag: "slow"; readonly ms: number }
  /** Flips a bit in one of `oneIn` chunks that go to the target. */
  | { readonly _tag: "flip"; readonly oneIn: number; readonly dice: Dice }

type Direction = "up" | "down"

/** A connection without traffic is cut after this time. */
const CUT_AFTER_MS = 200

const garbage: Readonly<Record<Garbage, () => Buffer>> = {
  bytes: () => Buffer.from(Array.from({ length: 900 }, (_, i) => (i * 167 + 89) % 256)),
  page: () => {
    const page = "<!doctype html><title>Welcome</title><p>Please log in to this network.</p>"
    return Buffer.from(
      `HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: ${page.length}\r\n\r\n${page}`
    )
  },
  unavailable: () =>
    Buffer.from("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/** A copy with one bit flipped. */
const flipped = (chunk: Buffer, { between }: Dice): Buffer => {
  const bytes = Buffer.from(chunk)
  const at = between(0, bytes.length - 1)
  bytes[at] = bytes[at]! ^ (1 << between(0, 7))
  return bytes
}

/** Both ends of a connection, and what is on its way between them. */
class Link {
  readonly ends: Readonly<Record<Direction, net.Socket>>
  readonly #wire: Wire
  readonly #held: Record<Direction, Array<Buffer>> = { up: [], down: [] }
  readonly #timers = new Set<NodeJS.Timeout>()
  readonly #late: Record<Direction, Array<{ readonly chunk: Buffer; readonly due: number }>> = {
    up: [],
    down: []
  }
  #isBroken = false
  #isOver = false
  #isLost = false

  /** `worker` sends up, `engine` sends down. */
  constructor(wire: Wire, worker: net.Socket, engine: net.Socket) {
    this.#wire = wire
    this.ends = { up: worker, down: engine }
    for (const direction of ["up", "down"] as const) {
      const socket = this.ends[direction]
      socket.setNoDelay(true)
      socket.on("data", (chunk) => this.#take(direction, chunk))
      // `close` follows
      socket.on("error", () => undefined)
      socket.on("close", () => this.#closed())
    }
  }

  /** The mode of the wire has changed. */
  changed(mode: Mode, heals: boolean): void {
    if (this.#isLost) return
    switch (mode._tag) {
      case "cut":
        this.#timers.add(setTimeout(() => this.#break(), CUT_AFTER_MS))
        return
      case "garbage":
        this.#answerWith(mode.kind)
        return
      case "lost":
        this.#isLost = true
        return
      case "passing":
        if (this.#isBroken || this.#isOver || (this.#isHolding && !heals)) return this.#break()
        for (const direction of ["up", "down"] as const) {
          for (const chunk of this.#held[direction].splice(0)) this.#pass(direction, chunk)
        }
        return
      case "deaf":
      case "slow":
      case "flip":
        return
    }
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    for (const socket of Object.values(this.ends)) socket.destroy()
  }

  get #isHolding(): boolean {
    return this.#held.up.length + this.#held.down.length > 0
  }

  #take(direction: Direction, chunk: Buffer): void {
    if (this.#isLost) return
    const { mode } = this.#wire
    switch (mode._tag) {
      case "passing":
      case "lost":
        return this.#pass(direction, chunk)
      case "cut":
        this.#pass(direction, chunk.subarray(0, Math.floor(chunk.length / 2)))
        // let the written half go out first
        this.#timers.add(setTimeout(() => this.#break(), 1))
        return
      case "deaf":
        if (mode.towards === "both" || mode.towards === direction) this.#held[direction].push(chunk)
        else this.#pass(direction, chunk)
        return
      case "garbage":
        if (direction === "up") this.#answerWith(mode.kind)
        return
      case "slow":
        return this.#passLater(direction, chunk, mode.ms)
      case "flip":
        return this.#pass(
          direction,
          direction === "up" && mode.dice.between(1, mode.oneIn) === 1 ? flipped(chunk, mode.dice) : chunk
        )
    }
  }

  #pass(direction: Direction, chunk: Buffer): void {
    // delayed chunks go first
    if (this.#late[direction].length > 0) this.#passLater(direction, chunk, 0)
    else this.#write(direction, chunk)
  }

  #passLater(direction: Direction, chunk: Buffer, ms: number): void {
    const delayed = this.#late[direction]
    delayed.push({ chunk, due: performance.now() + ms })
    if (delayed.length === 1) this.#passDue(direction)
  }

  /** Passes on the chunks that are due, in order, and waits for the rest. */
  #passDue(direction: Direction): void {
    const delayed = this.#late[direction]
    for (let first = delayed[0]; first !== undefined; first = delayed[0]) {
      const wait = first.due - performance.now()
      if (wait > 0) {
        const timer = setTimeout(() => {
          this.#timers.delete(timer)
          this.#passDue(direction)
        }, wait)
        this.#timers.add(timer)
        return
      }
      this.#write(direction, first.chunk)
      delayed.shift()
    }
  }

  #write(direction: Direction, chunk: Buffer): void {
    const receiver = this.ends[direction === "up" ? "down" : "up"]
    if (receiver.writable) receiver.write(chunk)
  }

  #answerWith(kind: Garbage): void {
    this.#isBroken = true
    if (this.ends.up.writable) this.ends.up.write(garbage[kind]())
  }

  #closed(): void {
    this.#isOver = true
    // the other end does not learn of it
    if (this.#isLost || this.#wire.mode._tag === "deaf") return
    this.#wire.forget(this)
    this.close()
  }

  #break(): void {
    this.#wire.forget(this)
    for (const timer of this.#timers) clearTimeout(timer)
    for (const socket of Object.values(this.ends)) socket.resetAndDestroy()
  }
}

export class Wire {
  readonly #server: net.Server
  readonly #links = new Set<Link>()
  #mode: Mode = { _tag: "passing" }

  /** `target` returns the port for each new connection. */
  constructor(target: () => number | undefined) {
    this.#server = net.createServer((worker) => {
      const port = target()
      if (this.#mode._tag === "cut" || port === undefined) {
        worker.on("error", () => undefined)
        worker.resetAndDestroy()
        return
      }
      this.#links.add(new Link(this, worker, net.connect(port, "127.0.0.1")))
    })
  }

  get mode(): Mode {
    return this.#mode
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`
  }

  get port(): number {
    // a server that listens on a TCP port has such an address
    return (this.#server.address() as net.AddressInfo).port
  }

  async listen(): Promise<void> {
    this.#server.listen(0, "127.0.0.1")
    await once(this.#server, "listening")
  }

  /** With `heals`, held chunks go on when everything passes again; otherwise their connections break. */
  set(mode: Mode, heals = false): void {
    this.#mode = mode
    for (const link of Array.from(this.#links)) link.changed(mode, heals)
  }

  forget(link: Link): void {
    this.#links.delete(link)
  }

  close(): void {
    this.#server.close()
    for (const link of this.#links) link.close()
  }
}
