/**
 * Learns which reads the next transaction will probably make, from those of the transactions before it. They are sent together
 * with the lock, so the lock is held for one round trip less. An example is the read that tells whether anything awaits an event:
 * while other engines write, it is made for each event.
 */
import type { Value } from "../Program.ts"
import type { Translated } from "./Dialect.ts"

export interface Read {
  readonly statement: Translated
  readonly values: ReadonlyArray<Value>
}

/** How many reads are expected at most. */
const MAX_EXPECTED = 8
/** How many reads of a transaction are learned from at most. */
const MAX_ASKED = 64
/** The score at which a read is expected. A transaction with the read adds 1 to the score, one without it takes 1 off. */
const EXPECTED_AFTER = 2
/** The highest score of a read. */
const MAX_SCORE = 4

export class ExpectedReads {
  /** The score of each read, by its statement and values. */
  readonly #scores = new Map<string, { readonly read: Read; score: number }>()

  /** Learns from the reads of a transaction. */
  learn(asked: ReadonlyMap<string, Read>): void {
    for (const [what, known] of this.#scores) {
      if (!asked.has(what) && --known.score === 0) this.#scores.delete(what)
    }
    let looked = 0
    for (const [what, read] of asked) {
      if (++looked > MAX_ASKED) return
      const known = this.#scores.get(what)
      if (known === undefined) this.#scores.set(what, { read, score: 1 })
      else known.score = Math.min(known.score + 1, MAX_SCORE)
    }
  }

  /** Forgets all reads. Called when a transaction has failed: one of these reads may be the reason. */
  forget(): void {
    this.#scores.clear()
  }

  get reads(): ReadonlyArray<Read> {
    const reads: Array<Read> = []
    for (const { read, score } of this.#scores.values()) {
      if (score >= EXPECTED_AFTER && reads.push(read) === MAX_EXPECTED) break
    }
    return reads
  }
}
