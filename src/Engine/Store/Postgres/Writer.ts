/**
 * One writer for all on Postgres: programs that arrive together share a transaction, and every caller wakes after the commit. A
 * transaction begins with the row of `engine`, which is its lock; what nobody asks a count of goes out with the next thing that is
 * asked, or with the commit.
 *
 * A program that fails rolls the whole group back, and the group is done again one program a transaction, so that the fault stays
 * with the one that has it.
 */
import { StoreError } from "../../../Errors.ts"
import { MAX_SHARED_STEPS, stepsTaken } from "../../../ExpressionBudget.ts"
import { setImmediate } from "../../../RealTimers.ts"
import type { Changes } from "../Changes.ts"
import type { Others } from "../Memory.ts"
import type { Program, Row, Statement } from "../Program.ts"
import type { Prepared } from "./Dialect.ts"
import { compare, READ_HISTORY, TIMELINE } from "./History.ts"
import type { Holder } from "./Holder.ts"
import { FORGET, HAS_LAPSED, IS_THERE, MARK_AWAY, MARK_LAPSED, NOW, RETURN, SEEN } from "./Nodes.ts"
import { isConflict, isLost, wasWrong } from "./PostgresErrors.ts"
import type { Numbers, PostgresTransaction } from "./PostgresTransaction.ts"
import { Runner, type Session, type Traffic } from "./Session.ts"

interface Command {
  readonly run: (runner: Runner) => Promise<unknown>
  readonly succeed: (value: never) => void
  readonly fail: (cause: unknown) => void
  result: unknown
}

export interface WriterOptions {
  readonly tx: PostgresTransaction
  readonly holder: Holder
  readonly traffic: Traffic
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
  /** Called with when a transaction was begun that has renewed the row of this node. */
  readonly renewed: (beganAt: number) => void
  /** Most programs in one transaction. */
  readonly max: number
  readonly isFull: () => boolean
  /** Called before every group: returns what has to be committed before it, if anything. */
  readonly first: () => (() => Program<void>) | undefined
  /** Called with why that could not be committed. */
  readonly failed: (error: unknown) => void
  /** Called after the programs, unless the transaction is full or one of them failed: those that it submits are part of it. */
  readonly joining: () => void
  /** Called after the programs: returns what is written with them before they are committed, if anything. */
  readonly committing: () => Program<void> | undefined
  /** Called when a transaction was rolled back, with why: whether something was put right, so that it may succeed now. */
  readonly mend: (error: unknown) => Promise<boolean>
  /** Called after every commit, before the callers wake. */
  readonly committed: (changes: Changes, sequence: number) => void
}

/** How often a transaction is begun again because something was put right, or because its connection was lost. */
const MOST_MENDED = 500
const MOST_LOST = 3

const BEGIN = { name: "begin", text: "BEGIN" }
const COMMIT = { name: "commit", text: "COMMIT" }
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
const LOCK_UNMOVED = {
  name: "unmoved",
  text: `WITH locked AS (UPDATE engine SET sequence = sequence + 1
      WHERE sequence = $2 AND ${TIMELINE} = $3 AND ${IS_THERE} = 1 AND NOT ${HAS_LAPSED} RETURNING 1)
    SELECT ${NOW} AS now, 1 / count(*) AS locked FROM locked`
}
/** What is there once the lock is held, which the statement that has waited for it does not see. */
const LOOK = {
  name: "look",
  text: `SELECT ${NOW} AS now, ${IS_THERE} AS "isThere", ${HAS_LAPSED} AS "hasLapsed", ${TIMELINE} AS timeline`
}
const NEW_ENVIRONMENTS = { name: "", text: "SELECT key, name FROM environments WHERE key > $1 ORDER BY key" }
const SAVE_NUMBERS = {
  name: "numbers",
  text: `WITH node AS (UPDATE nodes SET batch = $8, ${SEEN} WHERE id = $9)
    UPDATE engine SET environments = $1, events = $2, runs = $3, seq = $4, functions = $5, leases = $6, id_time = $7`
}

export class Writer {
  readonly #options: WriterOptions
  readonly #queue: Array<Command> = []
  readonly #ready: Prepared
  #isWorking = false
  #closed: unknown
  /** Since when the lock is waited for. */
  #asksSince: number | undefined
  /** Whether others may have taken this node for dead. */
  #isAway = false
  /** What has become of nodes in the transaction that runs. */
  #gone: ReadonlyArray<string> = []
  #isReturning = false
  /** What there was after the last transaction of this node, or before the one that runs. */
  #seen: Numbers & { readonly sequence: number } = NOTHING_SEEN
  /** Whether the transaction that runs has gone on as if nobody else had written, and somebody had. */
  #isOvertaken = false
  /** The last commit of anybody that it has seen. */
  #highest = -1
  /** Where the last transaction was committed, and its number. */
  #timeline: string | undefined
  #batch = 0
  /** What the transaction that runs has found of Postgres. */
  #found: { readonly timeline: string; readonly isOther: boolean; readonly isLost: boolean } | undefined

