/**
 * Whether this engine reaches Postgres, whether the other engines still see this engine, and how long ago this engine last knew
 * everything that the others had committed. All times are those of a monotonic clock, in milliseconds.
 */
import { StoreError } from "../../../Errors.ts"
import { mustStopWork, mayStartWork, MAX_ROW_AGE_MS } from "./Nodes.ts"
import { isUnavailable, storeError } from "./PostgresErrors.ts"

/** Postgres counts as out of reach when it has been silent for this long. */
const MAX_SILENT_MS = 3000

export class Reachability {
  readonly #monotonicMs: () => number
  /** When this engine last renewed its row in `nodes`, as far as it knows. */
  #renewedAt: number
  /** The last time at which this engine knew everything that other engines had committed. */
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

  /** How long ago this engine last knew everything that other engines had committed. */
  get sinceCurrentMs(): number {
    return this.#monotonicMs() - this.#currentAt
  }

  /** Whether the other engines have seen this engine so recently that it may start something without asking the server. */
  get mayStartWork(): boolean {
    return mayStartWork(this.#monotonicMs() - this.#renewedAt)
  }

  /** Whether the other engines have not seen this engine for so long that they may take over its work. */
  get isOverdue(): boolean {
    return mustStopWork(this.#monotonicMs() - this.#renewedAt)
  }

  /** Notes that a committed transaction, which began at `beganAt`, has renewed the row of this engine. */
  renewed(beganAt: number): void {
    this.#renewedAt = beganAt
  }

  /**
   * Notes that a transaction, which began at `beganAt`, is committed. `isInOrder` says whether the listeners have been told of all
   * commits before it.
   */
  committed(beganAt: number, isInOrder: boolean): void {
    this.#outage = undefined
    this.#answeredAt = this.#monotonicMs()
    if (isInOrder) this.#currentAt = Math.max(this.#currentAt, beganAt)
  }

  /**
   * Notes that Postgres has answered the check of the engines that was sent at `askedAt`. `isLive` says whether this engine is live
   * by this answer; then its row is fresh too. `isInOrder` says whether the listeners have been told of all commits.
   */
  checkAnswered(askedAt: number, isLive: boolean, isInOrder: boolean): void {
    this.#answeredAt = this.#monotonicMs()
    if (isInOrder) this.#currentAt = Math.max(this.#currentAt, askedAt)
    if (isLive) this.#renewedAt = Math.max(this.#renewedAt, askedAt - MAX_ROW_AGE_MS)
  }

  /** Begins an outage when Postgres has not answered for long. */
  checkSilence(): void {
    const silentMs = this.#monotonicMs() - this.#answeredAt
    if (silentMs > MAX_SILENT_MS) this.#outage ??= silenceError(silentMs)
  }

  /** Notes that the check of the engines has failed. */
  checkFailed(error: unknown): void {
    if (isUnavailable(error)) this.#outage ??= storeError("Cannot reach Postgres", error)
  }

  /** Notes that a write has failed, because Postgres is out of reach. */
  writeFailed(error: unknown): void {
    this.#outage = storeError("Cannot write to Postgres", error)
  }
}

const silenceError = (silentMs: number): StoreError =>
  new StoreError(
    `Cannot reach Postgres: it has not answered for ${Math.round(silentMs / 1000)} s. The engine goes on when it answers again`,
    { code: "STORE_UNAVAILABLE", retryable: true }
  )
