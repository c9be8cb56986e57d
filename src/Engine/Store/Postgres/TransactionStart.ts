/**
 * Begins the transactions of a node: an engine that shares the tables (`Nodes.ts`). Each transaction first locks the row of
 * `engine`, so no other node writes before the transaction is committed. Then the transaction reads what has changed since the last
 * transaction of this node. In this way, caches follow the commits of other nodes, leases of dead nodes are taken back, and a
 * server that lacks commits of this node is noticed. When no other node seems to write, the lock and the first writes are sent
 * together.
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
  /** Reads the registered functions into their cache again. */
  readonly loadFunctions: (tx: PostgresTransaction) => Program<void>
  /** Lists the keys of the functions with ready runs. */
  readonly listReadyFunctions: Statement
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
  expectsNoOtherWriter(): boolean
  /** Called with the time of the server, epoch milliseconds. */
  serverTimeRead(serverMs: number): void
  /** Programs that take back what lost nodes held. */
  takeOver(): ReadonlyArray<Program<unknown>>
  /** Called with the names of the nodes that were declared dead. */
  nodesDeclaredDead(nodes: ReadonlyArray<string>): void
  /**
   * Called when this node is back after other nodes have declared it dead, or may have done so. This node has lost all that it
   * held. `wasDead` is `true` if the others have declared it dead.
   */
  nodeReturned(wasDead: boolean): void
  /**
   * Called when Postgres is another server than before, or was set back. `hasLostCommits` says whether the server now lacks some
   * commits.
   */
  serverReplaced(hasLostCommits: boolean): void
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
/** For a node that uses the tables alone: no other node has made runs ready. */
const NOTHING_READY: Promise<{ readonly rows: ReadonlyArray<Row> }> = Promise.resolve({ rows: [] })
/** Takes the lock, so that no other node writes until the transaction is committed. Waits while another node has the lock. */
const LOCK = {
  name: "lock",
  text: `UPDATE engine SET sequence = sequence + 1
    RETURNING sequence, environments, events, runs, seq, functions, leases, id_time AS "idTime"`
}
/**
 * Takes the lock and reads the time in one statement, if nothing has changed. The statement fails, and with it all statements that
 * were sent after it, when another node has written since transaction $2, when this node was declared dead or another node is to
 * be, or when Postgres is another server than before.
 */
