/**
 * The requests of one HTTP/1.1 connection, one after the other. Node starts all that have arrived at once, which may
 * be a thousand. Here the next one is not parsed before the last one was answered and its response was sent. Other
 * connections run in between.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { hasTime, someoneWaits, whenTime } from "../../Engine/EventLoop.ts"

const END_OF_HEADERS = Buffer.from("\r\n\r\n")

/** Bytes of a body that are passed on at once: they may be as many chunks. */
const PIECE = 8 * 1024
const NOTHING = Buffer.alloc(0)

export class Pipelines {
  readonly #pipelines = new WeakMap<Duplex, Pipeline>()

  constructor(server: Server) {
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      // a reader may remove its listener when the connection ends, before the error event; without a listener the
      // error would be uncaught
      request.on("error", () => undefined)
      this.#pipelines.get(request.socket)?.begun(request, response)
    })
  }

  /** Takes a connection on which Node already listens. */
  take(socket: Duplex): void {
    this.#pipelines.set(socket, new Pipeline(socket))
  }

  /** Gives up a connection that changes its protocol. Returns the received bytes that were not parsed. */
  leave(socket: Duplex): Buffer {
    const rest = this.#pipelines.get(socket)?.leave() ?? NOTHING
    this.#pipelines.delete(socket)
    return rest
  }
}

class Pipeline {
  readonly #socket: Duplex
  readonly #listeners: ReadonlyArray<(chunk: Buffer) => void>
  /** The last request, until its response was sent. */
  #request: IncomingMessage | undefined
  /** Bytes that wait for that, or for their turn. */
  #rest: Buffer = NOTHING
  #waits = false
  #isOver = false

  constructor(socket: Duplex) {
    this.#socket = socket
    // Node reads the connection natively until another `data` listener exists
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

  /** Whether the next bytes belong to another request. */
  get #isBusy(): boolean {
    return this.#request?.complete === true
  }

  /** Passes on the bytes up to the end of the next headers, and the body as time allows. */
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
      // the next bytes are its body
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
    // the first bytes of a connection do not wait
    whenTime("rest", () => {
      if (this.#isOver || this.#isBusy || this.#socket.destroyed) return
      this.#waits = false
      // before the bytes are passed on: a receiver without room pauses the socket again
      this.#socket.resume()
      this.#feed(this.#rest)
    })
  }
}
