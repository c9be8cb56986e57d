/**
 * Watches the clock of this machine for a database that one engine uses. When the clock was set, the stored times are adjusted. The
 * time is stored now and then, so that the next start of an engine notices if the clock was set while no engine ran.
 */
import { ClockJumps, clockJumpMessage } from "./ClockJumps.ts"
import { storeClock } from "./ClockRows.ts"
import type { Program } from "./Program.ts"
import type { StoreCallbacks } from "./StoreCallbacks.ts"
import type { Transaction } from "./Transaction.ts"

/** While there are writes, the time is stored this often. */
const STORE_MS = 10_000

export interface ClockWatchOptions {
  readonly tx: Transaction
  readonly callbacks: StoreCallbacks
  /** A monotonic clock. */
  readonly monotonicMs: () => number
  /** What was stored last, if anything: the time that the clock showed, and how far it had jumped forward shortly before. */
  readonly lastStored: { readonly at: number; readonly aheadMs: number } | undefined
  readonly warn: (message: string) => void
}

export class ClockWatch {
  readonly #options: ClockWatchOptions
  readonly #jumps: ClockJumps
  /** When the time was last stored, on the monotonic clock. */
  #storedAt = Number.NEGATIVE_INFINITY

  /** Makes `tx.settledNow`, which decides what is old enough to be deleted, ignore recent forward jumps of the clock. */
  constructor(options: ClockWatchOptions) {
    const { lastStored, monotonicMs, tx } = options
    const jumps = new ClockJumps(tx.now(), monotonicMs(), lastStored)
    this.#options = options
    this.#jumps = jumps
    tx.settledNow = () => tx.now() - jumps.aheadMs(monotonicMs())
  }

  /** How far the clock is behind the stored time: negative when the clock is ahead, 0 without a stored time. */
  get behindMs(): number {
    const { lastStored, tx } = this.#options
    return lastStored === undefined ? 0 : lastStored.at - tx.now()
  }

  /** If the clock was set since the last call, returns the program that adjusts the stored times. */
  adjust(): (() => Program<void>) | undefined {
    const { callbacks, monotonicMs, tx, warn } = this.#options
    const jump = this.#jumps.detect(tx.now(), monotonicMs())
    if (jump === 0) return undefined
    warn(clockJumpMessage(jump))
    return () => callbacks.clockWasSet(tx, jump)
  }

  /** Warns that the stored times could not be adjusted. */
  adjustFailed(error: unknown): void {
    this.#options.warn(
      `The clock was set, and the stored times could not be adjusted to it: leases, timeouts and retries may end too early or too late. ${String(error)}`
    )
  }

  /** If it is time to store the time again, returns the program that does so in the current transaction. */
  store(): Program<void> | undefined {
    const { monotonicMs, tx } = this.#options
    if (monotonicMs() - this.#storedAt < STORE_MS) return undefined
    tx.afterCommit(() => (this.#storedAt = monotonicMs()))
    return storeClock(tx)
  }
}
