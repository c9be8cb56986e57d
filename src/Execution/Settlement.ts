/**
 * The order in which a handler receives the outcomes of its steps.
 *
 * Outcomes are delivered one at a time. All consequences of one (promise continuations, woken fibers) run
 * before the next, so that `Promise.race` and the like decide the same in a replay. The outcomes in the
 * journal go first, in the journal's order. New ones follow in the order of their reports, which becomes the
 * order of the journal.
 */
import { Heap } from "./Heap.ts"
import { queueMicrotask, setImmediate } from "../RealTimers.ts"

/** An outcome on its way to the handler. */
export interface Settling {
  /** Index in the journal; for a new outcome the length of the journal. */
  readonly rank: number
  position: number
  /** Delivers the outcome. Cleared when the handler no longer wants it; its place in the order stays. */
  deliver: (() => void) | undefined
  /** False while the answer with the outcome is awaited. The outcomes behind it wait too. */
  ready: boolean
  /** Whether the outcome is delivered only once all activity has come to rest. */
  readonly last: boolean
}

/** Calls `fn` after `turns` turns of the event loop, promise continuations included. */
export const afterEventLoopTurns = (turns: number, fn: () => void): void => {
  setImmediate(turns > 1 ? () => afterEventLoopTurns(turns - 1, fn) : fn)
}

export class Settlement {
  readonly #recorded: number
  readonly #turnsToDrain: number
  readonly #onIdle: () => void
  /** Outcomes of the journal for which the handler has made its call. */
  readonly #requested = new Heap<Settling>()
  #new: Array<Settling> = []
  /** Which entries of the journal are settled; {@link #lowest} is the first that is not. */
  readonly #settled: Uint8Array
  #lowest = 0
  /** Whether the handler has had one more turn of the event loop to call an entry that comes first. */
  #patient = false
  #caughtUp: boolean
  #draining = false
  #held = 0
  #pumping = false

  /**
   * `recorded` is the length of the journal. `turnsToDrain` is the number of turns of the event loop until all
   * continuations have run. `onIdle` is called when nothing can be delivered and the last outcome has drained.
   */
  constructor(recorded: number, turnsToDrain: number, onIdle: () => void) {
    this.#recorded = recorded
    this.#turnsToDrain = turnsToDrain
    this.#onIdle = onIdle
    this.#settled = recorded === 0 ? empty : new Uint8Array(recorded)
    this.#caughtUp = recorded === 0
  }

  /** Whether no outcome waits to be delivered, or waits for the answer to its report. */
  get isEmpty(): boolean {
    return this.#requested.size === 0 && this.#new.length === 0
  }

  /**
   * Whether the handler has received the journal's outcomes for its calls, so that new steps may begin. When
   * it makes a new call, it may still be about to call a recorded step: it gets one more turn of the event
   * loop.
   */
  get isCaughtUp(): boolean {
    return this.#caughtUp
  }

  /** Whether all consequences of the last outcome have run. */
  get isDrained(): boolean {
    return !this.#draining
  }

  /** Whether the handler has not yet received all outcomes in the journal. */
  get isReplaying(): boolean {
    return this.#lowest < this.#recorded
  }

  /**
   * Queues the journal's entry at `rank`, which the handler has called. For `last` see {@link Settling.last}.
   */
  request(rank: number, deliver: () => void, last = false): Settling {
    const item: Settling = { rank, position: -1, deliver, ready: true, last }
    this.#requested.add(item)
    this.#caughtUp = false
    this.#patient = false
    this.#pumpSoon()
    return item
  }

  /** Adds a new outcome: one that was reported, or one that the answer to a report will bring. */
  add(deliver: () => void, ready: boolean): Settling {
    const item: Settling = { rank: this.#recorded, position: -1, deliver, ready, last: false }
    this.#new.push(item)
    return item
  }

  /** Drops an outcome that the handler no longer wants. */
  drop(item: Settling): void {
    item.deliver = undefined
    if (item.position < 0) return
    this.#requested.remove(item)
    this.markSettled(item.rank)
  }

  /**
   * Marks the journal's entry at `rank` as settled: it was delivered or dropped, or the handler will not call
   * it.
   */
  markSettled(rank: number): void {
    if (rank >= this.#recorded) return
    this.#settled[rank] = 1
    while (this.#lowest < this.#recorded && this.#settled[this.#lowest] === 1) this.#lowest++
  }

  /** Delivers nothing while `fn` runs. */
  pauseWhile(fn: () => void): void {
    this.#held++
    fn()
    this.#held--
  }

  /** Forgets all outcomes that wait to be delivered. */
  clear(): void {
    this.#requested.clear()
    this.#new = []
  }

  /** Ends delivery for good. */
  close(): void {
    this.#held = Number.POSITIVE_INFINITY
    this.clear()
  }

  /** Delivers after the caller has run: in a race of effects, the caller has yet to start the other ones. */
  #pumpSoon(): void {
    if (this.#draining || this.#pumping) return
    this.#pumping = true
    queueMicrotask(this.#pumpNow)
  }

  readonly #pumpNow = (): void => {
    this.#pumping = false
    this.pump()
  }

  /** Delivers the next outcome if it may be delivered now. */
  pump(): void {
    if (this.#draining || this.#held > 0) return
    if (!this.#caughtUp && this.#requested.size === 0) {
      if (this.isReplaying && !this.#patient) {
        this.#beOncePatient()
        return
      }
      this.#caughtUp = true
    }
    const item = this.#requested.peek() ?? this.#new[0]
    if (item === undefined || !item.ready) {
      this.#onIdle()
      return
    }
    // the handler may still be about to call an entry that is earlier in the journal
    if ((item.last || this.#lowest < item.rank) && !this.#patient) {
      this.#beOncePatient()
      return
    }
    this.#patient = false
    if (item.rank < this.#recorded) {
      this.#requested.remove(item)
      this.markSettled(item.rank)
    } else {
      this.#new.shift()
    }
    this.#drain()
    item.deliver?.()
  }

  #beOncePatient(): void {
    this.#patient = true
    this.#drain()
  }

  #drain(): void {
    this.#draining = true
    afterEventLoopTurns(this.#turnsToDrain, this.#drained)
  }

  readonly #drained = (): void => {
    this.#draining = false
    this.pump()
  }
}

const empty = new Uint8Array(0)
