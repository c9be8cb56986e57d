/**
 * The order in which a handler sees the outcomes of its steps.
 *
 * Outcomes are delivered one at a time, and everything that follows from one (promise continuations, woken fibers) runs
 * before the next: that is what makes `Promise.race` and its like decide the same in a replay. Outcomes from the journal
 * go first, in the journal's order; new ones follow in the order in which they were reported, which is the order that
 * the journal gets.
 */
import { Heap } from "./Heap.ts"
import { queueMicrotask, setImmediate } from "../RealTimers.ts"

/** An outcome on its way to the handler. */
export interface Settling {
  /** Place in the journal; for new outcomes a place after all of it. */
  readonly rank: number
  position: number
  /** Hands the outcome over. Cleared when nobody wants it any more: the place in the order stays. */
  deliver: (() => void) | undefined
  /** False while the outcome itself is awaited: it holds back the ones behind it. */
  ready: boolean
  /** Whether it waits until everything that is under way has come to rest. */
  readonly last: boolean
}

/** Calls `fn` when the event loop has gone round `turns` times, promise continuations included. */
export const afterEventLoopTurns = (turns: number, fn: () => void): void => {
  setImmediate(turns > 1 ? () => afterEventLoopTurns(turns - 1, fn) : fn)
}

export class Settlement {
  readonly #recorded: number
  readonly #turnsToDrain: number
  readonly #onIdle: () => void
  /** Journal outcomes that the handler has asked for. */
  readonly #asked = new Heap<Settling>()
  #new: Array<Settling> = []
  /** Which journal entries are settled, up to the lowest that is not. */
  readonly #settled: Uint8Array
  #lowest = 0
  #patient = false
  #caughtUp: boolean
  #draining = false
  #held = 0
  #pumping = false

  /**
   * `recorded` is the length of the journal. `turnsToDrain` is how many turns of the event loop it takes until all
   * continuations have run. `onIdle` is called when nothing can be delivered and the last outcome has drained.
   */
  constructor(recorded: number, turnsToDrain: number, onIdle: () => void) {
    this.#recorded = recorded
    this.#turnsToDrain = turnsToDrain
    this.#onIdle = onIdle
    this.#settled = recorded === 0 ? empty : new Uint8Array(recorded)
    this.#caughtUp = recorded === 0
  }

  /** Whether nothing is waiting to be delivered, or for its answer. */
  get isEmpty(): boolean {
    return this.#asked.size === 0 && this.#new.length === 0
  }

  /**
   * Whether the handler has seen what it asks of the journal, so that new things may happen. A handler that asks for
   * something new may be about to ask for something recorded: it is given a round of the event loop.
   */
  get isCaughtUp(): boolean {
    return this.#caughtUp
  }

  /** Whether everything that followed from the last outcome has run. */
  get isDrained(): boolean {
    return !this.#draining
  }

  /** Whether parts of the journal have not been seen by the handler yet. */
  get isReplaying(): boolean {
    return this.#lowest < this.#recorded
  }

  /** The handler asks for the journal's entry at `rank`; see {@link Settling.last}. */
  ask(rank: number, deliver: () => void, last = false): Settling {
    const item: Settling = { rank, position: -1, deliver, ready: true, last }
    this.#asked.add(item)
    this.#caughtUp = false
    this.#patient = false
    this.#pumpSoon()
    return item
  }

  /** A new outcome, which has been reported or is the answer to what has just been reported. */
  add(deliver: () => void, ready: boolean): Settling {
    const item: Settling = { rank: this.#recorded, position: -1, deliver, ready, last: false }
    this.#new.push(item)
    return item
  }

  /** The handler does not want this outcome any more. */
  drop(item: Settling): void {
    item.deliver = undefined
    if (item.position < 0) return
    this.#asked.remove(item)
    this.markSettled(item.rank)
  }

  /** The journal's entry at `rank` will not be asked for, or counts as seen. */
  markSettled(rank: number): void {
    if (rank >= this.#recorded) return
    this.#settled[rank] = 1
    while (this.#lowest < this.#recorded && this.#settled[this.#lowest] === 1) this.#lowest++
  }

  /** Delivers nothing while `fn` runs. */
  hold(fn: () => void): void {
    this.#held++
    fn()
    this.#held--
  }

  /** Forgets everything that is waiting to be delivered. */
  clear(): void {
    this.#asked.clear()
    this.#new = []
  }

  /** Delivers nothing any more. */
  close(): void {
    this.#held = Number.POSITIVE_INFINITY
    this.clear()
  }

  /** Not while whoever asks still runs: in a race of effects the ones behind it have yet to be started. */
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
    if (!this.#caughtUp && this.#asked.size === 0) {
      if (this.isReplaying && !this.#patient) {
        this.#beOncePatient()
        return
      }
      this.#caughtUp = true
    }
    const item = this.#asked.peek() ?? this.#new[0]
    if (item === undefined || !item.ready) {
      this.#onIdle()
      return
    }
    // The handler may still be on its way to an earlier entry.
    if ((item.last || this.#lowest < item.rank) && !this.#patient) {
      this.#beOncePatient()
      return
    }
    this.#patient = false
    if (item.rank < this.#recorded) {
      this.#asked.remove(item)
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
