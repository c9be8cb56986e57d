/** A real `ironflow serve` under load, and another process that watches it and calls it. */
import { type ChildProcess, fork } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import { afterAll, assert } from "vitest"
import { freePort, type Running, Terminal } from "../Cli/Terminal.ts"
import { RawSocket } from "../wire/RawSocket.ts"
import { Vitals } from "./fuzz/Vitals.ts"
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
  /** Calls that the witness made, one after the other, as an ordinary client. */
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
  #isShared = false
  #hasWithstood = false

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
      { execArgv: [] }
    )
    await new Promise((resolve) => witness.once("message", resolve))
    const pressed = new Pressed(port, server, terminal, witness)
    pressed.#watch()
    return pressed
  }

  /**
   * Returns a function that gives several tests the same server, one after the other, and a new one after a test that failed.
   * That suits tests that check the effect on other clients, not tests that measure memory, which an earlier test may still
   * take. Call this once in a file or a `describe`.
   */
  static shared(): () => Promise<Pressed> {
    let pressed: Pressed | undefined
    afterAll(async () => {
      if (pressed !== undefined) await pressed.#end()
    })
    return async () => {
      if (pressed !== undefined && pressed.#hasWithstood) pressed.#watch()
      else pressed = await Pressed.start()
      pressed.#isShared = true
      return pressed
    }
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

  /** Waits until the witness has checked the server `checks` more times, or a third of that in a short run. */
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

  /** Ends the checks of the server, and returns what was observed. */
  endChecks(): Promise<Seen> {
    return new Promise((resolve) => {
      const listen = (message: unknown): void => {
        if (typeof message !== "object") return
        this.#witness.off("message", listen)
        resolve(message as Seen)
      }
      this.#witness.on("message", listen)
      this.#witness.send("report")
    })
  }

  /** Fails unless the server was fast and small, and served its client. */
  async assertWithstood(known?: Seen): Promise<void> {
    const seen = known ?? (await this.endChecks())
    const shown = JSON.stringify(seen)
    assert.deepStrictEqual(seen.problems, [], shown)
    assert.isAtMost(seen.healthMs, MOST_MS, shown)
    assert.isAtMost(seen.rssMb, MOST_MB, shown)
    assert.isAbove(seen.calls, 0, shown)
    assert.isAtMost(seen.callMs, 3 * MOST_MS, shown)
    assert.notInclude(this.server.output(), "because of a bug")
    this.#hasWithstood = true
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets.splice(0)) socket[Symbol.dispose]()
    if (!this.#isShared || !this.#hasWithstood) await this.#end()
  }

  #watch(): void {
    this.#hasWithstood = false
    this.#witness.send("watch")
  }

  async #end(): Promise<void> {
    this.#witness.kill("SIGKILL")
    await this.#terminal[Symbol.asyncDispose]()
  }
}