  constructor(options: WriterOptions) {
    this.#options = options
    const { text } = options.ready
    this.#ready = {
      name: "ready",
      text: `SELECT * FROM (${text}) AS ready WHERE (SELECT sequence FROM engine) <> $1`
    }
  }

  /** Queues a program. One of the callbacks is called after the commit, or when it failed. */
  submit<A>(
    run: (runner: Runner) => Promise<A>,
    succeed: (value: A) => void,
    fail: (cause: unknown) => void
  ): void {
    if (this.#closed !== undefined) return fail(this.#closed)
    this.#queue.push({ run, succeed, fail, result: undefined })
    if (this.#isWorking) return
    this.#isWorking = true
    // those that are submitted in this turn of the event loop share a transaction
    setImmediate(() => void this.#work())
  }

  /** Commits what is queued; later programs fail with `reason`. */
  async close(reason: unknown): Promise<void> {
    if (this.#queue.length > 0 || this.#isWorking) {
      await new Promise<void>((resolve) =>
        this.submit(
          () => Promise.resolve(),
          resolve,
          () => resolve()
        )
      )
    }
    this.#closed ??= reason
  }

  /** Writes nothing any more: what is queued and what comes later fails with `reason`. */
  stop(reason: unknown): void {
    this.#closed ??= reason
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

  /** Begins a transaction soon: it looks what has become of the nodes. */
  look(): void {
    if (this.#isWorking) return
    this.submit(
      () => Promise.resolve(),
      () => undefined,
      () => undefined
    )
  }

  async #work(): Promise<void> {
    while (this.#queue.length > 0) await this.#drain()
    this.#isWorking = false
  }

  async #drain(): Promise<void> {
    const group = this.#queue.splice(0, this.#options.max)
    await this.#doFirst()
    const cause = await this.#transactMending(group, true)
    if (cause === undefined) return
    if (group.length === 1 || isLost(cause.error)) {
      for (const command of group) command.fail(cause.error)
      return
    }
    for (const command of group) {
      const alone = await this.#transactMending([command], false)
      if (alone !== undefined) command.fail(alone.error)
    }
  }

  async #doFirst(): Promise<void> {
    const program = this.#options.first()
    if (program === undefined) return
    const first: Command = {
      run: (runner) => runner.run(program()),
      succeed: () => {},
      fail: () => {},
      result: undefined
    }
    const cause = await this.#transactMending([first], false)
    if (cause !== undefined) this.#options.failed(cause.error)
  }

  async #transactMending(
    group: Array<Command>,
    mayJoin: boolean
  ): Promise<{ readonly error: unknown } | undefined> {
    let lost = 0
    let doubts = false
    let waits = false
    for (let mended = 0; ; mended++) {
      if (this.#closed !== undefined) return { error: this.#closed }
      const cause = await this.#transact(group, mayJoin, doubts, waits)
      if (cause === undefined) return undefined
      if (this.#isOvertaken) {
        waits = true
        continue
      }
      if (!doubts && wasWrong(cause.error)) {
        doubts = true
        continue
      }
      if (isLost(cause.error) || isConflict(cause.error)) {
        if (++lost <= MOST_LOST) continue
        await this.#options.mend(cause.error)
        return cause
      } else if (mended === MOST_MENDED || !(await this.#options.mend(cause.error))) {
        return cause
      }
    }
  }

  async #transact(
    group: Array<Command>,
    mayJoin: boolean,
    doubts: boolean,
    waits: boolean
  ): Promise<{ readonly error: unknown } | undefined> {
    const { expectsNobody, holder, tx } = this.#options
    this.#isOvertaken = false
    let session: Session
    try {
      session = await holder.session()
    } catch (error) {
      return { error }
    }
    const runner = new Runner(session, tx, doubts)
    const beganAt = this.#options.monotonicMs()
    let batch: number
    let after: Numbers
    try {
      const isUnmoved =
        !waits && !this.#isAway && this.#timeline !== undefined && this.#seen.sequence >= 0 && expectsNobody()
      if (isUnmoved) batch = this.#beginUnmoved(session, runner)
      else {
        batch = await this.#begin(session, runner)
        // the lock may have been waited for: those that have come meanwhile need none of their own
        if (mayJoin) group.push(...this.#queue.splice(0, this.#options.max - group.length))
      }
      await this.#runAll(runner, group, mayJoin)
      const last = this.#options.committing()
      if (last !== undefined) await runner.run(last)
      await runner.committing()
      after = tx.numbersAfter(batch)
      runner.put(SAVE_NUMBERS, [
        after.environments,
        after.events,
        after.runs,
        after.seq,
        after.functions,
        after.leases,
        after.idTime,
        batch,
        holder.node
      ])
    } catch (error) {
      const cause = runner.cause(error)
      tx.rolledBack()
      await this.#rollBack(session, cause)
      return { error: cause }
    }
    const cause = await this.#commit(session, runner, batch)
    if (cause !== undefined) {
      tx.rolledBack()
      return cause
    }
    this.#seen = { ...after, sequence: batch }
    this.#batch = this.#highest = batch
    this.#timeline = this.#found?.timeline
    this.#options.traffic.commits++
    this.#options.renewed(beganAt)
    if (this.#found?.isOther === true) this.#options.replaced(this.#found.isLost)
    if (this.#gone.length > 0) this.#options.tookOver(this.#gone)
    if (this.#isReturning) {
      this.#isAway = false
      this.#options.returned()
    }
    this.#options.committed(tx.committed(), batch)
    for (const command of group) command.succeed(command.result as never)
    return undefined
  }

  /** Begins without waiting for the lock: what is sent behind it has no effect unless nobody has written since. */
  #beginUnmoved(session: Session, runner: Runner): number {
    const { holder, looked, monotonicMs, tx } = this.#options
    const { sequence, ...numbers } = this.#seen
    const timeline = this.#timeline!
    runner.put(BEGIN, [])
    this.#found = { timeline, isOther: false, isLost: false }
    this.#gone = []
    this.#isReturning = false
    this.#asksSince = monotonicMs()
    session.send(LOCK_UNMOVED, [holder.node, sequence, timeline]).then(
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

  async #begin(session: Session, runner: Runner): Promise<number> {
    const { holder, tx } = this.#options
    runner.put(BEGIN, [])
    const expected = this.#seen.sequence + 1
    const asked = Promise.all([
      session.send(LOCK),
      session.send(LOOK, [holder.node]),
      this.#options.isAlone ? NOTHING_READY : session.send(this.#ready, [expected])
    ])
    this.#asksSince = this.#options.monotonicMs()
    const [locked, looked, ready] = await session.wait(asked).finally(() => (this.#asksSince = undefined))
    const [there] = looked.rows
    this.#options.looked(Number(there?.now))
    const { sequence: number, ...numbers } = locked.rows[0] as Numbers & { readonly sequence: number }
    const sequence = await this.#compare(session, runner, String(there?.timeline), number, numbers)
    const isThere =
      there?.isThere ?? (this.#found?.isOther === true && (await holder.restore(session)) ? 0 : undefined)
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
    const { holder } = this.#options
    const { rows } = await session.wait(session.send(READ_HISTORY, [holder.node]))
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
    const { holder, isAlone, takeOver } = this.#options
    this.#gone = []
    this.#isReturning = !isAlone && (this.#isAway || !isThere || this.#found?.isOther === true)
    if (isAlone || (!hasLapsed && !this.#isReturning)) return
    if (hasLapsed) {
      const { rows } = await session.wait(session.send(MARK_LAPSED, [holder.node]))
      this.#gone = rows.map(({ name }) => String(name))
    }
    if (this.#isReturning) runner.put(MARK_AWAY, [holder.node])
    for (const program of takeOver()) await runner.run(program)
    if (this.#isReturning) runner.put(RETURN, [holder.node])
    runner.put(FORGET, [])
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

  /** Leaves programs of the group for the next one when those before them have taken long. */
  async #runAll(runner: Runner, group: Array<Command>, mayJoin: boolean): Promise<void> {
    const before = stepsTaken()
    const commands = group.length
    for (let i = 0; i < group.length; i++) {
      group[i]!.result = await group[i]!.run(runner)
      const isFull = stepsTaken() - before > MAX_SHARED_STEPS || this.#options.isFull()
      if (isFull && i + 1 < group.length) this.#queue.unshift(...group.splice(i + 1))
      else if (mayJoin && !isFull && i + 1 === commands) {
        const others = this.#queue.length
        this.#options.joining()
        group.push(...this.#queue.splice(others))
      }
    }
  }

  async #commit(
    session: Session,
    runner: Runner,
    batch: number
  ): Promise<{ readonly error: unknown } | undefined> {
    try {
      const { command } = await session.wait(session.send(COMMIT))
      if (command === "COMMIT") return undefined
      // a transaction with a statement that failed is rolled back, which is no error
      return { error: runner.cause(new Error(`Postgres has answered ${command} to a COMMIT`)) }
    } catch (error) {
      if (!isLost(error)) {
        this.#options.holder.drop()
        return { error }
      }
      this.#options.holder.drop()
      try {
        return (await this.#options.holder.wasCommitted(batch)) ? undefined : { error }
      } catch (unknown) {
        return { error: unknown }
      }
    }
  }

  async #rollBack(session: Session, cause: unknown): Promise<void> {
    if (isLost(cause)) return this.#options.holder.drop()
    try {
      await session.wait(session.send({ name: "rollback", text: "ROLLBACK" }))
    } catch {
      // the connection was lost meanwhile: its transaction goes with it
      this.#options.holder.drop()
    }
  }
}
