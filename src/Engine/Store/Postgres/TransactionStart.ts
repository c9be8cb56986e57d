/**
 * Begins the transactions of a node: an engine that shares the tables (`Nodes.ts`). Each transaction first locks the row of
 * `engine`, so no other node writes before it is committed. Then it reads what has changed since the last transaction of this node.
 * So caches follow the commits of other nodes, leases of dead nodes are taken back, and a server that lacks commits of this node is
 * noticed. When no other node writes, the lock and the first writes are sent together.
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
  /** A monotonic clock. */
  readonly monotonicMs: () => number
}

export interface TransactionStartCallbacks {
  /**
   * Whether other nodes probably write nothing now. If so, the first statements are sent together with the lock, without waiting
   * for the lock.
   */
  expectsNobody(): boolean
  /** Called with the time of the server, epoch milliseconds. */
  measured(serverMs: number): void
  /** Programs that take back what lost nodes held. */
  takeOver(): ReadonlyArray<Program<unknown>>
  /** Called with the names of the nodes that were declared dead. */
  tookOver(nodes: ReadonlyArray<string>): void
  /**
   * Called when this node is back after other nodes have declared it dead, or may have done so. It has lost all that it held.
   * `wasDead` is `true` if they have declared it dead.
   */
  returned(wasDead: boolean): void
  /** Called when Postgres is another server than before, or was set back. `hasLostCommits`: the server now lacks some commits. */
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
/** The answer about ready runs for a node that is alone: no other node makes runs ready. */
const NOTHING_READY: Promise<{ readonly rows: ReadonlyArray<Row> }> = Promise.resolve({ rows: [] })
/** The first statement of every transaction that writes: no other node writes until that transaction is committed. */
const LOCK = {
  name: "lock",
  text: `UPDATE engine SET sequence = sequence + 1
    RETURNING sequence, environments, events, runs, seq, functions, leases, id_time AS "idTime"`
}
/**
 * Takes the lock and reads the time in one statement, if nothing has changed. The statement fails, and with it all statements that
 * were sent after it, when another node has written since transaction $2, when a node is to be declared dead, or when Postgres is
 * another server than before.
 */
const lockUnmoved = (source: TimelineSource): Prepared => ({
  name: `unmoved ${source}`,
  text: `WITH locked AS (UPDATE engine SET sequence = sequence + 1
      WHERE sequence = $2 AND ${timelineSql[source]} = $3 AND ${NODE_IS_LIVE} = 1 AND NOT ${HAS_LAPSED} RETURNING 1)
    SELECT ${NOW} AS now, 1 / count(*) AS locked FROM locked`
})
/**
 * Reads the state after the lock was taken. {@link LOCK} cannot read it: a statement that had to wait for a lock still sees the
 * state from before the wait.
 */
const readState = (source: TimelineSource): Prepared => ({
  name: `look ${source}`,
  text: `SELECT ${NOW} AS now, ${NODE_IS_LIVE} AS "isThere", ${HAS_LAPSED} AS "hasLapsed", ${timelineSql[source]} AS timeline`
})
const LOCK_UNMOVED = { timeline: lockUnmoved("timeline"), start: lockUnmoved("start") }
const READ_STATE = { timeline: readState("timeline"), start: readState("start") }
const NEW_ENVIRONMENTS = { name: "", text: "SELECT key, name FROM environments WHERE key > $1 ORDER BY key" }

export class TransactionStart {
  readonly #options: TransactionStartOptions
  readonly #callbacks: TransactionStartCallbacks
  readonly #ready: Prepared
  readonly #expectedReads = new ExpectedReads()
  /** When this node began to wait for the lock, by the monotonic clock; `undefined` when it does not wait. */
  #waitsSince: number | undefined
  /** Whether other nodes may have declared this node dead. */
  #isAway = false
  /** The names of the nodes that the current transaction has declared dead. */
  #declaredDead: ReadonlyArray<string> = []
  /** Whether the current transaction makes this node live again. */
  #isReturning = false
  /** Whether other nodes had declared this node dead before the current transaction. */
  #wasDead = false
  /** The stored numbers after the last transaction of this node or, within a transaction, before that transaction. */
  #seen: Numbers & { readonly sequence: number } = NOTHING_SEEN
  /** Whether {@link lockUnmoved} has found a change in the last transaction. */
  #isOvertaken = false
  /** The number of the last commit, of any node, that this node has seen. */
  #highestCommit = -1
  /** The timeline of the last transaction; `undefined` before the first. */
  #timeline: string | undefined
  /** The number of the last transaction of this node. */
  #batch = 0
  /** What the current transaction has found out about the server. */
  #serverCheck:
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

