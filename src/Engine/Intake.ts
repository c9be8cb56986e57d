/**
 * Limits the memory for incomplete and currently processed bodies, frames and messages of all connections. When it is used up,
 * further input waits unread until others are done, or are rejected because they take too long.
 */
import type * as Clock from "effect/Clock"
import { type IronflowError, UnavailableError } from "../Errors.ts"
import type { After } from "../Execution/Alarm.ts"

/** Most bytes of all of them. */
const INTAKE_BYTES = 24 * 1024 * 1024

/** Most bytes of one connection. */
const LINE_BYTES = 16 * 1024 * 1024

/**
 * Most bytes of complete input that is processed at once, since parsed data is several times as large. A single one may be
 * larger; the others wait for their turn.
 */
const WORK_BYTES = 4 * 1024 * 1024

/** Bytes that may arrive at once from a source that was resumed. */
const PIECE = 64 * 1024

/** How often waiting sources are checked, milliseconds. */
const LOOK_MS = 250

/** While others wait: how long a source may send nothing, milliseconds. */
const STALLED_MS = 1000

/** While others wait: how long input may take to arrive, and how long it may wait itself, milliseconds. */
const SLOW_MS = 5000

/** A source of input. */
export interface Source {
  /** Stops reading. */
  readonly pause: () => void
  readonly resume: () => void
  /** Rejects the input: there is no room. */
  readonly refuse: (error: IronflowError) => void
}

export class Intake {
  readonly #nowMs: () => number
  readonly #after: After
  #held = 0
  /** Oldest first. */
  readonly #arrivals = new Set<Arrival>()
  readonly #byLine = new WeakMap<object, number>()
  #waiting = 0
  #working = 0
  readonly #queue: Array<{ readonly arrival: Arrival; readonly onTurn: () => void }> = []
  #isWatching = false

  constructor(clock: Clock.Clock, after: After) {
    this.#nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    this.#after = after
  }

  /** Bytes that are held now. */
  get held(): number {
    return this.#held
  }

  /** Begins an input on a connection. */
  begin(line: object, source: Source): Arrival {
    const arrival = new Arrival(this, line, source, this.#nowMs())
    this.#arrivals.add(arrival)
    return arrival
  }

  hold(arrival: Arrival, bytes: number): void {
    if (arrival.state === "over") return
    arrival.movedAt = this.#nowMs()
    this.#count(arrival, bytes)
    if (arrival.state !== "coming" || this.#hasRoom(arrival, 0)) return
    arrival.state = "waiting"
    this.#waiting++
    arrival.source.pause()
    this.#watch()
  }

  work(arrival: Arrival, onTurn: () => void): void {
    if (arrival.state === "over") return
    if (arrival.state === "waiting") this.#waiting--
    arrival.state = "whole"
    this.#queue.push({ arrival, onTurn })
    this.#next()
  }

  end(arrival: Arrival): void {
    const { held, state } = arrival
    if (state === "over") return
    arrival.state = "over"
    this.#arrivals.delete(arrival)
    this.#count(arrival, 0)
    if (state === "waiting") this.#waiting--
    if (state === "worked on") this.#working -= held
    this.#next()
    if (this.#waiting > 0) this.#goOn()
  }

  #next(): void {
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const { arrival, onTurn } = first
      if (arrival.state === "whole") {
        if (this.#working > 0 && this.#working + arrival.held > WORK_BYTES) return
        arrival.state = "worked on"
        this.#working += arrival.held
      }
      this.#queue.shift()
      if (arrival.state === "worked on") onTurn()
    }
  }

  #count(arrival: Arrival, bytes: number): void {
    const { held, line } = arrival
    this.#held += bytes - held
    this.#byLine.set(line, (this.#byLine.get(line) ?? 0) + bytes - held)
    arrival.held = bytes
  }

  /** Whether more may be held. The oldest input may always go on: otherwise all could wait for each other. */
  #hasRoom(arrival: Arrival, more: number): boolean {
    const isFree =
      this.#held + more <= INTAKE_BYTES && (this.#byLine.get(arrival.line) ?? 0) + more <= LINE_BYTES
    return isFree || this.#arrivals.values().next().value === arrival
  }

  #goOn(): void {
    let more = 0
    for (const arrival of this.#arrivals) {
      if (arrival.state !== "waiting" || !this.#hasRoom(arrival, more + PIECE)) continue
      more += PIECE
      arrival.state = "coming"
      this.#waiting--
      arrival.movedAt = this.#nowMs()
      arrival.source.resume()
    }
  }

  #watch(): void {
    if (this.#isWatching) return
    this.#isWatching = true
    this.#after(LOOK_MS, () => {
      this.#isWatching = false
      const now = this.#nowMs()
      for (const arrival of this.#arrivals) {
        if (this.#waiting === 0) return
        const { begunAt, movedAt, source, state } = arrival
        const isSlow = now - begunAt >= SLOW_MS
        const isStalled = state === "coming" && now - movedAt >= STALLED_MS
        if ((state !== "coming" && state !== "waiting") || !(isSlow || isStalled)) continue
        arrival.end()
        source.refuse(busy())
      }
      if (this.#waiting > 0) {
        this.#goOn()
        this.#watch()
      }
    })
  }
}

/** An input, from its first byte until its receiver is done with it. */
export class Arrival {
  readonly line: object
  readonly source: Source
  /** Monotonic time, milliseconds. */
  readonly begunAt: number
  movedAt: number
  held = 0
  state: "coming" | "waiting" | "whole" | "worked on" | "over" = "coming"
  readonly #intake: Intake

  constructor(intake: Intake, line: object, source: Source, now: number) {
    this.#intake = intake
    this.line = line
    this.source = source
    this.begunAt = now
    this.movedAt = now
  }

  /** Adds held bytes, which may pause the source. */
  hold(bytes: number): void {
    this.#intake.hold(this, bytes)
  }

  /** The input is complete. It is processed when it is its turn, and counts until it ends. */
  isWhole(onTurn: () => void): void {
    this.#intake.work(this, onTurn)
  }

  end(): void {
    this.#intake.end(this)
  }
}

const busy = (): IronflowError =>
  new UnavailableError(
    "The engine is busy with other requests, and this one took too long to arrive: send it again in a moment",
    { code: "SERVER_BUSY" }
  )
