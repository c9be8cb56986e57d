/**
 * Requests of one connection of HTTP/1.1, one after the other. Node begins all that have come at once, which may be a thousand, and
 * here the next one is not looked at before the last one was answered and its answer has left. Others have their turn in between.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { hasTime, someoneWaits, whenTime } from "../../Engine/LoopTurn.ts"

const END_OF_HEADERS = Buffer.from("\r\n\r\n")

/** Bytes of a body that are handed over at once: they may be as many chunks. */
const PIECE = 8 * 1024
const NOTHING = Buffer.alloc(0)

export class Pipelines {
  readonly #pipelines = new WeakMap<Duplex, Pipeline>()

  constructor(server: Server) {
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      // when its connection ends, whoever reads it may stop to listen before that is said, and nobody else would hear of it
      request.on("error", () => undefined)
      this.#pipelines.get(request.socket)?.begun(request, response)
    })
  }

  /** Takes a connection that Node has begun to listen to. */
  take(socket: Duplex): void {
    this.#pipelines.set(socket, new Pipeline(socket))
  }

  /** The connection becomes something else: returns what has come on it and was not looked at. */
  leave(socket: Duplex): Buffer {
    const rest = this.#pipelines.get(socket)?.leave() ?? NOTHING
    this.#pipelines.delete(socket)
    return rest
  }
}

class Pipeline {
  readonly #socket: Duplex
  readonly #listeners: ReadonlyArray<(chunk: Buffer) => void>
  /** The request that has come last, until its answer has left. */
  #request: IncomingMessage | undefined
  /** What waits for that, or for its turn. */
  #rest: Buffer = NOTHING
  #waits = false
  #isOver = false

  constructor(socket: Duplex) {
    this.#socket = socket
    // it reads the connection by itself until somebody else wants to
    socket.on("data", this.#onData)
    this.#listeners = socket.listeners("data").filter((listener) => listener !== this.#onData) as Array<
      (chunk: Buffer) => void
    >
    for (const listener of this.#listeners) socket.off("data", listener)
  }

  begun(request: IncomingMessage, response: ServerResponse): void {
    this.#request = request
    response.once("close", () => {
      if (this.#request !== request) return
      this.#request = undefined
      if (this.#waits) this.#goOn()
    })
  }

  leave(): Buffer {
    this.#isOver = true
    this.#socket.off("data", this.#onData)
    const rest = this.#rest
    this.#rest = NOTHING
    return rest
  }

  readonly #onData = (chunk: Buffer): void => {
    if (this.#waits) {
      this.#rest = Buffer.concat([this.#rest, chunk])
      this.#socket.pause()
    } else if (this.#isBusy || (this.#request !== undefined && (someoneWaits() || !hasTime())))
      this.#wait(chunk)
    else this.#feed(chunk)
  }

  /** Whether the next that comes is another request. */
  get #isBusy(): boolean {
    return this.#request?.complete === true
  }

  /** Hands it over up to the end of the next headers, and the body as far as there is time. */
  #feed(chunk: Buffer): void {
    this.#rest = chunk
    while (this.#rest.length > 0) {
      const end = this.#rest.indexOf(END_OF_HEADERS)
      const length = end === -1 ? this.#rest.length : end + END_OF_HEADERS.length
      const piece = this.#rest.subarray(0, this.#request === undefined ? length : Math.min(length, PIECE))
      this.#rest = this.#rest.subarray(piece.length)
      for (const listener of this.#listeners) Reflect.apply(listener, this.#socket, [piece])
      if (this.#isOver || this.#rest.length === 0) return
      if (this.#socket.destroyed || !this.#socket.writable) {
        this.#rest = NOTHING
        return
      }
      // what comes next is its body
      if (this.#request?.complete === false && hasTime()) continue
      return this.#wait(this.#rest)
    }
  }

  #wait(rest: Buffer): void {
    this.#rest = rest
    this.#waits = true
    this.#socket.pause()
    if (!this.#isBusy) this.#goOn()
  }

  #goOn(): void {
    // what comes first on a connection waits for nobody
    whenTime("rest", () => {
      if (this.#isOver || this.#isBusy || this.#socket.destroyed) return
      this.#waits = false
      // before: whoever has no room for what is fed pauses it again
      this.#socket.resume()
      this.#feed(this.#rest)
    })
  }
}
