/**
 * Answers that clients have not read yet, over all connections. There is so much memory for them: when it is used up, whoever has
 * left an answer unread for long is cut, and a large answer for which there is still no room is not given.
 */
import type * as Clock from "effect/Clock"
import { type IronflowError, UnavailableError } from "../../Errors.ts"

/** Bytes of all answers that wait to be read. */
const UNREAD_BYTES = 64 * 1024 * 1024

/** How long a client that does not read at all keeps its connection, milliseconds. */
export const UNREAD_MS = 30_000

/** While there is no room: how long an answer may take to be read, milliseconds. */
const SLOW_MS = 2000

/** What a connection may leave unread before nothing more is taken from it, bytes. */
export const LINE_UNREAD_BYTES = 1024 * 1024

/** Answers of so many bytes are always given. */
const SMALL = 64 * 1024

export class Unread {
  readonly #nowMs: () => number
  #held = 0
  /** Those that hold something; the one that has moved last comes last. */
  readonly #lines = new Set<Line>()

  constructor(clock: Clock.Clock) {
    this.#nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  /** Whether there is hardly room for more: what can wait does. */
  get isPressed(): boolean {
    return this.#held > UNREAD_BYTES / 2
  }

  /** Somebody who will be answered; `cut` ends the connection. */
  line(cut: () => void): Line {
    return new Line(this, cut)
  }

  /** Whether there is room for an answer. One alone may be as large as it likes. */
  hasRoomFor(bytes: number): boolean {
    const isRoom = (): boolean => this.#held === 0 || this.#held + bytes <= UNREAD_BYTES
    if (bytes <= SMALL || isRoom()) return true
    const now = this.#nowMs()
    for (const line of this.#lines) {
      if (now - line.movedAt < SLOW_MS) break
      line.set(0)
      line.cut()
      if (isRoom()) return true
    }
    return false
  }

  set(line: Line, bytes: number): void {
    const before = line.bytes
    if (bytes === before) return
    this.#held += bytes - before
    line.bytes = bytes
    if (bytes === 0) return void this.#lines.delete(line)
    if (bytes > before && before > 0) return
    line.movedAt = this.#nowMs()
    this.#lines.delete(line)
    this.#lines.add(line)
  }
}

/** What one client has not read. */
export class Line {
  readonly cut: () => void
  bytes = 0
  movedAt = 0
  readonly #unread: Unread

  constructor(unread: Unread, cut: () => void) {
    this.#unread = unread
    this.cut = cut
  }

  /** So many bytes wait now. */
  set(bytes: number): void {
    this.#unread.set(this, bytes)
  }
}

/** What is said instead. */
export const noRoom = (): IronflowError =>
  new UnavailableError(
    "The engine keeps more answers that others do not read than it has room for: ask again in a moment",
    { code: "SERVER_BUSY" }
  )
