/**
 * The reads that the next transaction is likely to make, as those before it did: they are sent together with the lock, so that the
 * lock is held for one round trip less. Whether an event is awaited, for example, is asked of each event while other engines write.
 */
import type { Value } from "../Program.ts"
import type { Translated } from "./Dialect.ts"

export interface Read {
  readonly statement: Translated
  readonly values: ReadonlyArray<Value>
}

/** How many reads are expected at most. */
const MAX_EXPECTED = 8
/** How many reads of a transaction are looked at. */
const MAX_ASKED = 64
/** After how many transactions with a read, not counting those without it, it is expected; and how many count at most. */
const EXPECTED_AFTER = 2
const MAX_SCORE = 4

export class ExpectedReads {
  /** By what was asked: how many transactions have asked for it more than have not. */
  readonly #scores = new Map<string, { readonly read: Read; score: number }>()

  /** Learns what a transaction has read. */
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

  /** A transaction has failed: one of these reads may be the reason. */
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
