/**
 * Begins the transactions of a node. Each one locks the row of `engine`, so that no other node writes until it is committed, and
 * reads what has changed since this node's last one: memories follow the commits of others, leases of dead nodes are taken back,
 * and a server that lacks commits of this node is noticed. When no other node writes, the lock and the first writes are sent
 * together.
 */
import { StoreError } from "../../../Errors.ts"
import type { Others } from "../Memory.ts"
import type { Program, Row, Statement } from "../Program.ts"
import type { Prepared } from "./Dialect.ts"
import { compare, histories, type History, READ_HISTORY } from "./CommitHistory.ts"
import { ExpectedReads, type Read } from "./ExpectedReads.ts"
import type { WriteConnection } from "./WriteConnection.ts"
import {
  DELETE_OLD_NODES,
  HAS_LAPSED,
  IS_THERE,
  MARK_AWAY,
  MARK_LAPSED,
  NOW,
  MARK_RETURNED
} from "./Nodes.ts"
import { wasWrong } from "./PostgresErrors.ts"
import type { Numbers, PostgresTransaction } from "./PostgresTransaction.ts"
import type { Runner, Session } from "./Session.ts"

export interface TransactionStartOptions {
  readonly tx: PostgresTransaction
  readonly writeConnection: WriteConnection
  /** Reads what is remembered of functions again. */
  readonly load: (tx: PostgresTransaction) => Program<void>
  /** Finds the keys of functions that have runs that are ready. */
  readonly ready: Statement
  /** Called with the time of the server, epoch milliseconds. */
  readonly looked: (serverMs: number) => void
  /** Whether no other node may use the tables. */
  readonly isAlone: boolean
  /** Whether it looks as if nobody else writes: the lock is then not waited for before something is asked. */
  readonly expectsNobody: () => boolean
  /** What takes back what was held by nodes that are gone. */
  readonly takeOver: () => ReadonlyArray<Program<unknown>>
  /** Called with the names of nodes that were taken for dead. */
  readonly tookOver: (nodes: ReadonlyArray<string>) => void
  /** This node is there again, after others have taken it for dead or may have: nothing that it held is its own any more. */
  readonly returned: () => void
  /** A clock that only goes on, milliseconds. */
  readonly monotonicMs: () => number
  /** Postgres is another server than before, or was set back; `isLost` when it does not have all that was committed. */
  readonly replaced: (isLost: boolean) => void
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
/** One that is alone remembers what is ready. */
const NOTHING_READY: Promise<{ readonly rows: ReadonlyArray<Row> }> = Promise.resolve({ rows: [] })
/** The first statement of every transaction that writes: until it is committed no other one writes. */
const LOCK = {
  name: "lock",
  text: `UPDATE engine SET sequence = sequence + 1
    RETURNING sequence, environments, events, runs, seq, functions, leases, id_time AS "idTime"`
}
/**
 * The same in one with what is there, unless somebody has written since transaction $2, or has to be looked after, or Postgres is another
 * server than it was: then it fails, and so does all that was sent behind it.
 */
const lockUnmoved = (history: History): Prepared => ({
  name: `unmoved ${history}`,
  text: `WITH locked AS (UPDATE engine SET sequence = sequence + 1
      WHERE sequence = $2 AND ${histories[history]} = $3 AND ${IS_THERE} = 1 AND NOT ${HAS_LAPSED} RETURNING 1)
    SELECT ${NOW} AS now, 1 / count(*) AS locked FROM locked`
})
/** What is there once the lock is held, which the statement that has waited for it does not see. */
const look = (history: History): Prepared => ({
  name: `look ${history}`,
  text: `SELECT ${NOW} AS now, ${IS_THERE} AS "isThere", ${HAS_LAPSED} AS "hasLapsed", ${histories[history]} AS timeline`
})
const LOCK_UNMOVED = { timeline: lockUnmoved("timeline"), start: lockUnmoved("start") }
const LOOK = { timeline: look("timeline"), start: look("start") }
const NEW_ENVIRONMENTS = { name: "", text: "SELECT key, name FROM environments WHERE key > $1 ORDER BY key" }

export class TransactionStart {
  readonly #options: TransactionStartOptions
  readonly #ready: Prepared
  readonly #expectedReads = new ExpectedReads()
  /** Since when the lock is waited for. */
  #asksSince: number | undefined
  /** Whether others may have taken this node for dead. */
  #isAway = false
  /** What has become of nodes in the transaction that runs. */
  #gone: ReadonlyArray<string> = []
  #isReturning = false
  /** What there was after the last transaction of this node, or before the one that runs. */
  #seen: Numbers & { readonly sequence: number } = NOTHING_SEEN
  #isOvertaken = false
  /** The last commit of anybody that it has seen. */
  #highest = -1
  /** Where the last transaction was committed, and its number. */
  #timeline: string | undefined
  #batch = 0
  /** What the transaction that runs has found of Postgres. */
  #found: { readonly timeline: string; readonly isOther: boolean; readonly isLost: boolean } | undefined

