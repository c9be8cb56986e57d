/**
 * Limits the memory that input (bodies, frames, messages) of all connections takes while it is incomplete or being processed. When
 * the memory is used up, further input is not read until other input is done. While inputs wait, an input that takes too long to
 * arrive is rejected.
 */
import type * as Clock from "effect/Clock"
import { type IronflowError, UnavailableError } from "../Errors.ts"
import type { ScheduleTimeout } from "../Execution/Alarm.ts"

/** When the input of all connections together holds this many bytes, further input waits. The oldest input may always go on. */
const INPUT_BYTES = 24 * 1024 * 1024

/** When the input of one connection holds this many bytes, further input of this connection waits. */
const CONNECTION_BYTES = 16 * 1024 * 1024

/**
 * Maximum number of bytes of complete input that is processed at once, because parsed data is several times as large. Further
 * complete input waits until it is admitted. An input that is larger than this is processed alone.
 */
const WORK_BYTES = 4 * 1024 * 1024

/** How many bytes may arrive at once from a source that was resumed. */
const PIECE_BYTES = 64 * 1024

/** How often incomplete inputs are checked while some of them wait, in milliseconds. */
const CHECK_MS = 250

/** How long a source may send nothing while other input waits, in milliseconds. */
const STALLED_MS = 1000

/**
 * How long an input may take to arrive while other input waits, in milliseconds. The time in which the source of the input was
 * paused counts too.
 */
const SLOW_MS = 5000

/** A source of input. */
export interface Source {
  /** Stops reading. */
  readonly pause: () => void
  /** Goes on reading. */
  readonly resume: () => void
  /** Rejects the input, because there is no room for it. */
  readonly refuse: (error: IronflowError) => void
}

export class InputBudget {
  readonly #nowMs: () => number
  readonly #after: ScheduleTimeout
  /** How many bytes all inputs hold. */
  #heldBytes = 0
  /** All inputs, oldest first. */
  readonly #inputs = new Set<PendingInput>()
  /** How many bytes the inputs of each connection hold. */
  readonly #heldByConnection = new WeakMap<object, number>()
  /** How many inputs have the state `waiting`. */
  #waitingCount = 0
  /** How many bytes the inputs with the state `processing` hold. */
  #processingBytes = 0
  /** Complete inputs that are not admitted yet, oldest first. */
  readonly #queue: Array<{ readonly input: PendingInput; readonly onAdmitted: () => void }> = []
  #isWatching = false

  constructor(clock: Clock.Clock, after: ScheduleTimeout) {
    this.#nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    this.#after = after
  }

  /** How many bytes all inputs hold now. */
  get held(): number {
    return this.#heldBytes
  }

  /** Begins an input on a connection. */
  begin(connection: object, source: Source): PendingInput {
    const input = new PendingInput(this, connection, source, this.#nowMs())
    this.#inputs.add(input)
    return input
  }

  setHeld(input: PendingInput, bytes: number): void {
    if (input.state === "ended") return
    input.movedAt = this.#nowMs()
    this.#setBytes(input, bytes)
    if (input.state !== "arriving" || this.#hasRoom(input, 0)) return
    input.state = "waiting"
    this.#waitingCount++
    input.source.pause()
    this.#watch()
  }

  complete(input: PendingInput, onAdmitted: () => void): void {
    if (input.state === "ended") return
    if (input.state === "waiting") this.#waitingCount--
    input.state = "complete"
    this.#queue.push({ input, onAdmitted })
    this.#admit()
  }

  end(input: PendingInput): void {
    const { held, state } = input
    if (state === "ended") return
    input.state = "ended"
    this.#inputs.delete(input)
    this.#setBytes(input, 0)
    if (state === "waiting") this.#waitingCount--
    if (state === "processing") this.#processingBytes -= held
    this.#admit()
    if (this.#waitingCount > 0) this.#resumeWaiting()
  }

  /** Admits complete inputs, oldest first, as long as there is room for them. */
  #admit(): void {
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const { input, onAdmitted } = first
      if (input.state === "complete") {
        if (this.#processingBytes > 0 && this.#processingBytes + input.held > WORK_BYTES) return
        input.state = "processing"
        this.#processingBytes += input.held
      }
      this.#queue.shift()
      if (input.state === "processing") onAdmitted()
    }
  }

  #setBytes(input: PendingInput, bytes: number): void {
    const { held, connection } = input
    this.#heldBytes += bytes - held
    this.#heldByConnection.set(connection, (this.#heldByConnection.get(connection) ?? 0) + bytes - held)
    input.held = bytes
  }

  /**
   * Whether an input may hold `more` additional bytes. The oldest input always may, because otherwise all inputs could wait for
   * each other.
   */
  #hasRoom(input: PendingInput, more: number): boolean {
    const isFree =
      this.#heldBytes + more <= INPUT_BYTES &&
      (this.#heldByConnection.get(input.connection) ?? 0) + more <= CONNECTION_BYTES
    return isFree || this.#inputs.values().next().value === input
  }

  #resumeWaiting(): void {
    let resumedBytes = 0
    for (const input of this.#inputs) {
      if (input.state !== "waiting" || !this.#hasRoom(input, resumedBytes + PIECE_BYTES)) continue
      resumedBytes += PIECE_BYTES
      input.state = "arriving"
      this.#waitingCount--
      input.movedAt = this.#nowMs()
      input.source.resume()
    }
  }

  /** While inputs wait: rejects incomplete inputs that are slow or stalled, and resumes waiting inputs for which there is room. */
  #watch(): void {
    if (this.#isWatching) return
    this.#isWatching = true
    this.#after(CHECK_MS, () => {
      this.#isWatching = false
      const now = this.#nowMs()
      for (const input of this.#inputs) {
        if (this.#waitingCount === 0) return
        const { begunAt, movedAt, source, state } = input
        const isSlow = now - begunAt >= SLOW_MS
        const isStalled = state === "arriving" && now - movedAt >= STALLED_MS
        if ((state !== "arriving" && state !== "waiting") || !(isSlow || isStalled)) continue
        input.end()
        source.refuse(busyError())
      }
      if (this.#waitingCount > 0) {
        this.#resumeWaiting()
        this.#watch()
      }
    })
  }
}

/** An input, from its first byte until its receiver is done with it. */
export class PendingInput {
  readonly connection: object
  readonly source: Source
  /** When the first byte arrived, in milliseconds of the monotonic clock. */
  readonly begunAt: number
  /** When bytes last arrived or the source was last resumed, in milliseconds of the monotonic clock. */
  movedAt: number
  /** How many bytes the input holds. */
  held = 0
  state: "arriving" | "waiting" | "complete" | "processing" | "ended" = "arriving"
  readonly #inputBudget: InputBudget

  constructor(inputBudget: InputBudget, connection: object, source: Source, now: number) {
    this.#inputBudget = inputBudget
    this.connection = connection
    this.source = source
    this.begunAt = now
    this.movedAt = now
  }

  /** Sets how many bytes the input holds now. This may pause the source. */
  setHeld(bytes: number): void {
    this.#inputBudget.setHeld(this, bytes)
  }

  /**
   * Notes that the input is complete. `onAdmitted` is called when the input may be processed. Its bytes count as held until
   * {@link end}.
   */
  complete(onAdmitted: () => void): void {
    this.#inputBudget.complete(this, onAdmitted)
  }

  end(): void {
    this.#inputBudget.end(this)
  }
}

const busyError = (): IronflowError =>
  new UnavailableError(
    "The engine is busy with other requests, and this one took too long to arrive: send it again in a moment",
    { code: "SERVER_BUSY" }
  )
