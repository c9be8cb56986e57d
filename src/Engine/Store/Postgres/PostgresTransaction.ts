/**
 * The transaction of programs on Postgres. Keys and positions that it assigns come from the row of `engine`. Each concurrent reader
 * has its own transaction object.
 */
import type { DatabaseSync } from "node:sqlite"
import type { SharedIds } from "../../../Ids.ts"
import { Damage, type DamagedKind } from "../Damage.ts"
import { forEachCache, type RemoteChanges, shareCaches } from "../Cache.ts"
import type { Program } from "../Program.ts"
import { type Row, Transaction } from "../Transaction.ts"

/** The numbers in the row of `engine`. */
export interface Numbers {
  /** The highest key of an environment. */
  environments: number
  /** The highest position of the log. */
  events: number
  /** The highest key of a run. */
  runs: number
  /** The last sequence number of journal entries and fired waits. */
  seq: number
  /** The number of the last transaction that changed functions. */
  functions: number
  /** The number of the last transaction that changed leases which other engines may have cached. */
  leases: number
  /** The time in the newest id. */
  idTime: number
}

/** The committed environments, by name and by key. */
export class Environments {
  readonly #keys = new Map<string, number>()
  readonly #names = new Map<number, string>()

  put(name: string, key: number): void {
    this.#keys.set(name, key)
    this.#names.set(key, name)
  }

  /** Forgets all environments, so that they are read again. */
  clear(): void {
    this.#keys.clear()
    this.#names.clear()
  }

  key(name: string): number | undefined {
    return this.#keys.get(name)
  }

  name(key: number): string | undefined {
    return this.#names.get(key)
  }

  get names(): ReadonlyArray<string> {
    return [...this.#keys.keys()]
  }

  /** The highest key. Keys are assigned without gaps. */
  get highestKey(): number {
    return this.#keys.size
  }
}

/** Stands in for the SQLite database, and rejects direct statements: on Postgres, only programs may query. */
const noDatabase = {
  prepare(sql: string): never {
    throw new Error(`Direct SQL is not allowed on Postgres, which is a bug of the engine: ${sql}`)
  }
} as unknown as DatabaseSync

/** What a transaction shares with the transactions of concurrent readers. */
interface SharedTools {
  readonly environments: Environments
  readonly ids: SharedIds
  readonly now: () => number
  readonly random: () => number
  readonly node: number | undefined
}

export class PostgresTransaction extends Transaction {
  readonly #tools: SharedTools
  /** The environments that this transaction created, with their keys. */
  readonly #createdEnvironments = new Map<string, number>()
  #laterPrograms: Array<Program<void>> = []
  #unknownEnvironment: string | undefined
  numbers: Numbers = { environments: 0, events: 0, runs: 0, seq: 0, functions: 0, leases: 0, idTime: -1 }
  override readonly node: number | undefined

  constructor(tools: SharedTools, damage: NotedDamage = new NotedDamage()) {
    super({ db: noDatabase, damage, ids: tools.ids, now: tools.now, random: tools.random })
    this.#tools = tools
    this.node = tools.node
  }

  get environments(): Environments {
    return this.#tools.environments
  }

  /**
   * Follows the transactions of other engines: new ids sort after the ids of those transactions, and caches discard what the
   * transactions may have changed.
   */
  follow(remoteChanges: RemoteChanges): void {
    this.#tools.ids.follow(this.numbers.idTime)
    forEachCache(this.caches, (cache, content) => cache.invalidate?.(content, remoteChanges))
  }

  /** The numbers to store with this transaction. `sequence` is the number of the transaction. */
  numbersAfter(sequence: number): Numbers {
    return {
      ...this.numbers,
      ...(this.changes.functions.length > 0 ? { functions: sequence } : {}),
      ...(this.hasChangedLeases ? { leases: sequence } : {}),
      idTime: this.#tools.ids.lastTime()
    }
  }

  /**
   * A transaction for a concurrent reader. It shares some caches with this transaction, and has its own for the rest. `isUpToDate`
   * says that other engines, as far as is known, have written nothing since the last transaction of this engine.
   */
  forReader(isUpToDate: boolean): PostgresTransaction {
    const view = new PostgresTransaction(this.#tools, this.damage as NotedDamage)
    view.settledNow = this.settledNow
    shareCaches(this, view, isUpToDate)
    return view
  }

  protected override load(): void {}

  protected override reserveSeqs(): void {
    this.#createdEnvironments.clear()
    this.#laterPrograms = []
  }

  override nextSeq(): number {
    return ++this.numbers.seq
  }

  override environment(name: string): number {
    const known = this.#tools.environments.key(name) ?? this.#createdEnvironments.get(name)
    if (known !== undefined) return known
    const key = ++this.numbers.environments
    this.#createdEnvironments.set(name, key)
    this.changes.environments.push(name)
    this.afterCommit(() => this.#tools.environments.put(name, key))
    return key
  }

  /** The environments that this transaction created, with their keys. They are written before any other statement runs. */
  get createdEnvironments(): ReadonlyMap<string, number> {
    return this.#createdEnvironments
  }

  override findEnvironment(name: string): number | undefined {
    const key = this.#tools.environments.key(name)
    if (key === undefined) this.#unknownEnvironment = name
    return key
  }

  /** The last environment that was looked up and not found. Another engine may have created it. */
  get unknownEnvironment(): string | undefined {
    return this.#unknownEnvironment
  }

  override get environmentNames(): ReadonlyArray<string> {
    return this.#tools.environments.names
  }

  override environmentName(key: number): string {
    const known = this.#tools.environments.name(key)
    if (known !== undefined) return known
    for (const [name, created] of this.#createdEnvironments) if (created === key) return name
    return String(undefined)
  }

  override perform<A>(): A {
    throw new Error(
      "perform() needs a database that answers at once, and Postgres does not: `yield*` the program instead"
    )
  }

  override runLater(program: Program<void>): void {
    this.#laterPrograms.push(program)
  }

  /** Returns the programs that `runLater` has added, and forgets them. They must run before this transaction goes on. */
  takeLaterPrograms(): ReadonlyArray<Program<void>> {
    if (this.#laterPrograms.length === 0) return []
    const programs = this.#laterPrograms
    this.#laterPrograms = []
    return programs
  }

  override get(sql: string): Row | undefined {
    throw new Error(`Direct SQL is not allowed on Postgres, which is a bug of the engine: ${sql}`)
  }
}

/**
 * Notes damaged rows of a database on Postgres, which has no table of damaged rows: the text of each statement has the keys of
 * the rows that it leaves out.
 */
export class NotedDamage extends Damage {
  readonly #damagedKeys = new Map<DamagedKind, Set<number>>()

  constructor() {
    super(noDatabase)
  }

  override soundCondition(kind: DamagedKind, column: string): string {
    const keys = this.#damagedKeys.get(kind)
    return keys === undefined || keys.size === 0 ? "" : ` AND ${column} NOT IN (${[...keys].join(", ")})`
  }

  protected override addToTable(kind: DamagedKind, key: number): void {
    const keys = this.#damagedKeys.get(kind) ?? new Set()
    this.#damagedKeys.set(kind, keys.add(key))
  }

  protected override removeFromTable(kind: DamagedKind, key: number): void {
    this.#damagedKeys.get(kind)?.delete(key)
  }
}
