/**
 * What the store calls in the other parts of the engine: when it opens a database, when other engines have changed something or
 * are gone, when the clock was set, and when it checks whether a row is damaged.
 */
import type { DamagedKind } from "./Damage.ts"
import type { Call, Program, Statement } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

export interface StoreCallbacks {
  /** Reads the registered functions into their cache. Called at the start, and when another engine has changed functions. */
  readonly loadFunctions: (tx: Transaction) => Program<void>
  /** The statement that lists the keys of the functions with ready runs. */
  readonly listReadyFunctions: Statement
  /**
   * Programs that take back the leases, projections and deliveries of processes that are gone. These programs run when the database
   * is opened, when another engine on the database was declared dead, and when this engine is back after a time in which others may
   * have declared it dead. They leave alone what live engines hold.
   */
  readonly takeOver: ReadonlyArray<Call<unknown>>
  /** Adjusts stored times. Called when the clock was set while the engine ran, with the difference in milliseconds. */
  readonly clockWasSet: (tx: Transaction, ms: number) => Program<void>
  /** Adjusts stored times. Called at the start when the clock is behind the stored time, with the difference in milliseconds. */
  readonly clockWasSetBack: (ms: number) => Call<void>
  /** Reads everything that the engine may need of a run, schedule, entry or event. Throws when something cannot be read. */
  readonly checkReadable: (tx: Transaction, kind: DamagedKind, key: number) => Program<void>
  /** The id by which messages name a row; `undefined` when they name the row by its key. */
  readonly nameOf: (tx: Transaction, kind: DamagedKind, key: number) => Program<string | undefined>
}
