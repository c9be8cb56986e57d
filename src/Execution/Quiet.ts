/**
 * When a turn is over although its handler has not ended: nothing runs, something is waited for, and the handler gives no sign of
 * life any more.
 *
 * That is a judgement, since the handler may await something outside of steps. So the turn is looked at again after two rounds of
 * the event loop, and once more after the time that its run is given to linger; a sign of life in between begins this anew.
 */
import { afterEventLoopTurns } from "./Settlement.ts"
import type { TurnHost } from "./TurnHost.ts"

/** What is under way in a turn in which no code runs, and all that it has reported is durable. */
export interface Activity {
  /** Parallel calls that await the end of their running steps. */
  readonly closings: number
  /** Calls for the engine that may not begin yet, and those for code. */
  readonly heldOps: number
  readonly heldCode: number
  /** Steps whose outcomes only another turn will know. */
  readonly deferred: number
  /** Suspended calls. */
  readonly waiting: number
  /** Calls that stay pending for good in this turn. */
  readonly shelved: number
  /** Whether the handler was given all outcomes, and all that followed from the last one has run. */
  readonly isSettled: boolean
  readonly isPausing: boolean
  readonly isWrappingUp: boolean
}

/**
 * What the activity says about the turn; there is none while code runs or a report is on its way. `"quiet"`: it only waits. `"release"`: the handler wants more than this turn may
 * begin, so the run goes back. `"busy"`: neither. `rebuilding` says that the handler runs to register its compensations, for
 * which all its calls may be pending.
 */
export const judge = (activity: Activity | undefined, rebuilding: boolean): "busy" | "quiet" | "release" => {
  if (activity === undefined) return "busy"
  const { deferred, heldCode, heldOps, isPausing, isWrappingUp, shelved, waiting } = activity
  const isStill = activity.closings === 0 && (heldOps === 0 || isPausing) && activity.isSettled
  if (!isStill) return "busy"
  const wantsMore = heldCode > 0 || heldOps > 0 || deferred > 0
  if (wantsMore && (isPausing || isWrappingUp)) return "release"
  return heldCode === 0 && (waiting > 0 || (shelved > 0 && rebuilding)) ? "quiet" : "busy"
}

/** What it looks at. */
export interface QuietOwner {
  /** Counts the signs of life of the handler. */
  readonly life: number
  readonly isQuiet: boolean
  /** It has been quiet for long enough. */
  readonly fellQuiet: () => void
}

export class Quiet {
  readonly #owner: QuietOwner
  /** How long a turn that seems quiet is given, milliseconds. */
  readonly #lingerMs: number
  readonly #host: Pick<TurnHost, "alarm" | "clock">
  /** Whether it was quiet, and is going to be looked at again. */
  #looking = false
  /** The signs of life when it was quiet. */
  #seenLife = 0
  #cancelLinger: (() => void) | undefined = undefined
  #over = false

  constructor(owner: QuietOwner, lingerMs: number, host: Pick<TurnHost, "alarm" | "clock">) {
    this.#owner = owner
    this.#lingerMs = lingerMs
    this.#host = host
  }

  /** Something has come to rest: looks whether everything has. */
  check(): void {
    if (!this.#owner.isQuiet) return
    const life = this.#owner.life
    if (this.#looking) {
      // A sign of life starts the linger anew. The look before it is over in no time and sees for itself.
      if (this.#cancelLinger === undefined || this.#seenLife === life) return
      this.#endLinger()
    }
    this.#looking = true
    this.#seenLife = life
    afterEventLoopTurns(2, () => this.#lookAgain(life, () => this.#linger(life)))
  }

  /** The turn is over in another way. */
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
