/** What the nouns have to do with a database as such: when it is opened, when the clock was set, and when something in it is damaged. */
import type { DamagedKind } from "./Damage.ts"
import type { Call, Program, Statement } from "./Program.ts"
import type { Transaction } from "./Transaction.ts"

export interface Upkeep {
  /** Reads what is remembered of it, at the start. */
  readonly load: (tx: Transaction) => Program<void>
  /** The keys of the functions that have runs that are ready. */
  readonly ready: Statement
  /** Takes back what was given to processes that are gone, when the database is this process's alone. */
  readonly takeOver: ReadonlyArray<Call<unknown>>
  /** The clock was set by so many milliseconds while the engine ran. */
  readonly clockWasSet: (tx: Transaction, ms: number) => Program<void>
  /** The clock shows so many milliseconds less than when it was last stored. */
  readonly clockWasSetBack: (ms: number) => Call<void>
  /** Reads all that the engine may need of one thing, and throws when that does not work. */
  readonly look: (tx: Transaction, kind: DamagedKind, key: number) => Program<void>
  /** What a thing is called, if it has a name. */
  readonly nameOf: (tx: Transaction, kind: DamagedKind, key: number) => Program<string | undefined>
}
