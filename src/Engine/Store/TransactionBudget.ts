/**
 * The budget of one transaction for work that may continue in the next transaction. It keeps each transaction short, so that other
 * callers of the store do not wait long.
 */
import { MAX_EXPRESSION_STEPS, expressionSteps } from "../../ExpressionBudget.ts"

/** One transaction looks at this many rows at most, and changes them. This takes about 10 ms. */
export const MAX_ROWS = 300

/** A transaction that has passed this many bytes to live turns or observers looks at no more rows. */
const MAX_BYTES = 8 * 1024 * 1024

export class TransactionBudget {
  #rows = 0
  #bytes = 0
  #stepsBefore = 0

  /** Notes that a transaction begins. */
  begin(): void {
    this.#rows = this.#bytes = 0
    this.#stepsBefore = expressionSteps()
  }

  /** Notes that a row was looked at, and that `bytes` of it were passed on to live turns or observers. */
  noteRow(bytes = 0): void {
    this.#rows++
    this.#bytes += bytes
  }

  /** Notes that bytes were passed on to live turns or observers. */
  notePassedOn(bytes: number): void {
    this.#bytes += bytes
  }

  /** How many rows may still be looked at. */
  get rowsLeft(): number {
    return this.#bytes >= MAX_BYTES ? 0 : Math.max(0, MAX_ROWS - this.#rows)
  }

  get isFull(): boolean {
    return this.rowsLeft === 0
  }

  /** Whether an expression that is evaluated now gets its full budget of steps. With fewer steps, it might miss a match. */
  get mayEvaluate(): boolean {
    return expressionSteps() - this.#stepsBefore <= MAX_EXPRESSION_STEPS
  }
}
