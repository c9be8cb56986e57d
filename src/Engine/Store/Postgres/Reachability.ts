/**
 * Whether an engine reaches Postgres, whether the other engines still see it, and how long ago it knew all that they had committed.
 * All times are those of a monotonic clock, in milliseconds.
 */
import { StoreError } from "../../../Errors.ts"
import { isAwayFor, isSeen, OLDEST_ROW_MS } from "./Nodes.ts"
import { isUnavailable, storeError } from "./PostgresErrors.ts"

/** How long Postgres may be silent before it counts as out of reach, milliseconds. */
const MOST_SILENT_MS = 3000

export class Reachability {
  readonly #monotonicMs: () => number
  /** When this engine last renewed its row in `nodes`, as far as it knows. */
  #renewedAt: number
  /** When this engine last looked what others have committed, and then knew all of it. */
  #currentAt: number
  /** When Postgres last answered. */
  #answeredAt: number
  #outage: StoreError | undefined

  constructor(monotonicMs: () => number) {
    this.#monotonicMs = monotonicMs
    this.#renewedAt = this.#currentAt = this.#answeredAt = monotonicMs()
  }

  /** Why writes fail at the moment; `undefined` when they work, as far as is known. */
  get outage(): StoreError | undefined {
    return this.#outage
  }

  /** How long ago this engine last knew of all that other engines had committed, milliseconds. */
  get currentMs(): number {
    return this.#monotonicMs() - this.#currentAt
  }

  /** Whether the others have seen this engine so recently that it may start something without asking. */
  get isRecent(): boolean {
    return isSeen(this.#monotonicMs() - this.#renewedAt)
  }

  /** Whether the others have not seen this engine for so long that they may take over its work. */
  get isOverdue(): boolean {
    return isAwayFor(this.#monotonicMs() - this.#renewedAt)
  }

  /** A committed transaction that began at `beganAt` has renewed the row of this engine. */
  renewed(beganAt: number): void {
    this.#renewedAt = beganAt
  }

  /** A transaction that began at `beganAt` is committed. `isInOrder`: all commits before it have been told. */
  committed(beganAt: number, isInOrder: boolean): void {
    this.#outage = undefined
    this.#answeredAt = this.#monotonicMs()
    if (isInOrder) this.#currentAt = Math.max(this.#currentAt, beganAt)
  }

  /**
   * Postgres has answered a question of `askedAt`. `isLive`: this engine was not declared dead, and its row is fresh. `isInOrder`:
   * all commits have been told.
   */
  answered(askedAt: number, isLive: boolean, isInOrder: boolean): void {
    this.#answeredAt = this.#monotonicMs()
    if (isInOrder) this.#currentAt = Math.max(this.#currentAt, askedAt)
    if (isLive) this.#renewedAt = Math.max(this.#renewedAt, askedAt - OLDEST_ROW_MS)
  }

  /** Begins an outage when Postgres has not answered for long. */
  checkSilence(): void {
    const silentMs = this.#monotonicMs() - this.#answeredAt
    if (silentMs > MOST_SILENT_MS) this.#outage ??= silenceError(silentMs)
  }

  /** A question to Postgres has failed. */
  askingFailed(error: unknown): void {
    if (isUnavailable(error)) this.#outage ??= storeError("Cannot reach Postgres", error)
  }

  /** A write has failed, because Postgres is out of reach. */
  writingFailed(error: unknown): void {
    this.#outage = storeError("Cannot write to Postgres", error)
  }
}

const silenceError = (silentMs: number): StoreError =>
  new StoreError(
    `Cannot reach Postgres: it has not answered for ${Math.round(silentMs / 1000)} s. The engine goes on when it answers again`,
    { code: "STORE_UNAVAILABLE", retryable: true }
  )
