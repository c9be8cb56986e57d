/**
 * A connection of HTTP/2 whose frames are handed over a few at a time, as there is time: thousands of requests may come at once, and
 * node:http2 would begin all of them. What has not had its turn stays unread.
 */
import type { Socket } from "node:net"
import { nextTick } from "node:process"
import { Duplex } from "node:stream"
import { hasTime, type Kind, someoneWaits, whenTime } from "../../Engine/LoopTurn.ts"

/** Frames that are handed over at once: each may begin a request, which takes some 0.3 ms, or end one. */
const FRAMES = 8

/** So many bytes that come at once are a request or a few. */
const LITTLE = 4096

/** Bytes before the first frame. */
const PREFACE_LENGTH = 24

/** Every frame begins with its length and other bytes, so many in all. */
const LENGTH_BYTES = 3
const HEAD_BYTES = 9

const NOTHING = Buffer.alloc(0)

export class Http2Flow extends Duplex {
  readonly #socket: Socket
  /** What has come and was not handed over. */
  #rest: Buffer = NOTHING
  #isWanted = false
  #isDue = false
  /** Bytes that are still to come of the frame, of its head that have come, and what they say so far. */
  #left = PREFACE_LENGTH
  #head = 0
  #length = 0

  constructor(socket: Socket) {
    super({ readableHighWaterMark: 1 })
    this.#socket = socket
    socket.on("data", (chunk: Buffer) => this.#onData(chunk))
    // its requests end with it, and those of others at the same time: that takes as long as to begin them
    const end = (): void => whenTime("rest", () => this.destroy())
    socket.on("close", end)
    // a server of HTTP/1.1 keeps what is half open; this protocol knows nothing of the kind
    socket.on("end", end)
  }

  override _read(): void {
    this.#isWanted = true
    if (this.#rest.length === 0) this.#socket.resume()
    // not at once: what the last frames have begun goes on first, and takes its time
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
    const isLittle = this.#rest.length === 0 && chunk.length <= LITTLE
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    this.#goOn(isLittle ? "little" : "rest")
    if (this.#rest.length > 0) this.#socket.pause()
  }

  #goOn(kind: Kind): void {
    if (!this.#isWanted || this.#isDue || this.#rest.length === 0) return
    if (!someoneWaits() && hasTime()) return this.#handOver()
    this.#isDue = true
    whenTime(kind, () => {
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

  /** How much of what has come is handed over now. */
  #endOfFrames(): number {
    const bytes = this.#rest
    let frames = 0
    let at = 0
    while (at < bytes.length) {
      if (this.#left > 0) {
        const length = Math.min(this.#left, bytes.length - at)
        this.#left -= length
        at += length
        continue
      }
      if (this.#head === 0 && frames++ === FRAMES) break
      if (this.#head < LENGTH_BYTES) this.#length = this.#length * 256 + (bytes[at] ?? 0)
      at++
      if (++this.#head < HEAD_BYTES) continue
      this.#left = this.#length
      this.#length = 0
      this.#head = 0
    }
    return at
  }
}
