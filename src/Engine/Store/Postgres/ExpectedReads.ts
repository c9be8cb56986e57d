/**
 * Learns from the reads of earlier transactions which reads the next transaction will probably make. These reads are sent together
 * with the lock, so that the lock is held for one round trip less. For example, while other engines write, each event needs a read
 * that tells whether anything awaits the event.
 */
import type { Value } from "../Program.ts"
import type { Translated } from "./Dialect.ts"

export interface Read {
  readonly statement: Translated
  readonly values: ReadonlyArray<Value>
}

/** Maximum number of reads that are expected. */
const MAX_EXPECTED = 8
/** Maximum number of reads of one transaction that are counted. */
const MAX_COUNTED = 64
/**
 * A read with at least this score is expected. A transaction with the read raises the score by 1, a transaction without the read
 * lowers it by 1.
 */
const EXPECTED_SCORE = 2
/** The highest score of a read. */
const MAX_SCORE = 4

export class ExpectedReads {
  /** The score of each read, by its statement and values. */
  readonly #scores = new Map<string, { readonly read: Read; score: number }>()

  /** Learns from the reads of a transaction. */
  learn(reads: ReadonlyMap<string, Read>): void {
    for (const [key, known] of this.#scores) {
      if (!reads.has(key) && --known.score === 0) this.#scores.delete(key)
    }
    let count = 0
    for (const [key, read] of reads) {
      if (++count > MAX_COUNTED) return
      const known = this.#scores.get(key)
      if (known === undefined) this.#scores.set(key, { read, score: 1 })
      else known.score = Math.min(known.score + 1, MAX_SCORE)
    }
  }

  /** Forgets all reads. Called when a transaction has failed: an expected read may be the reason. */
  forget(): void {
    this.#scores.clear()
  }

  /** The reads that the next transaction will probably make. */
  get reads(): ReadonlyArray<Read> {
    const reads: Array<Read> = []
    for (const { read, score } of this.#scores.values()) {
      if (score >= EXPECTED_SCORE && reads.push(read) === MAX_EXPECTED) break
    }
    return reads
  }
}
