/**
 * The writes of a store on SQLite. They go through one `GroupCommit`, which calls methods of this class around each transaction. The
 * store stops for good when another engine owns the file, or when the disk has refused to store a commit.
 */
import type { DatabaseSync } from "node:sqlite"
import * as Effect from "effect/Effect"
import { StoreError } from "../../Errors.ts"
import { withSharedBudget } from "../../ExpressionBudget.ts"
import { Histogram } from "../../Histogram.ts"
import { resultAsEffect } from "./ResultAsEffect.ts"
import { storeClock } from "./ClockRows.ts"
import type { ClockWatch } from "./ClockWatch.ts"
import { damagedRowMessage, isolateDamage } from "./DamageIsolation.ts"
import type { FileOwnership } from "./FileOwnership.ts"
import { GroupCommit, type GroupCommitOptions } from "./GroupCommit.ts"
import type { Listeners } from "./Listeners.ts"
import type { Call } from "./Program.ts"
import type { ReadSnapshot } from "./ReadSnapshot.ts"
import { callError, diskRefusalError, isDamage, isUnavailable } from "./SqliteErrors.ts"
import type { SqliteOutage } from "./SqliteOutage.ts"
import { perform } from "./SqliteReads.ts"
import type { CommitFigures } from "./Store.ts"
import type { StoreCallbacks } from "./StoreCallbacks.ts"
import type { Transaction } from "./Transaction.ts"
import type { WalSync } from "./WalSync.ts"

/** Maximum number of programs in one transaction. */
const MAX_PROGRAMS = 512
/** A transaction that has started this many runs takes no more programs. A single program may start more runs. */
const ENOUGH_RUNS = 1000

export interface SqliteWritesOptions {
  readonly db: DatabaseSync
  /** The name of the database, for messages. */
  readonly filename: string
  readonly tx: Transaction
  readonly callbacks: StoreCallbacks
  readonly listeners: Listeners
  readonly snapshot: ReadSnapshot
  readonly outage: SqliteOutage
  readonly clockWatch: ClockWatch
  /** Absent for a database in memory. */
  readonly ownership: FileOwnership | undefined
  /** Absent where `COMMIT` makes commits durable. */
  readonly sync: WalSync | undefined
  /** Runs an effect that logs. */
  readonly log: (entry: Effect.Effect<void>) => void
}

export class SqliteWrites implements GroupCommitOptions {
  readonly writer: GroupCommit
  readonly maxPrograms = MAX_PROGRAMS
  readonly sync: WalSync | undefined
  readonly #options: SqliteWritesOptions
  /** How many seconds groups took until they were durable. */
  readonly #durations = new Histogram()
  /** How many programs these groups had. */
  #programs = 0

  constructor(options: SqliteWritesOptions) {
    this.#options = options
    this.sync = options.sync
    this.writer = new GroupCommit(options.db, this)
  }

  write<A, E>(call: Call<A, E>): Effect.Effect<A, E | StoreError> {
    const { tx } = this.#options
    const result = this.#write(call.what, () => {
      if (!call.allowsHeldWrites) tx.flushCaches()
      return perform(tx, call)
    })
    return Effect.flatMap(result, resultAsEffect)
  }

  /** During an outage, tries a small write, at most once a second. If it succeeds, the outage is over. */
  get tryAgain(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const { outage, tx } = this.#options
      if (!outage.mayTry()) return Effect.void
      // errors are ignored: `health` then still reports the outage
      return Effect.ignore(this.#write("store the time", () => tx.perform(storeClock(tx))))
    })
  }

  /** Stops the store for good. */
  lose(error: StoreError): void {
    const { listeners, log } = this.#options
    if (listeners.lost !== undefined) return
    this.writer.stop(error)
    log(Effect.logError(error.message))
    listeners.lose(error)
  }

  /** Figures of the commits since the start. */
  commitFigures(): CommitFigures {
    return { programs: this.#programs, durations: this.#durations.data() }
  }

  #write<A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> {
    return Effect.callback((resume) => {
      this.writer.submit(
        () => withSharedBudget(run),
        (value) => resume(Effect.succeed(value)),
        (cause) => resume(Effect.fail(callError(what, cause)))
      )
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Called by the group commit
  // -------------------------------------------------------------------------------------------------------------------

  isFull(): boolean {
    const { tx } = this.#options
    return tx.changes.counts.started >= ENOUGH_RUNS || tx.budget.isFull
  }

  beforeGroup(): (() => void) | undefined {
    const { clockWatch, tx } = this.#options
    const adjust = clockWatch.adjust()
    return adjust === undefined ? undefined : () => tx.perform(adjust())
  }

  beforeGroupFailed(error: unknown): void {
    this.#options.clockWatch.adjustFailed(error)
  }

  beforeBegin(): void {
    this.#options.snapshot.close()
  }

  begin(): void {
    this.#options.ownership?.check()
    this.#options.tx.begin()
  }

  afterPrograms(): void {
    if (this.#options.tx.changes.ready) this.#options.listeners.tellReady()
  }

  beforeCommit(): void {
    const { clockWatch, tx } = this.#options
    const program = clockWatch.store()
    if (program !== undefined) tx.perform(program)
    tx.beforeCommit()
  }

  rolledBack(): void {
    this.#options.tx.rolledBack()
  }

  transactionFailed(error: unknown): boolean {
    if (error instanceof StoreError && error.code === "STORE_LOCKED") {
      this.lose(error)
      return false
    }
    const { callbacks, log, outage, tx } = this.#options
    if (isUnavailable(error)) outage.failed(error)
    if (isDamage(error)) tx.damage.wasFound = true
    const damagedRows = tx.perform(isolateDamage(tx, callbacks, error, { isDamage, isUnavailable }))
    for (const row of damagedRows) log(Effect.logWarning(damagedRowMessage(row)))
    return damagedRows.length > 0
  }

  committed(): () => void {
    const { listeners, outage, tx } = this.#options
    outage.committed()
    const changes = tx.committed()
    return () => listeners.committed(changes)
  }

  groupDurable(ms: number, programs: number): void {
    this.#programs += programs
    this.#durations.add(ms / 1000)
  }

  diskRefused(cause: unknown): StoreError {
    const error = diskRefusalError(this.#options.filename, cause)
    this.lose(error)
    return error
  }
}
