/** A WebSocket to an engine, and its frames. */
import { WebSocket } from "ws"
import type { Rig } from "./Rig.ts"
import { type Entry, Names, readable } from "./Transcript.ts"

const PATIENCE_MS = 10_000

/** A queue of received items, from which a test takes them in order. */
export class Inbox<A> {
  readonly #waiting: Array<A> = []
  #wake: () => void = () => undefined

  readonly put = (item: A): void => {
    this.#waiting.push(item)
    this.#wake()
  }

  async take(): Promise<A> {
    const item = this.#waiting.shift()
    if (item !== undefined) return item
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("Nothing more comes")), PATIENCE_MS)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    return await this.take()
  }
}

export class Session {
  readonly #socket: WebSocket
  readonly #inbox = new Inbox<string>()
  /** The frames of both sides. */
  readonly entries: Array<Entry> = []
  readonly names: Names

  private constructor(socket: WebSocket, names: Names) {
    this.#socket = socket
    this.names = names
    socket.on("message", (data) => this.#inbox.put(String(data)))
    socket.on("close", (code, reason) => this.#inbox.put(`closed with ${code} ${String(reason)}`))
  }

  /** Opens it; rejects with the status when it is refused. */
  static async open(
    rig: Rig,
    path: string,
    { headers = {}, names = new Names() }: { headers?: Record<string, string>; names?: Names } = {}
  ): Promise<Session> {
    const socket = new WebSocket(rig.url.replace("http", "ws") + path, { headers })
    const session = new Session(socket, names)
    await new Promise<void>((resolve, reject) => {
      socket.once("open", () => resolve())
      socket.once("unexpected-response", (_, response) => reject(new Error(String(response.statusCode))))
      socket.once("error", reject)
    })
    return session
  }

  send(frame: object | string): void {
    const text = typeof frame === "string" ? frame : JSON.stringify(frame)
    this.entries.push({ sent: readable(this.names.in(text)) })
    this.#socket.send(text)
  }

  // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine sends
  async next(): Promise<any> {
    const text = await this.#inbox.take().catch((cause: unknown) => {
      throw new Error(`Nothing more comes after ${JSON.stringify(this.entries.slice(-3))}`, { cause })
    })
    this.entries.push({ came: readable(this.names.in(text)) })
    try {
      return JSON.parse(text)
    } catch {
      return text
    }
  }

  ask(frame: object | string): ReturnType<Session["next"]> {
    this.send(frame)
    return this.next()
  }

  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#socket.once("close", resolve))
    this.#socket.close()
    await closed
  }
}
