/**
 * What a program works with: the database, the time, ids, sequence numbers, and the changes that listeners are told of after the
 * commit. This class is for SQLite; `PostgresTransaction` overrides what differs on Postgres.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import type { IdGenerator } from "../../Ids.ts"
import type { Notice } from "../../Protocol/Worker.ts"
import { type Culprit, Damage, type DamagedKind } from "./Damage.ts"
import {
  type AccessChange,
  type AccessNote,
  type ProjectionChange,
  type Changes,
  type ConfigChange,
  type FunctionChange,
  type KvChange,
  noCounts,
  type ChangeKind
} from "./Changes.ts"
import type { ObservedActivity, RunFailureEvent } from "./RunActivity.ts"
import type { EndedRunRecord } from "./EndedRunRecord.ts"
import { type Query, type Program, type Row, runAtOnce, type Statement, type Value } from "./Program.ts"
import { TransactionBudget } from "./TransactionBudget.ts"
import { forEachCache, heldWritesOf } from "./Cache.ts"

export type { Row } from "./Program.ts"

/**
 * How many sequence numbers (see `nextSeq`) are reserved at once, as a block. The table `meta` stores where the next block
 * starts.
 */
const SEQ_BLOCK = 1_000_000_000
/** A new block is reserved when fewer numbers than this are left. */
const SEQ_RESERVE = 100_000_000

/** The last time that a `Date` can hold, epoch milliseconds. */
const LAST_MOMENT = 8_640_000_000_000_000

/** A time as it is stored: limited to the range of a `Date`. */
export const asMoment = (epochMs: number): number => Math.max(-LAST_MOMENT, Math.min(epochMs, LAST_MOMENT))

const NO_BYTES = new Uint8Array(0)

/**
 * Checks and converts `values` for SQLite. SQLite accepts integers that JavaScript cannot read back. A row with such an integer
 * would fail every program that reads the row, so the program that is about to write it fails instead. Empty byte arrays are
 * replaced by an empty array with a buffer of its own. For an empty array without such a buffer, as decoders and messages between
 * threads produce, Node.js up to 22.20 stores NULL.
 */
const storable = (values: ReadonlyArray<Value>): ReadonlyArray<Value> => {
  let hasEmptyArray = false
  for (const value of values) {
    if (typeof value === "number") {
      if (!(value <= Number.MAX_SAFE_INTEGER && value >= Number.MIN_SAFE_INTEGER)) {
        throw new RangeError(`${value} is not a number that can be stored`)
      }
    } else if (value instanceof Uint8Array && value.byteLength === 0) {
      hasEmptyArray = true
    }
  }
  return hasEmptyArray
    ? values.map((value) => (value instanceof Uint8Array && value.byteLength === 0 ? NO_BYTES : value))
    : values
}

const NO_KINDS: ReadonlySet<ChangeKind> = new Set()

class PendingChanges implements Changes {
  readonly isFromOtherEngine = false
  readonly stale = NO_KINDS
  isInOrder = true
  readonly announced = []
  readonly bucketsChangedByOthers = []
  readonly counts = noCounts()
  readonly notices: Array<{ readonly workerId: string; readonly notice: Notice }> = []
  readonly ended: Array<string> = []
  readonly endings = new Map<string, EndedRunRecord>()
  readonly activity: Array<ObservedActivity> = []
  readonly runFailures: Array<RunFailureEvent> = []
  readonly kv: Array<KvChange> = []
  readonly deletedBuckets: Array<number> = []
  readonly warnings: Array<string> = []
  readonly projections: Array<string> = []
  readonly groups: Array<number> = []
  readonly groupsWithReturns: Array<number> = []
  readonly states: Array<ProjectionChange> = []
  readonly configs: Array<ConfigChange> = []
  readonly access: Array<AccessChange> = []
  readonly accessLog: Array<AccessNote> = []
  readonly functions: Array<FunctionChange> = []
  readonly environments: Array<string> = []
  ready = false
  mayHaveReady = false
  logEnd = 0
  dueAt = Number.POSITIVE_INFINITY
}

/** The optional changes that programs have to collect, because a listener wants to be told of them. */
export interface Interest {
  /** Activity of whole runs. */
  runs: boolean
  /** Activity of runs and their steps. */
  steps: boolean
  /** Saved states of projections. */
  states: boolean
}

