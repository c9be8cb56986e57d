/** A real `ironflow serve` for one test, and another process that watches and uses it. */
import { type ChildProcess, fork } from "node:child_process"
import fs from "node:fs"
import path from "node:path"
import { afterAll, assert } from "vitest"
import { freePort, type Running, Terminal } from "../Cli/Terminal.ts"
import { RawSocket } from "../wire/RawSocket.ts"
import { Vitals } from "./fuzz/Vitals.ts"
import { either } from "../Long.ts"

/**
 * What a server that gives way goes past by far: it worked on something else for 8 seconds and more before it answered, and took 600 MB
 * and more. It is measured by what the server has worked meanwhile, since others have the processors of the machine too.
 */
const MOST_MS = 2000
const MOST_MB = 400

/** The worst that was seen; milliseconds are those that the server worked before it answered. */
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
  #isShared = false
  #hasWithstood = false

  private constructor(port: number, server: Running, terminal: Terminal, witness: ChildProcess) {
    this.port = port
    this.url = `http://127.0.0.1:${port}`
    this.server = server
    this.#terminal = terminal
    this.#witness = witness
  }

  /** `flags` are further ones of `ironflow serve`. */
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
    pressed.#look()
    return pressed
  }

  /**
   * For tests that judge by what others notice, not by memory that an earlier one may have left: they get the same server one after the
   * other, and a new one after a test that failed. To be called in a `describe`.
   */
  static shared(): () => Promise<Pressed> {
    let pressed: Pressed | undefined
    afterAll(async () => {
      if (pressed !== undefined) await pressed.#end()
    })
    return async () => {
      if (pressed !== undefined && pressed.#hasWithstood) pressed.#look()
      else pressed = await Pressed.start()
      pressed.#isShared = true
      return pressed
    }
  }

  /** A connection that reads nothing of what comes. */
  async deaf(): Promise<RawSocket> {
    const socket = await this.connect()
    socket.socket.pause()
    return socket
  }

  async connect(): Promise<RawSocket> {
    const socket = await RawSocket.open(this.port)
    this.#sockets.push(socket)
    return socket
  }

  /** Many of them at once. */
  many(count: number, open: () => Promise<RawSocket> = () => this.connect()): Promise<Array<RawSocket>> {
    return Promise.all(Array.from({ length: count }, open))
  }

  /** Whether the server still has the other end of a connection, which hears of its end only when it reads. */
  has({ socket }: RawSocket): boolean {
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

  /** How long the server has worked since it began, milliseconds of a processor. */
  worked(): number {
    return new Vitals(this.server.pid).worked()
  }

  /** Waits until somebody has looked at the server so many times more, or a third of that in the short form. */
  async meanwhile(looks = 40): Promise<void> {
    let left = Math.ceil(looks / either(3, 1))
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (--left > 0) return
        this.#witness.off("message", look)
        resolve()
      }
      this.#witness.on("message", look)
    })
  }

  /** Ends looking at the server, and says what was seen. */
  seen(): Promise<Seen> {
    return new Promise((resolve) => {
      const listen = (message: unknown): void => {
        if (typeof message !== "object") return
        this.#witness.off("message", listen)
        resolve(message as Seen)
      }
      this.#witness.on("message", listen)
      this.#witness.send("tell")
    })
  }

  /** Fails unless the server was quick and small, and its client has been served. */
  async withstood(known?: Seen): Promise<void> {
    const seen = known ?? (await this.seen())
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

  #look(): void {
    this.#hasWithstood = false
    this.#witness.send("look")
  }

  async #end(): Promise<void> {
    this.#witness.kill("SIGKILL")
    await this.#terminal[Symbol.asyncDispose]()
  }
}