  constructor(options: TransactionStartOptions) {
    this.#options = options
    const { text } = options.ready
    this.#ready = {
      name: "ready",
      text: `SELECT * FROM (${text}) AS ready WHERE (SELECT sequence FROM engine) <> $1`
    }
  }

  /** Whether it has followed what others have written of functions and environments. */
  knows(stored: Pick<Numbers, "functions" | "environments"> | undefined): boolean {
    return (
      stored?.functions === this.#seen.functions && stored.environments <= this.#options.tx.environments.last
    )
  }

  /** The last transaction of this node; those of others before it are followed. */
  get sequence(): number {
    return this.#seen.sequence
  }

  /** How long the lock has been waited for, milliseconds: 0 when it is not. */
  get waitedMs(): number {
    return this.#asksSince === undefined ? 0 : this.#options.monotonicMs() - this.#asksSince
  }

  /** This node could not renew its row, and counts as dead until it has told the others that it is there. */
  away(): void {
    this.#isAway = true
  }

  get isAway(): boolean {
    return this.#isAway
  }

  /** Whether the last transaction has gone on as if nobody else had written, and somebody had: said once. */
  takeOvertaken(): boolean {
    const isOvertaken = this.#isOvertaken
    this.#isOvertaken = false
    return isOvertaken
  }

