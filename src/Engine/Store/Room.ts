/** What is left of one transaction for work that may go on in the next one, so that others have their turn in between. */
import { MAX_STEPS, stepsTaken } from "../../ExpressionBudget.ts"

/** Rows that are looked at and changed in one transaction: about 10 ms. */
export const MOST_ROWS = 300

/** Bytes that are handed to live turns, or told to those who look on. */
const MOST_BYTES = 8 * 1024 * 1024

export class Room {
  #rows = 0
  #bytes = 0
  #stepsBefore = 0

  /** A transaction begins. */
  begin(): void {
    this.#rows = this.#bytes = 0
    this.#stepsBefore = stepsTaken()
  }

  /** A row was looked at; `bytes` of it went to somebody. */
  take(bytes = 0): void {
    this.#rows++
    this.#bytes += bytes
  }

  /** Bytes went to somebody. */
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

  /** Whether an expression would get all that it may spend: one that gets less may miss what it waits for. */
  get mayEvaluate(): boolean {
    return stepsTaken() - this.#stepsBefore <= MAX_STEPS
  }
}