export class Transaction {
  readonly db: DatabaseSync
  readonly ids: IdGenerator
  readonly now: () => number
  /** A random number that is at least 0 and less than 1. */
  readonly random: () => number
  /** The time for deletions by age: the clock without its recent forward jumps. */
  settledNow: () => number
  /** The budget for work that may continue in a later transaction. */
  readonly budget = new TransactionBudget()
  readonly damage: Damage
  /** Where the last error in work over many rows came from. */
  culprit: Culprit | undefined
  changes = new PendingChanges()
  /** The number of this engine among all engines that share the database; absent on SQLite, where there is only one. */
  readonly node: number | undefined = undefined
  /** Whether this transaction has changed a lease that another engine may have cached. */
  hasChangedLeases = false
  readonly interest: Interest = { runs: false, steps: false, states: false }
  /** The caches of parts of the engine, in the order of their definition: see `Cache.ts`. */
  readonly caches: Array<unknown> = []
  readonly #preparedOf = new Map<Statement, StatementSync>()
  readonly #statements = new Map<string, StatementSync>()
  readonly #arrayStatements = new Map<string, StatementSync>()
  readonly #environments = new Map<string, number>()
  readonly #environmentNames = new Map<number, string>()
  readonly #onCommit: Array<() => void> = []
  #seq = 0
  #seqEnd = 0

  constructor(options: {
    readonly db: DatabaseSync
    readonly damage?: Damage
    readonly ids: IdGenerator
    readonly now: () => number
    readonly random: () => number
  }) {
    this.db = options.db
    this.damage = options.damage ?? new Damage(options.db)
    this.ids = options.ids
    this.now = options.now
    this.random = options.random
    this.settledNow = options.now
    this.load()
  }

  /** Reads from the database the values that this object keeps in memory. */
  protected load(): void {
    for (const row of this.all("SELECT key, name FROM environments")) {
      this.#rememberEnvironment(String(row.name), Number(row.key))
    }
    this.#seqEnd = this.#seq = Number(this.get("SELECT value FROM meta WHERE name = 'seq'")?.value ?? 0)
  }

  /** Starts a transaction. Discards what an earlier transaction gathered before it was rolled back. */
  begin(): void {
    this.changes = new PendingChanges()
    this.#onCommit.length = 0
    this.hasChangedLeases = false
    this.budget.begin()
    forEachCache(this.caches, (cache, content) => cache.begin?.(content))
    this.reserveSeqs()
  }

