/**
 * The budget of one transaction for work that may continue in the next one. It keeps a transaction short, so that others get
 * their turn.
 */
import { MAX_STEPS, stepsTaken } from "../../ExpressionBudget.ts"

/** How many rows one transaction looks at and changes at most: that takes about 10 ms. */
export const MOST_ROWS = 300

/** At this number of bytes passed to live turns or observers, a transaction looks at no more rows. */
const MOST_BYTES = 8 * 1024 * 1024

export class TransactionBudget {
  #rows = 0
  #bytes = 0
  #stepsBefore = 0

  /** Notes that a transaction begins. */
  begin(): void {
    this.#rows = this.#bytes = 0
    this.#stepsBefore = stepsTaken()
  }

  /** Notes that a row was looked at, and that `bytes` of it were passed on. */
  take(bytes = 0): void {
    this.#rows++
    this.#bytes += bytes
  }

  /** Notes that bytes were passed on to live turns or observers. */
  notePassedOn(bytes: number): void {
    this.#bytes += bytes
  }

  /** How many rows may still be looked at. */
  get rows(): number {
    return this.#bytes >= MOST_BYTES ? 0 : Math.max(0, MOST_ROWS - this.#rows)
  }

  get isFull(): boolean {
    return this.rows === 0
  }

  /** Whether an expression would get its full budget of steps. With less, it might miss a match. */
  get mayEvaluate(): boolean {
    return stepsTaken() - this.#stepsBefore <= MAX_STEPS
  }
}
