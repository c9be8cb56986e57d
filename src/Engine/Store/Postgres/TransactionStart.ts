/**
 * Begins the transactions of a node. Each one locks the row of `engine`, so that no other node writes until it is committed,
 * and reads what has changed since this node's last one: caches follow the commits of others, leases of dead nodes are taken
 * back, and a server that lacks commits of this node is noticed. When no other node writes, the lock and the first writes are
 * sent together.
 */
import { StoreError } from "../../../Errors.ts"
import type { RemoteChanges } from "../Cache.ts"
import type { Program, Row, Statement } from "../Program.ts"
import type { Prepared } from "./Dialect.ts"
import { checkCommits, timelineSql, type TimelineSource, READ_TIMELINE } from "./LostCommits.ts"
import { ExpectedReads, type Read } from "./ExpectedReads.ts"
import type { WriteConnection } from "./WriteConnection.ts"
import {
  DELETE_OLD_NODES,
  HAS_LAPSED,
  NODE_IS_LIVE,
  MARK_DEAD,
  MARK_LAPSED,
  NOW,
  MARK_RETURNED
} from "./Nodes.ts"
import { isAssumptionError } from "./PostgresErrors.ts"
import type { Numbers, PostgresTransaction } from "./PostgresTransaction.ts"
import type { Runner, Session } from "./Session.ts"

export interface TransactionStartOptions {
  readonly tx: PostgresTransaction
  readonly writeConnection: WriteConnection
  /** Reads the registered functions again. */
  readonly load: (tx: PostgresTransaction) => Program<void>
  /** Finds the keys of the functions with ready runs. */
  readonly ready: Statement
  /** Whether no other node may use the tables. */
  readonly isAlone: boolean
  /** A monotonic clock, milliseconds. */
  readonly monotonicMs: () => number
}

export interface TransactionStartCallbacks {
  /**
   * Whether other nodes probably write nothing now. If so, the first statements are sent with the lock, without waiting for it.
   */
  expectsNobody(): boolean
  /** Called with the time of the server, epoch milliseconds. */
  measured(serverMs: number): void
  /** Programs that take back what lost nodes held. */
  takeOver(): ReadonlyArray<Program<unknown>>
  /** Called with the names of the nodes that were declared dead. */
  tookOver(nodes: ReadonlyArray<string>): void
  /**
   * Called when this node is back after others have declared it dead, or may have: it has lost all that it held. `wasDead`:
   * others have declared it dead.
   */
  returned(wasDead: boolean): void
  /** Called when Postgres is another server than before, or was set back. `hasLostCommits`: it lacks some commits. */
  replaced(hasLostCommits: boolean): void
}

const BEGIN = { name: "begin", text: "BEGIN" }
const NOTHING_SEEN = {
  sequence: -1,
  environments: -1,
  events: -1,
  runs: -1,
  seq: -1,
  functions: -1,
  leases: -1,
  idTime: -1
}
/** A node that is alone knows without asking which functions have ready runs. */
const NOTHING_READY: Promise<{ readonly rows: ReadonlyArray<Row> }> = Promise.resolve({ rows: [] })
/** The first statement of every transaction that writes: no other node writes until that transaction is committed. */
const LOCK = {
  name: "lock",
  text: `UPDATE engine SET sequence = sequence + 1
    RETURNING sequence, environments, events, runs, seq, functions, leases, id_time AS "idTime"`
}
/**
 * Does {@link LOCK} and {@link look} in one statement, if nothing has changed. It fails, with all statements that were sent after
 * it, when another node has written since transaction $2, when a node is to be declared dead, or when Postgres is another server
 * than before.
 */
const lockUnmoved = (source: TimelineSource): Prepared => ({
  name: `unmoved ${source}`,
  text: `WITH locked AS (UPDATE engine SET sequence = sequence + 1
      WHERE sequence = $2 AND ${timelineSql[source]} = $3 AND ${NODE_IS_LIVE} = 1 AND NOT ${HAS_LAPSED} RETURNING 1)
    SELECT ${NOW} AS now, 1 / count(*) AS locked FROM locked`
})
/**
 * Reads the state after the lock was taken. The locking statement cannot: when it had to wait for the lock, it still sees the
 * state from before.
 */
const look = (source: TimelineSource): Prepared => ({
  name: `look ${source}`,
  text: `SELECT ${NOW} AS now, ${NODE_IS_LIVE} AS "isThere", ${HAS_LAPSED} AS "hasLapsed", ${timelineSql[source]} AS timeline`
})
const LOCK_UNMOVED = { timeline: lockUnmoved("timeline"), start: lockUnmoved("start") }
const LOOK = { timeline: look("timeline"), start: look("start") }
const NEW_ENVIRONMENTS = { name: "", text: "SELECT key, name FROM environments WHERE key > $1 ORDER BY key" }

