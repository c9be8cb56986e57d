/** The budget of one transaction for work that may continue in the next one, so that others get their turn. */
import { MAX_STEPS, stepsTaken } from "../../ExpressionBudget.ts"

/** Rows that one transaction looks at and changes: about 10 ms. */
export const MOST_ROWS = 300

/** Bytes that one transaction passes to live turns or observers. */
const MOST_BYTES = 8 * 1024 * 1024

export class TransactionBudget {
  #rows = 0
  #bytes = 0
  #stepsBefore = 0

  /** A transaction begins. */
  begin(): void {
    this.#rows = this.#bytes = 0
    this.#stepsBefore = stepsTaken()
  }

  /** A row was looked at, and `bytes` of it were passed on. */
  take(bytes = 0): void {
    this.#rows++
    this.#bytes += bytes
  }

  /** Bytes were passed on. */
  hand(bytes: number): void {
    this.#bytes += bytes
  }

  /** How many rows may still be looked at. */
  get rows(): number {
    return this.#bytes >= MOST_BYTES ? 0 : Math.max(0, MOST_ROWS - this.#rows)
  }

  get isFull(): boolean {
    return this.rows === 0
  }

  /** Whether an expression would get its full budget: with less, it might miss a match. */
  get mayEvaluate(): boolean {
    return stepsTaken() - this.#stepsBefore <= MAX_STEPS
  }
}
