/**
 * What a command of the SQLite store works with: the database, the time, ids, the order of things, and the list of what
 * the commit will mean for others.
 */
import type { DatabaseSync, StatementSync } from "node:sqlite"
import { LimitExceededError } from "../../Errors.ts"
import type { IdGenerator } from "../../Ids.ts"
import * as Limits from "../../Limits.ts"
import type { Notice } from "../../Protocol/Worker.ts"
import type { RunStatus } from "../../RunStatus.ts"
import type { Registry } from "../Registry.ts"
import { type Culprit, Damage, type DamagedKind } from "./Damage.ts"
import { Buckets } from "./KvBuckets.ts"
import { record } from "./Recording.ts"
import type { AccessChange } from "./AccessRecords.ts"
import type { RunActivity, Seen } from "./Activity.ts"
import { type Ask, type Program, type Row, runAtOnce, type Statement, type Value } from "./Program.ts"
import { Suspects } from "./Suspects.ts"
import type { ProjectionChange } from "./ProjectionStore.ts"
import { type Changes, type ConfigChange, type KvChange, noCounts } from "./Store.ts"

/** How the kinds of waits are stored; the order is part of the database. `runRetry` waits for a whole run. */
export const WaitKind = { sleep: 1, event: 2, child: 3, retry: 4, runRetry: 5 } as const

/** The step key of the wait that stands for the run itself. */
export const RUN_ITSELF = ""

export type { Row } from "./Program.ts"

/** The numbers that order journal entries come from blocks; `meta` remembers where the next block starts. */
const SEQ_BLOCK = 1_000_000_000
const SEQ_RESERVE = 100_000_000

/** The last moment that a `Date` can be, epoch milliseconds. */
const LAST_MOMENT = 8_640_000_000_000_000

/** A point in time as it is stored: what lies beyond all dates is as late, or as early, as a date can be. */
export const asMoment = (epochMs: number): number => Math.max(-LAST_MOMENT, Math.min(epochMs, LAST_MOMENT))

/**
 * SQLite takes integers that JavaScript does not read back: such a row would make every command fail that comes across it,
 * so the command that would write it fails instead.
 */
const checkNumbers = (values: ReadonlyArray<Value>): void => {
  for (const value of values) {
    if (
      typeof value === "number" &&
      !(value <= Number.MAX_SAFE_INTEGER && value >= Number.MIN_SAFE_INTEGER)
    ) {
      throw new RangeError(`${value} is not a number that can be stored`)
    }
  }
}

class PendingChanges implements Changes {
  readonly counts = noCounts()
  readonly notices: Array<{ readonly workerId: string; readonly notice: Notice }> = []
  readonly ended: Array<string> = []
  readonly activity: Array<Seen> = []
  readonly kv: Array<KvChange> = []
  readonly kvDeleted: Array<number> = []
  readonly warnings: Array<string> = []
  readonly projections: Array<string> = []
  readonly groups: Array<number> = []
  readonly states: Array<ProjectionChange> = []
  readonly configs: Array<ConfigChange> = []
  readonly access: Array<AccessChange> = []
  ready = false
  logEnd = 0
  dueAt = Number.POSITIVE_INFINITY
}

/** A run with a live turn: what a report about it needs. */
export interface LeasedRun {
  readonly key: number
  readonly id: string
  readonly environment: number
  readonly function: number
  /** `undefined` when what is stored is none. */
  readonly status: RunStatus | undefined
  readonly event: number
  readonly parent: number | null
  /** Whether it may have rows in `waits`. */
  mayHaveWaits: boolean
}

