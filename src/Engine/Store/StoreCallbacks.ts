/**
 * What the parts of the engine have to do for a database: when it is opened, when the clock was set, and when something in it is
 * damaged.
 */
import type { DamagedKind } from "./Damage.ts"
import type { Call, Program, Statement } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

export interface StoreCallbacks {
  /** Fills the caches of what is stored. Called at the start, and when another engine has changed the functions. */
  readonly load: (tx: Transaction) => Program<void>
  /** The keys of the functions with ready runs. */
  readonly ready: Statement
  /**
   * Take back what was given to processes that are gone. Run when the database is opened, when another engine on it was declared
   * dead, and when this engine is back after a time in which others may have declared it dead. They leave alone what live engines
   * hold.
   */
  readonly takeOver: ReadonlyArray<Call<unknown>>
  /** Called when the clock was set while the engine ran, with the difference in milliseconds. */
  readonly clockWasSet: (tx: Transaction, ms: number) => Program<void>
  /** Called at the start when the clock is behind the stored time, with the difference in milliseconds. */
  readonly clockWasSetBack: (ms: number) => Call<void>
  /** Reads everything that the engine may need of one row. Throws when something cannot be read. */
  readonly checkReadable: (tx: Transaction, kind: DamagedKind, key: number) => Program<void>
  /** The name of a row, if it has one. */
  readonly nameOf: (tx: Transaction, kind: DamagedKind, key: number) => Program<string | undefined>
}
