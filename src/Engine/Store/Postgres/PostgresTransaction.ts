/**
 * The transaction of programs on Postgres. Numbers come from the row of `engine`, and each concurrent reader has its own
 * transaction object.
 */
import type { DatabaseSync } from "node:sqlite"
import type { SharedIds } from "../../../Ids.ts"
import { Damage, type DamagedKind } from "../Damage.ts"
import { eachCache, type RemoteChanges, shareCaches } from "../Cache.ts"
import type { Program } from "../Program.ts"
import { type Row, Transaction } from "../Transaction.ts"

/** The highest numbers given so far. */
export interface Numbers {
  environments: number
  events: number
  runs: number
  /** The last sequence number of journal entries and fired waits. */
  seq: number
  /** The last transaction that changed functions. */
  functions: number
  /** The last transaction that changed leases which several nodes may have cached. */
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
  get last(): number {
    return this.#keys.size
  }
}

/** Stands for a database, and rejects direct statements: on Postgres, only programs may query. */
const nowhere = {
  prepare(sql: string): never {
    throw new Error(`Direct SQL is not allowed on Postgres, which is a bug of the engine: ${sql}`)
  }
} as unknown as DatabaseSync

interface Tools {
  readonly environments: Environments
  readonly ids: SharedIds
  readonly now: () => number
  readonly random: () => number
  readonly node: number | undefined
}

export class PostgresTransaction extends Transaction {
  readonly #tools: Tools
  /** The environments that this transaction created, with their keys. */
  readonly #created = new Map<string, number>()
  #later: Array<Program<void>> = []
  #unknown: string | undefined
  numbers: Numbers = { environments: 0, events: 0, runs: 0, seq: 0, functions: 0, leases: 0, idTime: -1 }
  override readonly node: number | undefined

  constructor(tools: Tools, damage: NotedDamage = new NotedDamage()) {
    super({ db: nowhere, damage, ids: tools.ids, now: tools.now, random: tools.random })
    this.#tools = tools
    this.node = tools.node
  }

  get environments(): Environments {
    return this.#tools.environments
  }

  /** Follows the transactions of other nodes: moves the time of ids, and discards what caches hold of the changed rows. */
  moved(others: RemoteChanges): void {
    this.#tools.ids.follow(this.numbers.idTime)
    eachCache(this.caches, (cache, made) => cache.invalidate?.(made, others))
  }

  /** The numbers to store with the transaction `sequence`. */
  numbersAfter(sequence: number): Numbers {
    return {
      ...this.numbers,
      ...(this.changes.functions.length > 0 ? { functions: sequence } : {}),
      ...(this.touchedLeases ? { leases: sequence } : {}),
      idTime: this.#tools.ids.lastTime()
    }
  }

  /**
   * A transaction for a concurrent reader. Its caches end with it. `isUnmoved`: as far as is known, other nodes have written
   * nothing since the last transaction.
   */
  beside(isUnmoved: boolean): PostgresTransaction {
    const one = new PostgresTransaction(this.#tools, this.damage as NotedDamage)
    one.settledNow = this.settledNow
    shareCaches(this, one, isUnmoved)
    return one
  }

  protected override load(): void {}

  protected override reserve(): void {
    this.#created.clear()
    this.#later = []
  }

  override nextSeq(): number {
    return ++this.numbers.seq
  }

  override environment(name: string): number {
    const known = this.#tools.environments.key(name) ?? this.#created.get(name)
    if (known !== undefined) return known
    const key = ++this.numbers.environments
    this.#created.set(name, key)
    this.changes.environments.push(name)
    this.afterCommit(() => this.#tools.environments.put(name, key))
    return key
  }

  /** The environments that this transaction created, with their keys. They are written before any other statement runs. */
  get created(): ReadonlyMap<string, number> {
    return this.#created
  }

  override findEnvironment(name: string): number | undefined {
    const key = this.#tools.environments.key(name)
    if (key === undefined) this.#unknown = name
    return key
  }

  /** The last environment that was looked up and not found. Another node may have created it since. */
  get unknownEnvironment(): string | undefined {
    return this.#unknown
  }

  override get environmentNames(): ReadonlyArray<string> {
    return this.#tools.environments.names
  }

  override environmentName(key: number): string {
    const known = this.#tools.environments.name(key)
    if (known !== undefined) return known
    for (const [name, created] of this.#created) if (created === key) return name
    return String(undefined)
  }

  override perform<A>(): A {
    throw new Error(
      "perform() needs answers at once, which Postgres does not give: `yield*` the program instead"
    )
  }

  override later(program: Program<void>): void {
    this.#later.push(program)
  }

  /** Returns the programs that must run before this transaction goes on, and removes them from its list. */
  takeLater(): ReadonlyArray<Program<void>> {
    if (this.#later.length === 0) return []
    const some = this.#later
    this.#later = []
    return some
  }

  override get(sql: string): Row | undefined {
    throw new Error(`Direct SQL is not allowed on Postgres, which is a bug of the engine: ${sql}`)
  }
}

/** Damage for a database without a table of damaged rows: statements name the keys that they leave out. */
export class NotedDamage extends Damage {
  readonly #keys = new Map<DamagedKind, Set<number>>()

  constructor() {
    super(nowhere)
  }

  override except(kind: DamagedKind, column: string): string {
    const keys = this.#keys.get(kind)
    return keys === undefined || keys.size === 0 ? "" : ` AND ${column} NOT IN (${[...keys].join(", ")})`
  }

  protected override tabulate(kind: DamagedKind, key: number): void {
    const keys = this.#keys.get(kind) ?? new Set()
    this.#keys.set(kind, keys.add(key))
  }

  protected override untabulate(kind: DamagedKind, key: number): void {
    this.#keys.get(kind)?.delete(key)
  }
}
