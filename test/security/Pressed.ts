/** A real `ironflow serve` under load, and another process that watches it and calls it. */
import { type ChildProcess, fork } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import { assert } from "vitest"
import { freePort, type Running, Terminal } from "../Cli/Terminal.ts"
import { RawSocket } from "../wire/RawSocket.ts"
import { Vitals } from "./fuzz/Vitals.ts"
import { nodeArguments } from "../Built.ts"
import { either } from "../Long.ts"

/**
 * A server that gives way exceeds these limits by far: it works for more than 8 seconds before it answers, and takes more than
 * 600 MB. Time is processor time of the server, because other programs use the machine too.
 */
const MOST_MS = 2000
const MOST_MB = 400

/** The worst values observed. Milliseconds are processor time of the server until it answered. */
export interface Seen {
  readonly healthMs: number
  readonly rssMb: number
  /** Calls of a client without load. */
  readonly calls: number
  readonly callMs: number
  readonly problems: ReadonlyArray<string>
}

export class Pressed implements AsyncDisposable {
  readonly port: number
  readonly url: string
  readonly server: Running
  readonly #terminal: Terminal
  readonly #witness: ChildProcess
  readonly #sockets: Array<RawSocket> = []

  private constructor(port: number, server: Running, terminal: Terminal, witness: ChildProcess) {
    this.port = port
    this.url = `http://127.0.0.1:${port}`
    this.server = server
    this.#terminal = terminal
    this.#witness = witness
  }

  /** `flags` are added to the command `ironflow serve`. */
  static async start(...flags: ReadonlyArray<string>): Promise<Pressed> {
    const terminal = new Terminal()
    const port = await freePort()
    const server = terminal.start(["serve", "--port", String(port), ...flags])
    await server.until(`Ironflow listens at http://127.0.0.1:${port}`)
    const witness = fork(
      path.join(import.meta.dirname, "witness.ts"),
      [`http://127.0.0.1:${port}`, String(server.pid)],
      { execArgv: [...nodeArguments()] }
    )
    await new Promise((resolve) => witness.once("message", resolve))
    return new Pressed(port, server, terminal, witness)
  }

  /** A connection that reads nothing of what it receives. */
  async connectUnread(): Promise<RawSocket> {
    const socket = await this.connect()
    socket.socket.pause()
    return socket
  }

  async connect(): Promise<RawSocket> {
    const socket = await RawSocket.open(this.port)
    this.#sockets.push(socket)
    return socket
  }

  /** Opens many connections at once. */
  many(count: number, open: () => Promise<RawSocket> = () => this.connect()): Promise<Array<RawSocket>> {
    return Promise.all(Array.from({ length: count }, open))
  }

  /**
   * Whether the server still has its end of a connection. Asks the operating system: an unread connection does not notice its
   * end.
   */
  serverHas({ socket }: RawSocket): boolean {
    const end = (port = 0): string => `:${port.toString(16).toUpperCase().padStart(4, "0")} `
    return fs
      .readFileSync("/proc/net/tcp", "utf8")
      .split("\n")
      .some(
        (line) =>
          line.includes(`${end(this.port)}`) &&
          line.indexOf(end(this.port)) < line.indexOf(end(socket.localPort))
      )
  }

  /** The processor time of the server since its start, in milliseconds. */
  worked(): number {
    return new Vitals(this.server.pid).worked()
  }

  /** Waits until the witness has checked the server so many more times; a third of that in a short run. */
  async awaitChecks(checks = 40): Promise<void> {
    let left = Math.ceil(checks / either(3, 1))
    await new Promise<void>((resolve) => {
      const count = (): void => {
        if (--left > 0) return
        this.#witness.off("message", count)
        resolve()
      }
      this.#witness.on("message", count)
    })
  }

  /** What was observed so far. Fails unless the server was fast and small, and served its client. */
  async assertWithstood(): Promise<Seen> {
    const seen = await new Promise<Seen>((resolve) => {
      this.#witness.on("message", (message) => {
        if (typeof message === "object") resolve(message as Seen)
      })
      this.#witness.send("end")
    })
    const shown = JSON.stringify(seen)
    assert.deepStrictEqual(seen.problems, [], shown)
    assert.isAtMost(seen.healthMs, MOST_MS, shown)
    assert.isAtMost(seen.rssMb, MOST_MB, shown)
    assert.isAbove(seen.calls, 0, shown)
    assert.isAtMost(seen.callMs, 3 * MOST_MS, shown)
    assert.notInclude(this.server.output(), "because of a bug")
    return seen
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket[Symbol.dispose]()
    this.#witness.kill("SIGKILL")
    await this.#terminal[Symbol.asyncDispose]()
  }
}