  /** Whether this node has read all functions and environments that other nodes have written. */
  knows(stored: Pick<Numbers, "functions" | "environments">): boolean {
    return (
      stored.functions === this.#seen.functions && stored.environments <= this.#options.tx.environments.last
    )
  }

  /** The number of the last transaction of this node. The node has read all that other nodes have written before it. */
  get sequence(): number {
    return this.#seen.sequence
  }

  /** How long this node has been waiting for the lock; 0 when it does not wait. */
  get waitedMs(): number {
    return this.#waitsSince === undefined ? 0 : this.#options.monotonicMs() - this.#waitsSince
  }

  /** Notes that this node could not renew its row for long. The node treats itself as dead until a transaction succeeds. */
  away(): void {
    this.#isAway = true
  }

  get isAway(): boolean {
    return this.#isAway
  }

  /**
   * Whether the last transaction failed because {@link lockUnmoved} found a change. Returns `true` only once for each such
   * transaction.
   */
  consumeOvertaken(): boolean {
    const isOvertaken = this.#isOvertaken
    this.#isOvertaken = false
    return isOvertaken
  }

  /** Begins a transaction, and returns its number as `batch`. With `mustWait`, waits for the lock in any case. */
  async begin(
    session: Session,
    runner: Runner,
    mustWait: boolean
  ): Promise<{ readonly batch: number; readonly hasLock: boolean }> {
    this.#isOvertaken = false
    const isUnmoved =
      !mustWait &&
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
    this.#batch = this.#highestCommit = batch
    this.#timeline = this.#serverCheck?.timeline
    if (this.#serverCheck?.isOther === true) this.#callbacks.replaced(this.#serverCheck.hasLostCommits)
    if (this.#declaredDead.length > 0) this.#callbacks.tookOver(this.#declaredDead)
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
    this.#serverCheck = { timeline, isOther: false, hasLostCommits: false }
    this.#declaredDead = []
    this.#isReturning = false
    this.#waitsSince = monotonicMs()
    session
      .send(LOCK_UNMOVED[writeConnection.timelineSource], [writeConnection.node, sequence, timeline])
      .then(
        ({ rows }) => {
          this.#waitsSince = undefined
          this.#callbacks.measured(Number(rows[0]?.now))
        },
        (error: unknown) => {
          this.#waitsSince = undefined
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
    const answers = Promise.all([
      session.send(LOCK),
      session.send(READ_STATE[writeConnection.timelineSource], [writeConnection.node]),
      this.#options.isAlone ? NOTHING_READY : session.send(this.#ready, [expected]),
      runner.readAhead(this.#expectedReads.reads)
    ])
    this.#waitsSince = this.#options.monotonicMs()
    const [locked, read, ready] = await session.wait(answers).finally(() => (this.#waitsSince = undefined))
    const [state] = read.rows
    this.#callbacks.measured(Number(state?.now))
    const { sequence: lockedSequence, ...numbers } = locked.rows[0] as Numbers & { readonly sequence: number }
    const sequence = await this.#compare(session, runner, String(state?.timeline), lockedSequence, numbers)
    // 1: this node is live; 0: it was declared dead; undefined: it has no row any more
    const isThere =
      state?.isThere ??
      (this.#serverCheck?.isOther === true && (await writeConnection.restore(session)) ? 0 : undefined)
    if (isThere === undefined || (this.#options.isAlone && isThere !== 1)) {
      throw new StoreError(
        "Another engine has taken over the tables, or this engine was cut off from Postgres for so long that the other engines have removed it. This engine stops, and has written nothing since: start it again",
        { code: "STORE_LOCKED" }
      )
    }
    tx.numbers = numbers
    tx.begin()
    if (sequence !== this.#seen.sequence + 1) await this.#follow(session, runner, ready.rows)
    // when numbers were skipped or Postgres was set back, the numbers count as seen only after the commit
    if (sequence === lockedSequence) {
      this.#seen = { ...numbers, sequence: sequence - 1 }
      if (this.#serverCheck?.isOther !== true) this.#highestCommit = sequence - 1
    }
    await this.#takeOver(session, runner, isThere === 1, state?.hasLapsed === 1)
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
    this.#serverCheck = { timeline, isOther: false, hasLostCommits: false }
    if (timeline === this.#timeline && sequence > this.#highestCommit) return sequence
    const { writeConnection } = this.#options
    const { rows } = await session.wait(session.send(READ_TIMELINE, [writeConnection.node]))
    const remembered = { timeline: this.#timeline, sequence: this.#highestCommit, batch: this.#batch }
    const check = checkCommits(
      remembered,
      { timeline, sequence, stored: rows[0] },
      numbers,
      (statement, values) => runner.put(statement, values)
    )
    this.#serverCheck = { timeline, ...check }
    if (check.isOther) this.#seen = NOTHING_SEEN
    return check.sequence
  }

  /** Takes back what dead nodes held, and what this node held if it was declared dead. */
  async #takeOver(session: Session, runner: Runner, isThere: boolean, hasLapsed: boolean): Promise<void> {
    const { writeConnection, isAlone } = this.#options
    this.#declaredDead = []
    // on a promoted server, the row of this node may be missing although no other node has declared it dead
    this.#wasDead = !isThere && this.#serverCheck?.isOther !== true
    this.#isReturning = !isAlone && (this.#isAway || !isThere || this.#serverCheck?.isOther === true)
    if (isAlone || (!hasLapsed && !this.#isReturning)) return
    runner.forgetReads()
    if (hasLapsed) {
      const { rows } = await session.wait(session.send(MARK_LAPSED, [writeConnection.node]))
      this.#declaredDead = rows.map(({ name }) => String(name))
    }
    if (this.#isReturning) runner.put(MARK_DEAD, [writeConnection.node])
    for (const program of this.#callbacks.takeOver()) await runner.run(program)
    if (this.#isReturning) runner.put(MARK_RETURNED, [writeConnection.node])
    runner.put(DELETE_OLD_NODES, [])
  }

  /**
   * Follows what other nodes have written since the last transaction of this node: reads environments and functions again, and
   * discards from caches what may have changed.
   */
  async #follow(session: Session, runner: Runner, ready: ReadonlyArray<Row>): Promise<void> {
    const { load, tx } = this.#options
    const { environments, functions, leases } = tx.numbers
    const changes: RemoteChanges = {
      ready: ready.map(({ key }) => Number(key)),
      functions: functions !== this.#seen.functions,
      leases: leases !== this.#seen.leases
    }
    const isOther = this.#serverCheck?.isOther === true
    if (isOther || environments > tx.environments.last) {
      const { rows } = await session.wait(
        session.send(NEW_ENVIRONMENTS, [isOther ? 0 : tx.environments.last])
      )
      if (isOther) tx.environments.clear()
      for (const { key, name } of rows) tx.environments.put(String(name), Number(key))
    }
    tx.follow(changes)
    if (changes.functions) await runner.run(load(tx))
  }
}
