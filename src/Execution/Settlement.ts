/**
 * The order in which a handler receives the outcomes of its steps.
 *
 * Outcomes are delivered one at a time. All consequences of an outcome (promise continuations, woken fibers) run
 * before the next outcome is delivered, so that `Promise.race` and the like decide the same in a replay. The outcomes
 * in the journal go first, in the journal's order. New outcomes follow in the order of their reports, which becomes the
 * order of the journal.
 */
import { Heap } from "./Heap.ts"
import { queueMicrotask, setImmediate } from "../RealTimers.ts"

/** An outcome on its way to the handler. */
export interface PendingOutcome {
  /** Index in the journal; for a new outcome the length of the journal. */
  readonly rank: number
  position: number
  /**
   * Delivers the outcome. Cleared when the handler no longer wants the outcome. The outcome keeps its place in the
   * order.
   */
  deliver: (() => void) | undefined
  /** False until the engine's answer brings the outcome. The outcomes after it in the order wait too. */
  isReady: boolean
  /** Whether the outcome is delivered only once the handler and its steps have come to rest. */
  readonly waitsForRest: boolean
}

/** Calls `fn` after `turns` turns of the event loop, promise continuations included. */
export const afterEventLoopTurns = (turns: number, fn: () => void): void => {
  setImmediate(turns > 1 ? () => afterEventLoopTurns(turns - 1, fn) : fn)
}

export class Settlement {
  readonly #journalLength: number
  readonly #loopTurnsToDrain: number
  readonly #onIdle: () => void
  /** Outcomes of the journal for which the handler has made its call. */
  readonly #requested = new Heap<PendingOutcome>()
  #newOutcomes: Array<PendingOutcome> = []
  /** Has a 1 for each entry of the journal that is settled. */
  readonly #settled: Uint8Array
  /** The first entry of the journal that is not settled. */
  #firstUnsettled = 0
  /**
   * Whether the handler has had `loopTurnsToDrain` more turns of the event loop in which to call the step of an earlier
   * entry of the journal.
   */
  #hasWaitedOnce = false
  #caughtUp: boolean
  #isDraining = false
  /** How many calls of `pauseWhile` go on. */
  #pauseCount = 0
  #isPumping = false

  /**
   * `loopTurnsToDrain` is the number of turns of the event loop until all consequences of an outcome have run. `onIdle`
   * is called when no outcome can be delivered, and all consequences of the last delivered outcome have run.
   */
  constructor(journalLength: number, loopTurnsToDrain: number, onIdle: () => void) {
    this.#journalLength = journalLength
    this.#loopTurnsToDrain = loopTurnsToDrain
    this.#onIdle = onIdle
    this.#settled = journalLength === 0 ? noBytes : new Uint8Array(journalLength)
    this.#caughtUp = journalLength === 0
  }

  /** Whether no outcome waits: neither to be delivered, nor for the answer to its report. */
  get isEmpty(): boolean {
    return this.#requested.size === 0 && this.#newOutcomes.length === 0
  }

  /**
   * Whether the handler has received the journal's outcomes for all its calls, so that new steps may begin. If the
   * journal has entries of other steps, this becomes true only `loopTurnsToDrain` turns of the event loop later: the
   * handler may be about to call one of those steps.
   */
  get isCaughtUp(): boolean {
    return this.#caughtUp
  }

  /** Whether all consequences of the last outcome have run. */
  get isDrained(): boolean {
    return !this.#isDraining
  }

  /** Whether the handler has not yet received all outcomes in the journal. */
  get isReplaying(): boolean {
    return this.#firstUnsettled < this.#journalLength
  }

  /**
   * Queues the journal's entry at `rank`, for which the handler has made its call.
   */
  request(rank: number, deliver: () => void, waitsForRest = false): PendingOutcome {
    const item: PendingOutcome = { rank, position: -1, deliver, isReady: true, waitsForRest }
    this.#requested.add(item)
    this.#caughtUp = false
    this.#hasWaitedOnce = false
    this.#pumpSoon()
    return item
  }

  /**
   * Adds a new outcome. With `isReady`, the outcome was reported. Without `isReady`, the engine's answer to a report
   * will bring the outcome.
   */
  add(deliver: () => void, isReady: boolean): PendingOutcome {
    const item: PendingOutcome = {
      rank: this.#journalLength,
      position: -1,
      deliver,
      isReady,
      waitsForRest: false
    }
    this.#newOutcomes.push(item)
    return item
  }

  /** Drops an outcome that the handler no longer wants. */
  drop(item: PendingOutcome): void {
    item.deliver = undefined
    if (item.position < 0) return
    this.#requested.remove(item)
    this.markSettled(item.rank)
  }

  /**
   * Marks the journal's entry at `rank` as settled: its outcome was delivered or dropped, or the handler will not call
   * its step.
   */
  markSettled(rank: number): void {
    if (rank >= this.#journalLength) return
    this.#settled[rank] = 1
    while (this.#firstUnsettled < this.#journalLength && this.#settled[this.#firstUnsettled] === 1)
      this.#firstUnsettled++
  }

  /** Delivers nothing while `fn` runs. */
  pauseWhile(fn: () => void): void {
    this.#pauseCount++
    fn()
    this.#pauseCount--
  }

  /** Forgets all outcomes that wait to be delivered. */
  clear(): void {
    this.#requested.clear()
    this.#newOutcomes = []
  }

  /** Ends delivery for good. */
  close(): void {
    this.#pauseCount = Number.POSITIVE_INFINITY
    this.clear()
  }

  /** Delivers as soon as the caller has run: in a race of effects, the caller has yet to start the other effects. */
  #pumpSoon(): void {
    if (this.#isDraining || this.#isPumping) return
    this.#isPumping = true
    queueMicrotask(this.#pumpNow)
  }

  readonly #pumpNow = (): void => {
    this.#isPumping = false
    this.pump()
  }

  /** Delivers the next outcome if it may be delivered now. */
  pump(): void {
    if (this.#isDraining || this.#pauseCount > 0) return
    if (!this.#caughtUp && this.#requested.size === 0) {
      if (this.isReplaying && !this.#hasWaitedOnce) {
        this.#waitOnce()
        return
      }
      this.#caughtUp = true
    }
    const item = this.#requested.peek() ?? this.#newOutcomes[0]
    if (item === undefined || !item.isReady) {
      this.#onIdle()
      return
    }
    // the handler may still be about to call a step whose entry is earlier in the journal
    if ((item.waitsForRest || this.#firstUnsettled < item.rank) && !this.#hasWaitedOnce) {
      this.#waitOnce()
      return
    }
    this.#hasWaitedOnce = false
    if (item.rank < this.#journalLength) {
      this.#requested.remove(item)
      this.markSettled(item.rank)
    } else {
      this.#newOutcomes.shift()
    }
    this.#drain()
    item.deliver?.()
  }

  #waitOnce(): void {
    this.#hasWaitedOnce = true
    this.#drain()
  }

  #drain(): void {
    this.#isDraining = true
    afterEventLoopTurns(this.#loopTurnsToDrain, this.#drained)
  }

  readonly #drained = (): void => {
    this.#isDraining = false
    this.pump()
  }
}

const noBytes = new Uint8Array(0)
