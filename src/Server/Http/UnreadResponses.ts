/**
 * Limits the memory that responses take until clients have read them, over all connections. When this memory is used up,
 * the clients that have not read for the longest time lose their connections. A large response for which there is still
 * no room is not sent.
 */
import type * as Clock from "effect/Clock"
import { type IronflowError, UnavailableError } from "../../Errors.ts"

/** Maximum number of bytes of unread responses, over all connections. */
const UNREAD_BYTES = 64 * 1024 * 1024

/** How long a client that does not read at all keeps its connection, in milliseconds. */
export const UNREAD_MS = 30_000

/** How long a client may leave a response unread while this memory is used up, in milliseconds. */
const SLOW_MS = 2000

/** At this many unread bytes, nothing more is read from a connection. */
export const CONNECTION_UNREAD_BYTES = 1024 * 1024

/** A response of at most this many bytes is always sent. */
const SMALL_BYTES = 64 * 1024

export class UnreadMemory {
  readonly #nowMs: () => number
  #unreadBytes = 0
  /** The clients with unread bytes, in the order in which they last read something. */
  readonly #buffers = new Set<SendBuffer>()

  constructor(clock: Clock.Clock) {
    this.#nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  /** Whether memory is short. Work that can wait should then wait. */
  get isPressed(): boolean {
    return this.#unreadBytes > UNREAD_BYTES / 2
  }

  /** Registers a client; `cut` ends its connection. */
  sendBuffer(cut: () => void): SendBuffer {
    return new SendBuffer(this, cut)
  }

  /**
   * Returns whether there is room for a response. If there is none, this first ends the connections of clients that
   * have not read for a while. There is always room when no other response is unread.
   */
  makeRoomFor(bytes: number): boolean {
    const hasRoom = (): boolean => this.#unreadBytes === 0 || this.#unreadBytes + bytes <= UNREAD_BYTES
    if (bytes <= SMALL_BYTES || hasRoom()) return true
    const now = this.#nowMs()
    for (const buffer of this.#buffers) {
      if (now - buffer.lastReadAt < SLOW_MS) break
      buffer.set(0)
      buffer.cut()
      if (hasRoom()) return true
    }
    return false
  }

  set(buffer: SendBuffer, bytes: number): void {
    const previousBytes = buffer.bytes
    if (bytes === previousBytes) return
    this.#unreadBytes += bytes - previousBytes
    buffer.bytes = bytes
    if (bytes === 0) return void this.#buffers.delete(buffer)
    if (bytes > previousBytes && previousBytes > 0) return
    buffer.lastReadAt = this.#nowMs()
    this.#buffers.delete(buffer)
    this.#buffers.add(buffer)
  }
}

/** Counts the unread bytes of one client. */
export class SendBuffer {
  readonly cut: () => void
  bytes = 0
  /** When the client last read something, or else when something became unread; in milliseconds of a monotonic clock. */
  lastReadAt = 0
  readonly #unread: UnreadMemory

  constructor(unread: UnreadMemory, cut: () => void) {
    this.#unread = unread
    this.cut = cut
  }

  /** Sets the number of unread bytes. */
  set(bytes: number): void {
    this.#unread.set(this, bytes)
  }
}

/** The error that is sent in place of a response for which there is no room. */
export const tooManyUnreadError = (): IronflowError =>
  new UnavailableError(
    "The engine has no memory left for this answer, since too many answers were not read by their clients: try again in a moment",
    { code: "SERVER_BUSY" }
  )