const lockIfUnchanged = (source: TimelineSource): Prepared => ({
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
const LOCK_IF_UNCHANGED = { timeline: lockIfUnchanged("timeline"), start: lockIfUnchanged("start") }
const READ_STATE = { timeline: readState("timeline"), start: readState("start") }
const NEW_ENVIRONMENTS = { name: "", text: "SELECT key, name FROM environments WHERE key > $1 ORDER BY key" }

export class TransactionStart {
  readonly #options: TransactionStartOptions
  readonly #callbacks: TransactionStartCallbacks
  readonly #listReadyFunctions: Prepared
  readonly #expectedReads = new ExpectedReads()
  /** When this node began to wait for the lock, by the monotonic clock; `undefined` when it does not wait. */
  #waitBeganAt: number | undefined
  /** Whether other nodes may have declared this node dead. */
  #isAway = false
  /** The names of the nodes that the current transaction has declared dead. */
  #declaredDead: ReadonlyArray<string> = []
  /** Whether the current transaction makes this node live again. */
  #isReturning = false
  /** Whether other nodes had declared this node dead before the current transaction. */
  #wasDead = false
  /** The stored numbers, as they were after the last transaction of this node; within a transaction, as they were before it. */
  #seenNumbers: Numbers & { readonly sequence: number } = NOTHING_SEEN
  /** Whether {@link lockIfUnchanged} has found a change in the last transaction. */
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
    const { text } = options.listReadyFunctions
    this.#listReadyFunctions = {
      name: "ready",
      text: `SELECT * FROM (${text}) AS ready WHERE (SELECT sequence FROM engine) <> $1`
    }
  }

  /** Whether this node has read all functions and environments that other nodes have written. */
  knows(stored: Pick<Numbers, "functions" | "environments">): boolean {
    return (
      stored.functions === this.#seenNumbers.functions &&
      stored.environments <= this.#options.tx.environments.highestKey
    )
  }

  /** The number of the last transaction of this node. This node has read all that other nodes had written before that transaction. */
  get sequence(): number {
    return this.#seenNumbers.sequence
  }

  /** How long this node has been waiting for the lock; 0 when it does not wait. */
  get waitedMs(): number {
    return this.#waitBeganAt === undefined ? 0 : this.#options.monotonicMs() - this.#waitBeganAt
  }

  /** Notes that this node could not renew its row for a long time. It counts itself as dead until a transaction succeeds. */
  markAway(): void {
    this.#isAway = true
  }

  get isAway(): boolean {
    return this.#isAway
  }

  /**
   * Whether the last transaction failed because {@link lockIfUnchanged} found a change. Returns `true` only once for each such
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
    const isProbablyUnchanged =
      !mustWait &&
      !this.#isAway &&
      this.#timeline !== undefined &&
      this.#seenNumbers.sequence >= 0 &&
      this.#callbacks.expectsNoOtherWriter()
    return isProbablyUnchanged
      ? { batch: this.#beginWithoutWaiting(session, runner, this.#timeline!), hasLock: false }
      : { batch: await this.#beginLocked(session, runner), hasLock: true }
  }

  /** Notes the commit of transaction `batch`: the numbers that it has stored, and the rows that its programs have read. */
  committed(batch: number, numbers: Numbers, reads: ReadonlyMap<string, Read>): void {
    this.#expectedReads.learn(reads)
    this.#seenNumbers = { ...numbers, sequence: batch }
    this.#batch = this.#highestCommit = batch
    this.#timeline = this.#serverCheck?.timeline
    if (this.#serverCheck?.isOther === true) this.#callbacks.serverReplaced(this.#serverCheck.hasLostCommits)
    if (this.#declaredDead.length > 0) this.#callbacks.nodesDeclaredDead(this.#declaredDead)
    if (this.#isReturning) {
      this.#isAway = false
      this.#callbacks.nodeReturned(this.#wasDead)
    }
  }

  /** Notes that the transaction was rolled back. */
  rolledBack(): void {
    this.#expectedReads.forget()
  }

  /** Begins without waiting for the lock. The statements that follow fail if {@link lockIfUnchanged} finds a change. */
  #beginWithoutWaiting(session: Session, runner: Runner, timeline: string): number {
    const { writeConnection, monotonicMs, tx } = this.#options
    const { sequence, ...numbers } = this.#seenNumbers
    runner.put(BEGIN, [])
    this.#serverCheck = { timeline, isOther: false, hasLostCommits: false }
    this.#declaredDead = []
    this.#isReturning = false
    this.#waitBeganAt = monotonicMs()
    session
      .send(LOCK_IF_UNCHANGED[writeConnection.timelineSource], [writeConnection.node, sequence, timeline])
      .then(
        ({ rows }) => {
          this.#waitBeganAt = undefined
          this.#callbacks.serverTimeRead(Number(rows[0]?.now))
        },
        (error: unknown) => {
          this.#waitBeganAt = undefined
          if (isAssumptionError(error)) this.#isOvertaken = true
          runner.noteFailure(error)
        }
      )
    tx.numbers = numbers
    tx.begin()
    return sequence + 1
  }

  async #beginLocked(session: Session, runner: Runner): Promise<number> {
    const { writeConnection, tx } = this.#options
    runner.put(BEGIN, [])
    const expectedSequence = this.#seenNumbers.sequence + 1
    const answers = Promise.all([
      session.send(LOCK),
      session.send(READ_STATE[writeConnection.timelineSource], [writeConnection.node]),
      this.#options.isAlone ? NOTHING_READY : session.send(this.#listReadyFunctions, [expectedSequence]),
      runner.readAhead(this.#expectedReads.reads)
    ])
    this.#waitBeganAt = this.#options.monotonicMs()
    const [locked, read, ready] = await session.wait(answers).finally(() => (this.#waitBeganAt = undefined))
    const [state] = read.rows
    this.#callbacks.serverTimeRead(Number(state?.now))
    const { sequence: lockedSequence, ...numbers } = locked.rows[0] as Numbers & { readonly sequence: number }
    const sequence = await this.#checkServer(
      session,
      runner,
      String(state?.timeline),
      lockedSequence,
      numbers
    )
    // 1: this node is live; 0: it was declared dead; undefined: it has no row any more
    const isThere =
      state?.isThere ??
      (this.#serverCheck?.isOther === true && (await writeConnection.restoreRow(session)) ? 0 : undefined)
    if (isThere === undefined || (this.#options.isAlone && isThere !== 1)) {
      throw new StoreError(
        "Another engine has taken over the tables, or this engine was cut off from Postgres for so long that the other engines have removed it. This engine stops, and has written nothing since: start it again",
        { code: "STORE_LOCKED" }
      )
    }
    tx.numbers = numbers
    tx.begin()
    if (sequence !== this.#seenNumbers.sequence + 1) await this.#follow(session, runner, ready.rows)
    // the numbers count as seen now; if some were skipped or Postgres was set back, they count as seen only after the commit
    if (sequence === lockedSequence) {
      this.#seenNumbers = { ...numbers, sequence: sequence - 1 }
      if (this.#serverCheck?.isOther !== true) this.#highestCommit = sequence - 1
    }
    await this.#takeOver(session, runner, isThere === 1, state?.hasLapsed === 1)
    return sequence
  }

  /**
   * Checks whether Postgres still has all commits that this node knows of. If another server has taken over, or the server was set
   * back, everything in memory counts as outdated, and the transaction may get a later number. Returns the number of the
   * transaction.
   */
  async #checkServer(
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
    if (check.isOther) this.#seenNumbers = NOTHING_SEEN
    return check.sequence
  }

  /** Takes back what dead nodes held, and what this node held if it was declared dead. */
  async #takeOver(session: Session, runner: Runner, isLive: boolean, hasLapsed: boolean): Promise<void> {
    const { writeConnection, isAlone } = this.#options
    this.#declaredDead = []
    // on a promoted server, the row of this node may be missing although no other node has declared it dead
    this.#wasDead = !isLive && this.#serverCheck?.isOther !== true
    this.#isReturning = !isAlone && (this.#isAway || !isLive || this.#serverCheck?.isOther === true)
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
    const { loadFunctions, tx } = this.#options
    const { environments, functions, leases } = tx.numbers
    const changes: RemoteChanges = {
      readyFunctions: ready.map(({ key }) => Number(key)),
      functions: functions !== this.#seenNumbers.functions,
      leases: leases !== this.#seenNumbers.leases
    }
    const isOther = this.#serverCheck?.isOther === true
    if (isOther || environments > tx.environments.highestKey) {
      const { rows } = await session.wait(
        session.send(NEW_ENVIRONMENTS, [isOther ? 0 : tx.environments.highestKey])
      )
      if (isOther) tx.environments.clear()
      for (const { key, name } of rows) tx.environments.put(String(name), Number(key))
    }
    tx.follow(changes)
    if (changes.functions) await runner.run(loadFunctions(tx))
  }
}
