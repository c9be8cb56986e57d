/**
 * Decides when a turn is over although its handler has not ended: when nothing runs, the handler waits for something,
 * and it shows no activity.
 *
 * This is a guess, since the handler may await something outside of steps. So the turn is checked again after the event
 * loop has gone round twice, and once more after the linger time of its job, if the job has one. Activity in between
 * starts the checks anew.
 */
import { afterEventLoopTurns } from "./Settlement.ts"
import type { TurnHost } from "./TurnHost.ts"

/** The state of a turn in which no code runs and all reports are durable. A call that may not begin yet is held. */
export interface Activity {
  /** How many parallel calls await the end of their running steps. */
  readonly closings: number
  /** How many held calls ask the engine to perform a step. */
  readonly heldOps: number
  /** How many held calls have code to run. */
  readonly heldCode: number
  /** How many steps have an outcome that becomes known only in a later turn. */
  readonly deferred: number
  /** How many calls are suspended. */
  readonly suspended: number
  /** How many calls stay pending for the rest of this turn. */
  readonly shelved: number
  /** Whether all outcomes were delivered, and all consequences of the last one have run. */
  readonly isSettled: boolean
  /** Whether the run is to be paused, so that nothing begins. */
  readonly isPausing: boolean
  /** Whether no more code begins in this turn. */
  readonly isWrappingUp: boolean
}

/**
 * Judges the turn by `activity`, which is `undefined` while code runs or a report is in flight. `"quiet"`: the turn
 * only waits. `"release"`: the handler wants to begin more than this turn allows, so the run is released. `"busy"`:
 * anything else. With `isRebuilding`, the handler only runs to register its compensations. Such a turn is also quiet
 * when all pending calls of the handler are shelved.
 */
export const classifyActivity = (
  activity: Activity | undefined,
  isRebuilding: boolean
): "busy" | "quiet" | "release" => {
  if (activity === undefined) return "busy"
  const { deferred, heldCode, heldOps, isPausing, isWrappingUp, shelved, suspended } = activity
  const isStill = activity.closings === 0 && (heldOps === 0 || isPausing) && activity.isSettled
  if (!isStill) return "busy"
  const wantsMore = heldCode > 0 || heldOps > 0 || deferred > 0
  if (wantsMore && (isPausing || isWrappingUp)) return "release"
  return heldCode === 0 && (suspended > 0 || (shelved > 0 && isRebuilding)) ? "quiet" : "busy"
}

/** The part of the turn that this class uses. */
export interface QuiescenceOwner {
  /** A count that grows with each activity of the handler. */
  readonly activityCount: number
  /** Whether the turn only waits at this moment. */
  readonly isQuiet: boolean
  /** Called when the turn has been quiet for long enough. */
  readonly onQuiet: () => void
}

export class Quiescence {
  readonly #owner: QuiescenceOwner
  /** How long a turn that seems quiet lingers, in milliseconds. */
  readonly #lingerMs: number
  readonly #host: Pick<TurnHost, "alarm" | "clock">
  /** Whether a further check is scheduled, since the turn was quiet. */
  #willCheckAgain = false
  /** The activity count when the turn was last seen quiet. */
  #activityAtCheck = 0
  #cancelLinger: (() => void) | undefined = undefined
  #isStopped = false

  constructor(owner: QuiescenceOwner, lingerMs: number, host: Pick<TurnHost, "alarm" | "clock">) {
    this.#owner = owner
    this.#lingerMs = lingerMs
    this.#host = host
  }

  /** Checks whether the turn is quiet. Called whenever nothing more can be done at once. */
  check(): void {
    if (!this.#owner.isQuiet) return
    const activityCount = this.#owner.activityCount
    if (this.#willCheckAgain) {
      // During the linger, activity starts the checks anew. Before the linger, the scheduled check comes soon, and
      // sees the activity itself.
      if (this.#cancelLinger === undefined || this.#activityAtCheck === activityCount) return
      this.#endLinger()
    }
    this.#willCheckAgain = true
    this.#activityAtCheck = activityCount
    afterEventLoopTurns(2, () => this.#checkAgain(activityCount, () => this.#linger(activityCount)))
  }

  /** Stops checking, since the turn ends in another way. */
  stop(): void {
    this.#isStopped = true
    this.#endLinger()
  }

  #linger(activityCount: number): void {
    if (this.#lingerMs <= 0) {
      this.#owner.onQuiet()
      return
    }
    this.#willCheckAgain = true
    const { alarm, clock } = this.#host
    this.#cancelLinger = alarm.at(clock.currentTimeMillisUnsafe() + this.#lingerMs, () => {
      this.#cancelLinger = undefined
      this.#checkAgain(activityCount, () => this.#owner.onQuiet())
    })
  }

  #endLinger(): void {
    this.#cancelLinger?.()
    this.#cancelLinger = undefined
  }

  #checkAgain(activityCount: number, onQuiet: () => void): void {
    this.#willCheckAgain = false
    if (this.#isStopped) return
    if (activityCount === this.#owner.activityCount && this.#owner.isQuiet) onQuiet()
    else this.check()
  }
}