  /** Begins a transaction: `batch` is its number. `waits`: the lock is waited for in any case. */
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
      this.#options.expectsNobody()
    return isUnmoved
      ? { batch: this.#beginUnmoved(session, runner, this.#timeline!), hasLock: false }
      : { batch: await this.#beginLocked(session, runner), hasLock: true }
  }

  /** The transaction is committed, has read these rows, and has left these numbers. */
  committed(batch: number, after: Numbers, asked: ReadonlyMap<string, Read>): void {
    this.#expectedReads.learn(asked)
    this.#seen = { ...after, sequence: batch }
    this.#batch = this.#highest = batch
    this.#timeline = this.#found?.timeline
    const { replaced, returned, tookOver } = this.#options
    if (this.#found?.isOther === true) replaced(this.#found.isLost)
    if (this.#gone.length > 0) tookOver(this.#gone)
    if (this.#isReturning) {
      this.#isAway = false
      returned()
    }
  }

  /** The transaction is rolled back. */
  rolledBack(): void {
    this.#expectedReads.forget()
  }

  /** Begins without waiting for the lock: what is sent behind it has no effect unless nobody has written since. */
  #beginUnmoved(session: Session, runner: Runner, timeline: string): number {
    const { writeConnection, looked, monotonicMs, tx } = this.#options
    const { sequence, ...numbers } = this.#seen
    runner.put(BEGIN, [])
    this.#found = { timeline, isOther: false, isLost: false }
    this.#gone = []
    this.#isReturning = false
    this.#asksSince = monotonicMs()
    session.send(LOCK_UNMOVED[writeConnection.history], [writeConnection.node, sequence, timeline]).then(
      ({ rows }) => {
        this.#asksSince = undefined
        looked(Number(rows[0]?.now))
      },
      (error: unknown) => {
        this.#asksSince = undefined
        if (wasWrong(error)) this.#isOvertaken = true
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
      session.send(LOOK[writeConnection.history], [writeConnection.node]),
      this.#options.isAlone ? NOTHING_READY : session.send(this.#ready, [expected]),
      runner.readAhead(this.#expectedReads.reads)
    ])
    this.#asksSince = this.#options.monotonicMs()
    const [locked, looked, ready] = await session.wait(asked).finally(() => (this.#asksSince = undefined))
    const [there] = looked.rows
    this.#options.looked(Number(there?.now))
    const { sequence: number, ...numbers } = locked.rows[0] as Numbers & { readonly sequence: number }
    const sequence = await this.#compare(session, runner, String(there?.timeline), number, numbers)
    const isThere =
      there?.isThere ??
      (this.#found?.isOther === true && (await writeConnection.restore(session)) ? 0 : undefined)
    if (isThere === undefined || (this.#options.isAlone && isThere !== 1)) {
      throw new StoreError(
        "The tables were taken over by another engine: this one stops and has written nothing since. One engine at a time may use a schema",
        { code: "STORE_LOCKED" }
      )
    }
    tx.numbers = numbers
    tx.begin()
    if (sequence !== this.#seen.sequence + 1) await this.#follow(session, runner, ready.rows)
    // what was left out, or was set back, is not believed before something is committed there
    if (sequence === number) {
      this.#seen = { ...numbers, sequence: sequence - 1 }
      if (this.#found?.isOther !== true) this.#highest = sequence - 1
    }
    await this.#lookAfter(session, runner, isThere === 1, there?.hasLapsed === 1)
    return sequence
  }

  /**
   * Looks whether Postgres still has what it had: if not, nothing that is remembered holds. Returns the number of the transaction, which
   * is a later one then.
   */
  async #compare(
    session: Session,
    runner: Runner,
    timeline: string,
    sequence: number,
    numbers: Numbers
  ): Promise<number> {
    this.#found = { timeline, isOther: false, isLost: false }
    if (timeline === this.#timeline && sequence > this.#highest) return sequence
    const { writeConnection } = this.#options
    const { rows } = await session.wait(session.send(READ_HISTORY, [writeConnection.node]))
    const known = { timeline: this.#timeline, sequence: this.#highest, batch: this.#batch }
    const found = compare(known, { timeline, sequence, stored: rows[0] }, numbers, (statement, values) =>
      runner.put(statement, values)
    )
    this.#found = { timeline, ...found }
    if (found.isOther) this.#seen = NOTHING_SEEN
    return found.sequence
  }

  /** Takes back what nodes held that are gone, and what this one held if it was. */
  async #lookAfter(session: Session, runner: Runner, isThere: boolean, hasLapsed: boolean): Promise<void> {
    const { writeConnection, isAlone, takeOver } = this.#options
    this.#gone = []
    this.#isReturning = !isAlone && (this.#isAway || !isThere || this.#found?.isOther === true)
    if (isAlone || (!hasLapsed && !this.#isReturning)) return
    runner.forgetReads()
    if (hasLapsed) {
      const { rows } = await session.wait(session.send(MARK_LAPSED, [writeConnection.node]))
      this.#gone = rows.map(({ name }) => String(name))
    }
    if (this.#isReturning) runner.put(MARK_AWAY, [writeConnection.node])
    for (const program of takeOver()) await runner.run(program)
    if (this.#isReturning) runner.put(MARK_RETURNED, [writeConnection.node])
    runner.put(DELETE_OLD_NODES, [])
  }

  /** Others have written since: what is remembered of what they may have changed is read again, or forgotten. */
  async #follow(session: Session, runner: Runner, ready: ReadonlyArray<Row>): Promise<void> {
    const { load, tx } = this.#options
    const { environments, functions, leases } = tx.numbers
    const others: Others = {
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
