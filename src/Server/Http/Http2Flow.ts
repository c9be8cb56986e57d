/**
 * An HTTP/2 connection whose frames are passed on a few at a time, as time allows. Thousands of requests may
 * arrive at once, and `node:http2` would start all of them. Here the frames behind the first few stay unread.
 */
import type { Socket } from "node:net"
import { nextTick } from "node:process"
import { Duplex } from "node:stream"
import { hasTime, type WorkKind, isWorkWaiting, callWhenTime } from "../../Engine/EventLoop.ts"

/**
 * How many frames are passed on at once. Each frame may start a request, which takes some 0.3 ms, or end
 * a request.
 */
const FRAMES = 8

/** A chunk of at most this many bytes contains one request or a few. */
const LITTLE_BYTES = 4096

/** Length of the preface before the first frame, in bytes. */
const PREFACE_LENGTH = 24

/** How long the length field of a frame's head is, in bytes. */
const LENGTH_BYTES = 3
/** How long the whole head of a frame is, in bytes. */
const HEAD_BYTES = 9

const NOTHING = Buffer.alloc(0)

export class Http2Flow extends Duplex {
  readonly #socket: Socket
  /** Bytes that were received and not passed on. */
  #rest: Buffer = NOTHING
  /** Whether the reader has asked for more bytes. */
  #isWanted = false
  /** Whether the rest will be passed on as soon as there is time. */
  #isDue = false
  /** How many bytes of the current frame's content are still to come. */
  #frameRest = PREFACE_LENGTH
  /** How many bytes of the next frame's head were received. */
  #headBytes = 0
  /** The length of the next frame's content, as far as the length field was read. */
  #length = 0

  constructor(socket: Socket) {
    super({ readableHighWaterMark: 1 })
    this.#socket = socket
    socket.on("data", (chunk: Buffer) => this.#onData(chunk))
    // delayed, because ending the requests of this connection, and of others that end now, takes as long as
    // starting them
    const end = (): void => callWhenTime("rest", () => this.destroy())
    socket.on("close", end)
    // HTTP/1.1 allows connections that are closed on one side; HTTP/2 does not
    socket.on("end", end)
  }

  override _read(): void {
    this.#isWanted = true
    if (this.#rest.length === 0) this.#socket.resume()
    // a moment later, so that the requests of the last frames run first
    else nextTick(() => this.#goOn("rest"))
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done)
  }

  override _writev(
    chunks: ReadonlyArray<{ readonly chunk: Buffer }>,
    done: (error?: Error | null) => void
  ): void {
    this.#socket.cork()
    for (const [i, { chunk }] of chunks.entries()) {
      if (i < chunks.length - 1) this.#socket.write(chunk)
      else this.#socket.write(chunk, done)
    }
    this.#socket.uncork()
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done())
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#rest = NOTHING
    this.#socket.destroy()
    done(error)
  }

  #onData(chunk: Buffer): void {
    const isLittle = this.#rest.length === 0 && chunk.length <= LITTLE_BYTES
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    this.#goOn(isLittle ? "little" : "rest")
    if (this.#rest.length > 0) this.#socket.pause()
  }

  #goOn(kind: WorkKind): void {
    if (!this.#isWanted || this.#isDue || this.#rest.length === 0) return
    if (!isWorkWaiting() && hasTime()) return this.#handOver()
    this.#isDue = true
    callWhenTime(kind, () => {
      this.#isDue = false
      if (!this.destroyed) this.#handOver()
    })
  }

  #handOver(): void {
    const piece = this.#rest.subarray(0, this.#endOfFrames())
    this.#rest = this.#rest.subarray(piece.length)
    this.#isWanted = false
    this.push(piece)
  }

  /** How many of the received bytes are passed on now. */
  #endOfFrames(): number {
    const bytes = this.#rest
    let frames = 0
    let at = 0
    while (at < bytes.length) {
      if (this.#frameRest > 0) {
        const length = Math.min(this.#frameRest, bytes.length - at)
        this.#frameRest -= length
        at += length
        continue
      }
      if (this.#headBytes === 0 && frames++ === FRAMES) break
      if (this.#headBytes < LENGTH_BYTES) this.#length = this.#length * 256 + (bytes[at] ?? 0)
      at++
      if (++this.#headBytes < HEAD_BYTES) continue
      this.#frameRest = this.#length
      this.#length = 0
      this.#headBytes = 0
    }
    return at
  }
}