export class TransactionStart {
  readonly #options: TransactionStartOptions
  readonly #callbacks: TransactionStartCallbacks
  readonly #ready: Prepared
  readonly #expectedReads = new ExpectedReads()
  /** When this node began to wait for the lock, by the monotonic clock; `undefined` when it does not wait. */
  #asksSince: number | undefined
  /** Whether others may have declared this node dead. */
  #isAway = false
  /** The names of the nodes that the current transaction has declared dead. */
  #gone: ReadonlyArray<string> = []
  #isReturning = false
  /** Whether others had declared this node dead before the current transaction. */
  #wasDead = false
  /** The stored numbers: those after the last transaction of this node or, within a transaction, those before it. */
  #seen: Numbers & { readonly sequence: number } = NOTHING_SEEN
  #isOvertaken = false
  /** The last commit of any node that this one has seen. */
  #highest = -1
  /** The timeline of the last transaction; `undefined` before the first. */
  #timeline: string | undefined
  /** The number of the last transaction of this node. */
  #batch = 0
  /** What the current transaction has found out about the server. */
  #found:
    { readonly timeline: string; readonly isOther: boolean; readonly hasLostCommits: boolean } | undefined

  constructor(options: TransactionStartOptions, callbacks: TransactionStartCallbacks) {
    this.#options = options
    this.#callbacks = callbacks
    const { text } = options.ready
    this.#ready = {
      name: "ready",
      text: `SELECT * FROM (${text}) AS ready WHERE (SELECT sequence FROM engine) <> $1`
    }
  }

  /** Whether this node has read all functions and environments that others have written. */
  knows(stored: Pick<Numbers, "functions" | "environments">): boolean {
    return (
      stored.functions === this.#seen.functions && stored.environments <= this.#options.tx.environments.last
    )
  }

  /** The number of the last transaction of this node. Before it, the node has read all that others had written. */
  get sequence(): number {
    return this.#seen.sequence
  }

  /** How long this node has been waiting for the lock, milliseconds; 0 when it does not wait. */
  get waitedMs(): number {
    return this.#asksSince === undefined ? 0 : this.#options.monotonicMs() - this.#asksSince
  }

  /** Notes that this node could not renew its row. It counts as dead until it has renewed it. */
  away(): void {
    this.#isAway = true
  }

  get isAway(): boolean {
    return this.#isAway
  }

  /** Whether the last transaction failed because {@link lockUnmoved} found a change. Returns `true` once. */
  takeOvertaken(): boolean {
    const isOvertaken = this.#isOvertaken
    this.#isOvertaken = false
    return isOvertaken
  }

  /** Begins a transaction, and returns its number as `batch`. `waits`: it waits for the lock in any case. */
  async begin(
    session: Session,
    runner: Runner,
    waits: boolean
  ): Promise<{ readonly batch: number; readonly hasLock: boolean }> {
    this.#isOvertaken = false
    const isUnmoved =
      !waits &&
      !this.#isAway &&
      this.#timeline !== undefined &&
      this.#seen.sequence >= 0 &&
      this.#callbacks.expectsNobody()
    return isUnmoved
      ? { batch: this.#beginUnmoved(session, runner, this.#timeline!), hasLock: false }
      : { batch: await this.#beginLocked(session, runner), hasLock: true }
  }

  /** Notes the commit of transaction `batch`: the numbers that it has stored, and the rows that its programs have read. */
  committed(batch: number, after: Numbers, asked: ReadonlyMap<string, Read>): void {
    this.#expectedReads.learn(asked)
    this.#seen = { ...after, sequence: batch }
    this.#batch = this.#highest = batch
    this.#timeline = this.#found?.timeline
    if (this.#found?.isOther === true) this.#callbacks.replaced(this.#found.hasLostCommits)
    if (this.#gone.length > 0) this.#callbacks.tookOver(this.#gone)
    if (this.#isReturning) {
      this.#isAway = false
      this.#callbacks.returned(this.#wasDead)
    }
  }

  /** Notes that the transaction was rolled back. */
  rolledBack(): void {
    this.#expectedReads.forget()
  }

  /** Begins without waiting for the lock. The statements that follow fail if {@link lockUnmoved} finds a change. */
  #beginUnmoved(session: Session, runner: Runner, timeline: string): number {
    const { writeConnection, monotonicMs, tx } = this.#options
    const { sequence, ...numbers } = this.#seen
    runner.put(BEGIN, [])
    this.#found = { timeline, isOther: false, hasLostCommits: false }
    this.#gone = []
    this.#isReturning = false
    this.#asksSince = monotonicMs()
    session
      .send(LOCK_UNMOVED[writeConnection.timelineSource], [writeConnection.node, sequence, timeline])
      .then(
        ({ rows }) => {
          this.#asksSince = undefined
          this.#callbacks.measured(Number(rows[0]?.now))
        },
        (error: unknown) => {
          this.#asksSince = undefined
          if (isAssumptionError(error)) this.#isOvertaken = true
          runner.failed(error)
        }
      )
    tx.numbers = numbers
    tx.begin()
    return sequence + 1
  }

  async #beginLocked(session: Session, runner: Runner): Promise<number> {
    const { writeConnection, tx } = this.#options
    runner.put(BEGIN, [])
    const expected = this.#seen.sequence + 1
    const asked = Promise.all([
      session.send(LOCK),
      session.send(LOOK[writeConnection.timelineSource], [writeConnection.node]),
      this.#options.isAlone ? NOTHING_READY : session.send(this.#ready, [expected]),
      runner.readAhead(this.#expectedReads.reads)
    ])
    this.#asksSince = this.#options.monotonicMs()
    const [locked, looked, ready] = await session.wait(asked).finally(() => (this.#asksSince = undefined))
    const [there] = looked.rows
    this.#callbacks.measured(Number(there?.now))
    const { sequence: number, ...numbers } = locked.rows[0] as Numbers & { readonly sequence: number }
    const sequence = await this.#compare(session, runner, String(there?.timeline), number, numbers)
    const isThere =
      there?.isThere ??
      (this.#found?.isOther === true && (await writeConnection.restore(session)) ? 0 : undefined)
    if (isThere === undefined || (this.#options.isAlone && isThere !== 1)) {
      throw new StoreError(
        "Another engine has taken over the tables, or this one was away for so long that the others have forgotten it: this engine stops, and has written nothing since. Start it again",
        { code: "STORE_LOCKED" }
      )
    }
    tx.numbers = numbers
    tx.begin()
    if (sequence !== this.#seen.sequence + 1) await this.#follow(session, runner, ready.rows)
    // when numbers were skipped or Postgres was set back, the numbers count as seen only after the commit
    if (sequence === number) {
      this.#seen = { ...numbers, sequence: sequence - 1 }
      if (this.#found?.isOther !== true) this.#highest = sequence - 1
    }
    await this.#lookAfter(session, runner, isThere === 1, there?.hasLapsed === 1)
    return sequence
  }

  /**
   * Checks whether Postgres still has all commits that this node knows of. If not, everything in memory counts as outdated, and
   * the transaction gets a later number. Returns the number of the transaction.
   */
  async #compare(
    session: Session,
    runner: Runner,
    timeline: string,
    sequence: number,
    numbers: Numbers
  ): Promise<number> {
    this.#found = { timeline, isOther: false, hasLostCommits: false }
    if (timeline === this.#timeline && sequence > this.#highest) return sequence
    const { writeConnection } = this.#options
    const { rows } = await session.wait(session.send(READ_TIMELINE, [writeConnection.node]))
    const known = { timeline: this.#timeline, sequence: this.#highest, batch: this.#batch }
    const found = checkCommits(known, { timeline, sequence, stored: rows[0] }, numbers, (statement, values) =>
      runner.put(statement, values)
    )
    this.#found = { timeline, ...found }
    if (found.isOther) this.#seen = NOTHING_SEEN
    return found.sequence
  }

  /** Takes back what dead nodes held, and what this node held if it was declared dead. */
  async #lookAfter(session: Session, runner: Runner, isThere: boolean, hasLapsed: boolean): Promise<void> {
    const { writeConnection, isAlone } = this.#options
    this.#gone = []
    // after a promotion, the row may be missing although no node declared this one dead
    this.#wasDead = !isThere && this.#found?.isOther !== true
    this.#isReturning = !isAlone && (this.#isAway || !isThere || this.#found?.isOther === true)
    if (isAlone || (!hasLapsed && !this.#isReturning)) return
    runner.forgetReads()
    if (hasLapsed) {
      const { rows } = await session.wait(session.send(MARK_LAPSED, [writeConnection.node]))
      this.#gone = rows.map(({ name }) => String(name))
    }
    if (this.#isReturning) runner.put(MARK_DEAD, [writeConnection.node])
    for (const program of this.#callbacks.takeOver()) await runner.run(program)
    if (this.#isReturning) runner.put(MARK_RETURNED, [writeConnection.node])
    runner.put(DELETE_OLD_NODES, [])
  }

  /**
   * Follows what other nodes have written since the last transaction of this node: reads it again, or discards it from caches.
   */
  async #follow(session: Session, runner: Runner, ready: ReadonlyArray<Row>): Promise<void> {
    const { load, tx } = this.#options
    const { environments, functions, leases } = tx.numbers
    const others: RemoteChanges = {
      ready: ready.map(({ key }) => Number(key)),
      functions: functions !== this.#seen.functions,
      leases: leases !== this.#seen.leases
    }
    const isOther = this.#found?.isOther === true
    if (isOther || environments > tx.environments.last) {
      const { rows } = await session.wait(
        session.send(NEW_ENVIRONMENTS, [isOther ? 0 : tx.environments.last])
      )
      if (isOther) tx.environments.clear()
      for (const { key, name } of rows) tx.environments.put(String(name), Number(key))
    }
    tx.moved(others)
    if (others.functions) await runner.run(load(tx))
  }
}