  /** Ensures that there are enough reserved sequence numbers for a transaction. */
  protected reserveSeqs(): void {
    if (this.#seqEnd - this.#seq < SEQ_RESERVE) {
      const end = this.#seqEnd + SEQ_BLOCK
      this.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('seq', ?)", end)
      this.afterCommit(() => (this.#seqEnd = end))
    }
  }

  /** Calls `f` when the transaction is committed. On SQLite, the disk may not have the commit yet. */
  afterCommit(f: () => void): void {
    this.#onCommit.push(f)
  }

  /** Makes the writes that caches hold back: see `Cache.write`. */
  flushCaches(): void {
    for (const program of heldWritesOf(this)) this.perform(program)
  }

  /** Writes what a transaction writes once for all its programs. Called before it commits. */
  beforeCommit(): void {
    this.flushCaches()
    forEachCache(this.caches, (cache, content) => {
      if (cache.save !== undefined) this.perform(cache.save(content))
    })
  }

  /** Resets the caches after a rollback. */
  rolledBack(): void {
    forEachCache(this.caches, (cache, content) => cache.rolledBack?.(content))
  }

  /** Called after the commit. Returns the changes of the transaction. */
  committed(): Changes {
    for (const f of this.#onCommit) f()
    forEachCache(this.caches, (cache, content) => cache.committed?.(content, this))
    return this.changes
  }

  /** The next number in the common order of journal entries, fired waits and audit records. */
  nextSeq(): number {
    return ++this.#seq
  }

  /** Runs a program at once. */
  perform<A>(program: Program<A, unknown>): A {
    return runAtOnce(program, this.#answer)
  }

  /**
   * Runs, within this transaction, a program whose result nobody needs: at once on SQLite, and after the current program on
   * Postgres.
   */
  runLater(program: Program<void>): void {
    this.perform(program)
  }

  readonly #answer = ({ kind, statement, values, visitor }: Query): unknown => {
    switch (kind) {
      case "get":
        return this.#prepared(statement).get(...values)
      case "all":
        return this.#prepared(statement).all(...values)
      case "insert":
        return Number(this.#prepared(statement).run(...storable(values)).lastInsertRowid)
      case "write":
      case "affected":
      case "affectedAssumingOne":
        return Number(this.#prepared(statement).run(...storable(values)).changes)
      case "visit":
        return visitor === undefined ? undefined : this.each(this.#textOf(statement), values, visitor)
    }
  }

  #prepared(statement: Statement): StatementSync {
    if (statement.isSound && this.damage.skippedCount > 0) return this.#statement(this.#textOf(statement))
    let prepared = this.#preparedOf.get(statement)
    if (prepared === undefined) {
      prepared = this.db.prepare(this.#textOf(statement))
      this.#preparedOf.set(statement, prepared)
    }
    return prepared
  }

  #textOf(statement: Statement): string {
    return statement.isSound ? this.#sound(statement) : statement.text
  }

  /** The text of a statement with the condition that leaves damaged rows out. */
  #sound({ text }: Statement): string {
    return text.replaceAll(/ ?@sound\((\w+), ([\w.]+)\)/g, (_, kind: DamagedKind, column: string) =>
      this.damage.soundCondition(kind, column)
    )
  }

  all(sql: string, ...values: ReadonlyArray<Value>): Array<Row> {
    return this.#statement(sql).all(...values) as Array<Row>
  }

  /**
   * Visits rows one by one, as arrays of columns. It is for pages of thousands of rows, where an object for each row takes twice
   * as long. `visit` must not run the same statement; it returns `false` to stop.
   */
  each(
    sql: string,
    values: ReadonlyArray<Value>,
    visit: (row: ReadonlyArray<Value>) => boolean | void
  ): void {
    let statement = this.#arrayStatements.get(sql)
    if (statement === undefined) {
      statement = this.db.prepare(sql)
      statement.setReturnArrays(true)
      this.#arrayStatements.set(sql, statement)
    }
    // safe cast: the declared type of `iterate` does not take `setReturnArrays` into account
    const rows = statement.iterate(...values) as Iterable<unknown> as Iterable<ReadonlyArray<Value>>
    for (const row of rows) if (visit(row) === false) return
  }

  /** Notes where an error comes from. For each error, only the first call counts: the innermost caller knows best. */
  blame(culprit: Culprit): void {
    if (this.culprit?.error !== culprit.error) this.culprit = culprit
  }

  get(sql: string, ...values: ReadonlyArray<Value>): Row | undefined {
    return this.#statement(sql).get(...values) as Row | undefined
  }

  /** Runs a statement and returns the number of rows that it changed. */
  run(sql: string, ...values: ReadonlyArray<Value>): number {
    return Number(this.#statement(sql).run(...storable(values)).changes)
  }

  /** Inserts a row and returns its integer key. */
  insert(sql: string, ...values: ReadonlyArray<Value>): number {
    return Number(this.#statement(sql).run(...storable(values)).lastInsertRowid)
  }

  /** The key of an environment. An environment is created when it is first named. */
  environment(name: string): number {
    const known = this.#environments.get(name)
    if (known !== undefined) return known
    const row = this.get("SELECT key FROM environments WHERE name = ?", name)
    const key =
      row === undefined ? this.insert("INSERT INTO environments (name) VALUES (?)", name) : Number(row.key)
    if (row === undefined) this.changes.environments.push(name)
    this.afterCommit(() => this.#rememberEnvironment(name, key))
    return key
  }

  /** The key of an environment; `undefined` when it does not exist, or was created by a transaction that is not committed yet. */
  findEnvironment(name: string): number | undefined {
    return this.#environments.get(name)
  }

  get environmentNames(): ReadonlyArray<string> {
    return [...this.#environments.keys()]
  }

  environmentName(key: number): string {
    return (
      this.#environmentNames.get(key) ??
      String(this.get("SELECT name FROM environments WHERE key = ?", key)?.name)
    )
  }

  /** Sends a notice to a live turn of a worker, when the transaction is committed. */
  notify(workerId: string, notice: Notice): void {
    this.changes.notices.push({ workerId, notice })
  }

  /** Notes that something is due at `at`, epoch milliseconds. */
  markDue(at: number): void {
    if (at < this.changes.dueAt) this.changes.dueAt = at
  }

  markEnded(runId: string): void {
    this.changes.ended.push(runId)
  }

  #rememberEnvironment(name: string, key: number): void {
    this.#environments.set(name, key)
    this.#environmentNames.set(key, name)
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      statement = this.db.prepare(sql)
      this.#statements.set(sql, statement)
    }
    return statement
  }
}
