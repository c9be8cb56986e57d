/**
 * Makes Node take the requests of an HTTP/1.1 connection one after the other. Node would start all requests that have
 * arrived, perhaps a thousand. Here the next request is not parsed before the response to the last request was
 * sent. Requests of other connections run in between.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { hasTime, isWorkWaiting, callWhenTime } from "../../Engine/EventLoop.ts"

const END_OF_HEADERS = Buffer.from("\r\n\r\n")

/** How many bytes of a body are passed on at once. In the chunked encoding, each few bytes may be a chunk of their own. */
const PIECE_BYTES = 8 * 1024
const NOTHING = Buffer.alloc(0)

export class Pipelines {
  readonly #pipelines = new WeakMap<Duplex, Pipeline>()

  constructor(server: Server) {
    server.on("request", (request: IncomingMessage, response: ServerResponse) => {
      // A reader of the request may remove its listener when the connection ends, and before the error event.
      // An error without a listener would end the process.
      request.on("error", () => undefined)
      this.#pipelines.get(request.socket)?.begun(request, response)
    })
  }

  /** Takes over a connection that Node already listens to. */
  take(socket: Duplex): void {
    this.#pipelines.set(socket, new Pipeline(socket))
  }

  /** Gives up a connection that changes its protocol. Returns the bytes that were received and not parsed. */
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
  /** Bytes that wait for the response to the last request, or for time. */
  #rest: Buffer = NOTHING
  /** Whether `#rest` waits. */
  #isWaiting = false
  #isOver = false

  constructor(socket: Duplex) {
    this.#socket = socket
    // a `data` listener makes Node stop reading the connection natively
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
      if (this.#isWaiting) this.#goOn()
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
    if (this.#isWaiting) {
      this.#rest = Buffer.concat([this.#rest, chunk])
      this.#socket.pause()
    } else if (this.#isBusy || (this.#request !== undefined && (isWorkWaiting() || !hasTime())))
      this.#wait(chunk)
    else this.#feed(chunk)
  }

  /**
   * Whether the body of the last request has arrived, and its response was not sent: the next bytes are
   * another request.
   */
  get #isBusy(): boolean {
    return this.#request?.complete === true
  }

  /** Passes bytes on: those up to the end of the next headers, and the body as time allows. */
  #feed(chunk: Buffer): void {
    this.#rest = chunk
    while (this.#rest.length > 0) {
      const end = this.#rest.indexOf(END_OF_HEADERS)
      const length = end === -1 ? this.#rest.length : end + END_OF_HEADERS.length
      const piece = this.#rest.subarray(
        0,
        this.#request === undefined ? length : Math.min(length, PIECE_BYTES)
      )
      this.#rest = this.#rest.subarray(piece.length)
      for (const listener of this.#listeners) Reflect.apply(listener, this.#socket, [piece])
      if (this.#isOver || this.#rest.length === 0) return
      if (this.#socket.destroyed || !this.#socket.writable) {
        this.#rest = NOTHING
        return
      }
      // the next bytes are the body of this request
      if (this.#request?.complete === false && hasTime()) continue
      return this.#wait(this.#rest)
    }
  }

  #wait(rest: Buffer): void {
    this.#rest = rest
    this.#isWaiting = true
    this.#socket.pause()
    if (!this.#isBusy) this.#goOn()
  }

  #goOn(): void {
    // with the low priority: Node has handled the first bytes of this connection at once, before they came here
    callWhenTime("rest", () => {
      if (this.#isOver || this.#isBusy || this.#socket.destroyed) return
      this.#isWaiting = false
      // the socket resumes before the bytes are passed on, since a receiver without room pauses it again
      this.#socket.resume()
      this.#feed(this.#rest)
    })
  }
}