export class Transaction {
  readonly db: DatabaseSync
  readonly ids: IdGenerator
  readonly registry: Registry
  /** Keys of functions that may have ready runs: a hint for claims, never wrong by omission. */
  readonly hot = new Set<number>()
  readonly now: () => number
  /** A number from 0 up to 1, by chance. */
  readonly random: () => number
  /** The time that deletions go by: the clock's, without what it went forward lately. */
  settledNow: () => number
  readonly buckets = new Buckets()
  readonly suspects = new Suspects()
  readonly damage: Damage
  /** What the last error in the middle of many rows comes from. */
  culprit: Culprit | undefined
  changes = new PendingChanges()
  /** Whether somebody looks on at what happens to runs, steps included. */
  observed = false
  /** Whether somebody looks on at what happens to runs as a whole. */
  runsObserved = false
  /** Whether somebody looks on at the states of projections. */
  statesObserved = false
  /** What this transaction took out of `hot`. */
  readonly #cooled: Array<number> = []
  /**
   * Leased runs by key, and by job id, so that a report need not ask for its run. One that is missing is read; one that is
   * here has exactly this lease, and no pause that was asked for.
   */
  readonly #leased = new Map<number, { readonly jobId: string; readonly run: LeasedRun }>()
  readonly #byJob = new Map<string, LeasedRun>()
  readonly #newlyLeased = new Map<number, { readonly jobId: string; readonly run: LeasedRun }>()
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
    readonly ids: IdGenerator
    readonly registry: Registry
    readonly now: () => number
    readonly random: () => number
  }) {
    this.db = options.db
    this.damage = new Damage(options.db)
    this.ids = options.ids
    this.registry = options.registry
    this.now = options.now
    this.random = options.random
    this.settledNow = options.now
    for (const row of this.all("SELECT key, name FROM environments")) {
      this.#rememberEnvironment(String(row.name), Number(row.key))
    }
    this.#seqEnd = this.#seq = Number(this.get("SELECT value FROM meta WHERE name = 'seq'")?.value ?? 0)
  }

  /** Starts a transaction: forgets what a rolled back one has gathered, and makes sure that numbers last. */
  begin(): void {
    this.changes = new PendingChanges()
    this.#onCommit.length = 0
    this.#newlyLeased.clear()
    this.suspects.begin()
    for (const key of this.#cooled.splice(0)) this.hot.add(key)
    if (this.#seqEnd - this.#seq < SEQ_RESERVE) {
      const end = this.#seqEnd + SEQ_BLOCK
      this.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('seq', ?)", end)
      this.afterCommit(() => (this.#seqEnd = end))
    }
  }

  /** Runs `f` once the transaction is durable. */
  afterCommit(f: () => void): void {
    this.#onCommit.push(f)
  }

  /** What a transaction writes once for all its commands, before it commits. */
  committing(): void {
    this.perform(this.buckets.save())
  }

  /** The database is as it was before the transaction, and so is what is remembered of it. */
  rolledBack(): void {
    this.buckets.rolledBack()
  }

  /** Ends a transaction that was committed. */
  committed(): Changes {
    this.buckets.committed()
    for (const f of this.#onCommit) f()
    this.suspects.committed()
    this.#cooled.length = 0
    for (const [key, lease] of this.#newlyLeased) {
      this.#leased.set(key, lease)
      this.#byJob.set(lease.jobId, lease.run)
    }
    // what became ready in this transaction may have been claimed in it too
    this.changes.ready &&= this.hot.size > 0
    return this.changes
  }

  /** A run was leased: remembered once that is durable. */
  rememberLease(jobId: string, run: LeasedRun): void {
    this.#newlyLeased.set(run.key, { jobId, run })
  }

  /** The run that a job holds, if it is remembered. */
  leasedTo(jobId: string): LeasedRun | undefined {
    return this.#byJob.get(jobId)
  }

  /** The lease of a run ends, or something about the run changes: forgotten at once, which a rollback does not harm. */
  forgetLease(run: number): void {
    this.#newlyLeased.delete(run)
    const lease = this.#leased.get(run)
    if (lease === undefined) return
    this.#leased.delete(run)
    this.#byJob.delete(lease.jobId)
  }

  /** The next number in the order of journal entries and fired waits. */
  nextSeq(): number {
    return ++this.#seq
  }

  /** Runs a program at once. */
  perform<A>(program: Program<A>): A {
    return runAtOnce(program, this.#answer)
  }

  readonly #answer = ({ kind, statement, values, visitor }: Ask): unknown => {
    switch (kind) {
      case "get":
        return this.#prepared(statement).get(...values)
      case "all":
        return this.#prepared(statement).all(...values)
      case "insert":
        checkNumbers(values)
        return Number(this.#prepared(statement).run(...values).lastInsertRowid)
      case "write":
      case "affected":
        checkNumbers(values)
        return Number(this.#prepared(statement).run(...values).changes)
      case "visit":
        return visitor === undefined ? undefined : this.each(this.#textOf(statement), values, visitor)
    }
  }

  #prepared(statement: Statement): StatementSync {
    if (statement.isSound && this.damage.count > 0) return this.#statement(this.#textOf(statement))
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

  /** The text of a statement without what is damaged. */
  #sound({ text }: Statement): string {
    return text.replaceAll(/ ?@sound\((\w+), ([\w.]+)\)/g, (_, kind: DamagedKind, column: string) =>
      this.damage.except(kind, column)
    )
  }

  all(sql: string, ...values: ReadonlyArray<Value>): Array<Row> {
    return this.#statement(sql).all(...values) as Array<Row>
  }

  /**
   * Visits rows as arrays of columns, one after the other. For pages of thousands of rows: an object for each takes twice as
   * long. `visit` must not run the same statement; when it returns `false` no more are visited.
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
    // the declared type does not know of `setReturnArrays`
    const rows = statement.iterate(...values) as Iterable<unknown> as Iterable<ReadonlyArray<Value>>
    for (const row of rows) if (visit(row) === false) return
  }

  /** Says where an error comes from; the innermost knows best. */
  blame(culprit: Culprit): void {
    if (this.culprit?.error !== culprit.error) this.culprit = culprit
  }

  get(sql: string, ...values: ReadonlyArray<Value>): Row | undefined {
    return this.#statement(sql).get(...values) as Row | undefined
  }

  /** Runs a statement and returns the number of rows that it changed. */
  run(sql: string, ...values: ReadonlyArray<Value>): number {
    checkNumbers(values)
    return Number(this.#statement(sql).run(...values).changes)
  }

  /** Inserts a row and returns its integer key. */
  insert(sql: string, ...values: ReadonlyArray<Value>): number {
    checkNumbers(values)
    return Number(this.#statement(sql).run(...values).lastInsertRowid)
  }

  /** The key of an environment, which comes into being when it is first named. */
  environment(name: string): number {
    const known = this.#environments.get(name)
    if (known !== undefined) return known
    const row = this.get("SELECT key FROM environments WHERE name = ?", name)
    const key =
      row === undefined ? this.insert("INSERT INTO environments (name) VALUES (?)", name) : Number(row.key)
    this.afterCommit(() => this.#rememberEnvironment(name, key))
    return key
  }

  /** Throws `LimitExceededError` when it does not exist, and there is no room for another. */
  checkEnvironment(name: string): void {
    if (this.#environments.has(name) || this.#environments.size < Limits.environments) return
    throw new LimitExceededError(
      `The list of environments with "${name.slice(0, 64)}" (use one that is there)`,
      this.#environments.size + 1,
      Limits.environments,
      "environments"
    )
  }

  /** The key of an environment if it exists. */
  findEnvironment(name: string): number | undefined {
    return this.#environments.get(name)
  }

  environmentName(key: number): string {
    return (
      this.#environmentNames.get(key) ??
      String(this.get("SELECT name FROM environments WHERE key = ?", key)?.name)
    )
  }

  /** Tells a live turn something. */
  notify(workerId: string, notice: Notice): void {
    this.changes.notices.push({ workerId, notice })
  }

  /** Something of a function is ready to be claimed. */
  markReady(functionKey: number): void {
    this.hot.add(functionKey)
    this.changes.ready = true
  }

  /** Nothing of a function is ready any more, as far as this transaction knows: it may yet be rolled back. */
  markCold(functionKey: number): void {
    if (this.hot.delete(functionKey)) this.#cooled.push(functionKey)
  }

  /** A lease of a function ended: that may make room under its limit, or for the next run of an actor. */
  markRoom(functionKey: number): void {
    const registration = this.registry.byKey(functionKey)?.registration
    if (registration?.concurrency !== undefined || registration?.actorKey !== undefined)
      this.markReady(functionKey)
  }

  /** A run of a function ended: fires of its schedules may have waited for that. */
  markFreed(functionKey: number): void {
    const triggers = this.registry.byKey(functionKey)?.registration.triggers
    if (triggers?.some(({ overlap }) => overlap !== undefined) === true) this.markDue(this.now())
  }

  /** Something is due at `at`. */
  markDue(at: number): void {
    if (at < this.changes.dueAt) this.changes.dueAt = at
  }

  markEnded(runId: string): void {
    this.changes.ended.push(runId)
  }

  /** Whether anything is to be told of steps. */
  get isToldOfSteps(): boolean {
    return this.observed || this.registry.hasRecorded
  }

  /** Whether anything is to be told of runs as a whole. */
  get isToldOfRuns(): boolean {
    return this.runsObserved || this.isToldOfSteps
  }

  /** Something happened in a run; nothing is put together while nobody looks on. */
  tell(activity: () => RunActivity): void {
    if (!this.isToldOfSteps) return
    const told = activity()
    if (this.observed) this.changes.activity.push(told)
    if (this.registry.hasRecorded) this.perform(record(this, told))
  }

  /** Something happened to a run as a whole. */
  tellOfRun(activity: () => RunActivity): void {
    if (!this.runsObserved || this.observed) return this.tell(activity)
    const told = activity()
    this.changes.activity.push(told)
    if (this.registry.hasRecorded) this.perform(record(this, told))
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
