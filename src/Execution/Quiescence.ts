/**
 * Decides when a turn is over although its handler has not ended: when nothing runs, something is waited for,
 * and the handler shows no activity.
 *
 * This is a guess, since the handler may await something outside of steps. So the turn is checked again after
 * two turns of the event loop, and, if its job has a linger time, once more after that. Activity in between
 * starts the checks anew.
 */
import { afterEventLoopTurns } from "./Settlement.ts"
import type { TurnHost } from "./TurnHost.ts"

/** The state of a turn in which no code runs and all reports are durable. */
export interface Activity {
  /** How many parallel calls await the end of their running steps. */
  readonly closings: number
  /** How many held calls ask the engine to perform a step. */
  readonly heldOps: number
  /** How many held calls have code to run. */
  readonly heldCode: number
  /** How many steps have an outcome that only a later turn will know. */
  readonly deferred: number
  /** How many calls are suspended. */
  readonly waiting: number
  /** How many calls stay pending for the rest of this turn. */
  readonly shelved: number
  /** Whether all outcomes were delivered, and all consequences of the last one have run. */
  readonly isSettled: boolean
  readonly isPausing: boolean
  readonly isWrappingUp: boolean
}

/**
 * Judges the turn by its activity, which is `undefined` while code runs or a report is in flight. `"quiet"`:
 * the turn only waits. `"release"`: the handler wants to begin more than this turn allows, so the run is
 * released. `"busy"`: neither. With `rebuilding` the handler only runs to register its compensations: then it
 * also counts as waiting when all of its pending calls are shelved.
 */
export const classifyActivity = (
  activity: Activity | undefined,
  rebuilding: boolean
): "busy" | "quiet" | "release" => {
  if (activity === undefined) return "busy"
  const { deferred, heldCode, heldOps, isPausing, isWrappingUp, shelved, waiting } = activity
  const isStill = activity.closings === 0 && (heldOps === 0 || isPausing) && activity.isSettled
  if (!isStill) return "busy"
  const wantsMore = heldCode > 0 || heldOps > 0 || deferred > 0
  if (wantsMore && (isPausing || isWrappingUp)) return "release"
  return heldCode === 0 && (waiting > 0 || (shelved > 0 && rebuilding)) ? "quiet" : "busy"
}

/** The part of the turn that this class uses. */
export interface QuiescenceOwner {
  /** A count that grows with each activity of the handler. */
  readonly life: number
  readonly isQuiet: boolean
  /** Called when the turn has been quiet for long enough. */
  readonly fellQuiet: () => void
}

export class Quiescence {
  readonly #owner: QuiescenceOwner
  /** How long a turn that seems quiet lingers, in milliseconds. */
  readonly #lingerMs: number
  readonly #host: Pick<TurnHost, "alarm" | "clock">
  /** Whether the turn was quiet, and a further check is scheduled. */
  #looking = false
  /** The activity count when the turn was last seen quiet. */
  #seenLife = 0
  #cancelLinger: (() => void) | undefined = undefined
  #over = false

  constructor(owner: QuiescenceOwner, lingerMs: number, host: Pick<TurnHost, "alarm" | "clock">) {
    this.#owner = owner
    this.#lingerMs = lingerMs
    this.#host = host
  }

  /** Checks whether the turn is quiet. Called whenever something has come to rest. */
  check(): void {
    if (!this.#owner.isQuiet) return
    const life = this.#owner.life
    if (this.#looking) {
      // During the linger, activity restarts it. Before the linger, the scheduled check comes at once, and
      // sees the activity itself.
      if (this.#cancelLinger === undefined || this.#seenLife === life) return
      this.#endLinger()
    }
    this.#looking = true
    this.#seenLife = life
    afterEventLoopTurns(2, () => this.#lookAgain(life, () => this.#linger(life)))
  }

  /** Stops checking, since the turn ends in another way. */
  stop(): void {
    this.#over = true
    this.#endLinger()
  }

  #linger(life: number): void {
    if (this.#lingerMs <= 0) {
      this.#owner.fellQuiet()
      return
    }
    this.#looking = true
    const { alarm, clock } = this.#host
    this.#cancelLinger = alarm.at(clock.currentTimeMillisUnsafe() + this.#lingerMs, () => {
      this.#cancelLinger = undefined
      this.#lookAgain(life, () => this.#owner.fellQuiet())
    })
  }

  #endLinger(): void {
    this.#cancelLinger?.()
    this.#cancelLinger = undefined
  }

  #lookAgain(life: number, then: () => void): void {
    this.#looking = false
    if (this.#over) return
    if (life === this.#owner.life && this.#owner.isQuiet) then()
    else this.check()
  }
}
