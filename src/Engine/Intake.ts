/**
 * What has come of bodies, frames and messages that are not whole yet, or are being worked on, over all connections. There is
 * so much memory for it. Whoever needs more waits unread until others are done, or have been sent away because they take too long.
 */
import type * as Clock from "effect/Clock"
import { type IronflowError, UnavailableError } from "../Errors.ts"
import type { After } from "../Execution/Alarm.ts"

/** Bytes of all of them. */
const INTAKE_BYTES = 24 * 1024 * 1024

/** Bytes of those of one connection. */
const LINE_BYTES = 16 * 1024 * 1024

/**
 * Bytes of those that are whole and worked on at once: what is made of them is several times as large. One may be larger; the
 * others wait for their turn.
 */
const WORK_BYTES = 4 * 1024 * 1024

/** What comes at once from somebody who is let go on, bytes. */
const PIECE = 64 * 1024

/** How often those who wait are looked after, milliseconds. */
const LOOK_MS = 250

/** While others wait: how long nothing may come, milliseconds. */
const STALLED_MS = 1000

/** While others wait: how long one may take to come, and may wait itself, milliseconds. */
const SLOW_MS = 5000

/** What comes. */
export interface Source {
  /** Reads no more of it. */
  readonly pause: () => void
  readonly resume: () => void
  /** There is no room: it is over. */
  readonly refuse: (error: IronflowError) => void
}

export class Intake {
  readonly #nowMs: () => number
  readonly #after: After
  #held = 0
  /** The oldest first. */
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

  /** Something begins to come on a connection. */
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

  /** The oldest one always goes on: otherwise all could wait for each other. */
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

/** Something that comes, until whoever it is for is done with it. */
export class Arrival {
  readonly line: object
  readonly source: Source
  /** Milliseconds of a clock that only goes on. */
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

  /** So many bytes of it are held now. Its source may be paused by that. */
  hold(bytes: number): void {
    this.#intake.hold(this, bytes)
  }

  /** All of it has come; it is worked on when it is its turn, and counts until it ends. */
  isWhole(onTurn: () => void): void {
    this.#intake.work(this, onTurn)
  }

  end(): void {
    this.#intake.end(this)
  }
}

const busy = (): IronflowError =>
  new UnavailableError(
    "The engine is busy with what others send, and this took too long to come: send it again in a moment",
    { code: "SERVER_BUSY" }
  )
