/**
 * The only writer of an engine on Postgres. Programs that arrive together share a transaction, and every caller wakes after the
 * commit. `TransactionStart.ts` says how a transaction begins. Writes without a result go out with the next statement whose
 * answer is awaited, or with the commit.
 *
 * A program that fails rolls the whole group back. The group is then repeated with one program per transaction, so that only the
 * faulty program fails.
 */
import { MAX_SHARED_STEPS, stepsTaken } from "../../../ExpressionBudget.ts"
import { setImmediate } from "../../../RealTimers.ts"
import type { Changes } from "../Changes.ts"
import type { Program } from "../Program.ts"
import {
  TransactionStart,
  type TransactionStartCallbacks,
  type TransactionStartOptions
} from "./TransactionStart.ts"
import { SET_LAST_SEEN } from "./Nodes.ts"
import { isConflict, isConnectionLost, isAssumptionError } from "./PostgresErrors.ts"
import { isSkipped } from "./Pipeline.ts"
import type { Numbers } from "./PostgresTransaction.ts"
import { Runner, type Session, type Traffic } from "./Session.ts"

interface Command {
  readonly run: (runner: Runner) => Promise<unknown>
  readonly succeed: (value: never) => void
  readonly fail: (cause: unknown) => void
  result: unknown
}

export interface WriterOptions extends TransactionStartOptions {
  readonly traffic: Traffic
  /** Maximum number of programs in one transaction. */
  readonly max: number
}

export interface WriterCallbacks extends TransactionStartCallbacks {
  /** Called before every group. Returns a program that has to be committed before the group, if any. */
  beforeGroup(): (() => Program<void>) | undefined
  /** Called with the error when that program could not be committed. */
  beforeGroupFailed(error: unknown): void
  /** Whether the transaction has done enough: the remaining programs get the next one. */
  isFull(): boolean
  /**
   * Called after the programs, unless the transaction is full, one of them failed, or the transaction repeats one program of a
   * failed group. Programs that it submits join the transaction.
   */
  joining(): void
  /** Called after the programs. Returns a program that is committed with them, if any. */
  committing(): Program<void> | undefined
  /** Called with the error after a rollback. Returns whether it repaired something, so that a retry may succeed. */
  isolateDamage(error: unknown): Promise<boolean>
  /** Called first after every commit, with the time when the transaction began: it has renewed the row of this node. */
  renewed(beganAt: number): void
  /** Called after every commit, before the callers wake. */
  committed(changes: Changes, sequence: number, beganAt: number): void
}

/** How often a transaction is repeated because something was repaired. */
const MAX_ISOLATED = 500
/** How often a transaction is repeated because its connection was lost, or because it was in conflict with another one. */
const MOST_LOST = 3

const COMMIT = { name: "commit", text: "COMMIT" }
const SAVE_NUMBERS = {
  name: "numbers",
  text: `WITH node AS (UPDATE nodes SET batch = $8, ${SET_LAST_SEEN} WHERE id = $9)
    UPDATE engine SET environments = $1, events = $2, runs = $3, seq = $4, functions = $5, leases = $6, id_time = $7`
}

export class Writer {
  readonly #options: WriterOptions
  readonly #callbacks: WriterCallbacks
  readonly #queue: Array<Command> = []
  readonly #transactionStart: TransactionStart
  #isWorking = false
  #closed: unknown

  constructor(options: WriterOptions, callbacks: WriterCallbacks) {
    this.#options = options
    this.#callbacks = callbacks
    this.#transactionStart = new TransactionStart(options, callbacks)
  }

  /** How transactions begin, and what this node knows of the others. */
  get transactionStart(): Pick<TransactionStart, "away" | "isAway" | "knows" | "sequence" | "waitedMs"> {
    return this.#transactionStart
  }

  /** Queues a program. `succeed` is called after the commit, `fail` after a failure. */
  submit<A>(
    run: (runner: Runner) => Promise<A>,
    succeed: (value: A) => void,
    fail: (cause: unknown) => void
  ): void {
    if (this.#closed !== undefined) return fail(this.#closed)
    this.#queue.push({ run, succeed, fail, result: undefined })
    if (this.#isWorking) return
    this.#isWorking = true
    // programs that are submitted in this turn of the event loop share a transaction
    setImmediate(() => void this.#work())
  }

  /** Commits the queued programs. Later programs fail with `reason`. */
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

  /** Stops writing: queued and later programs fail with `reason`. */
  stop(reason: unknown): void {
    this.#closed ??= reason
  }

  /** Begins a transaction soon, even if no program is queued: each one checks the state of the nodes. */
  checkNodes(): void {
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
    const cause = await this.#transactIsolating(group, true)
    if (cause === undefined) return
    if (group.length === 1 || isConnectionLost(cause.error)) {
      for (const program of group) program.fail(cause.error)
      return
    }
    for (const program of group) {
      const alone = await this.#transactIsolating([program], false)
      if (alone !== undefined) program.fail(alone.error)
    }
  }

  async #doFirst(): Promise<void> {
    const program = this.#callbacks.beforeGroup()
    if (program === undefined) return
    const first: Command = {
      run: (runner) => runner.run(program()),
      succeed: () => {},
      fail: () => {},
      result: undefined
    }
    const cause = await this.#transactIsolating([first], false)
    if (cause !== undefined) this.#callbacks.beforeGroupFailed(cause.error)
  }

  async #transactIsolating(
    group: Array<Command>,
    mayJoin: boolean
  ): Promise<{ readonly error: unknown } | undefined> {
    let lost = 0
    let doubts = false
    let waits = false
    for (let isolated = 0; ; isolated++) {
      if (this.#closed !== undefined) return { error: this.#closed }
      const cause = await this.#transact(group, mayJoin, doubts, waits)
      if (cause === undefined) return undefined
      if (this.#transactionStart.takeOvertaken()) {
        waits = true
        continue
      }
      if (!doubts && isAssumptionError(cause.error)) {
        doubts = true
        continue
      }
      if (isConnectionLost(cause.error) || isConflict(cause.error)) {
        if (++lost <= MOST_LOST) continue
        await this.#callbacks.isolateDamage(cause.error)
        return cause
      } else if (isolated === MAX_ISOLATED || !(await this.#callbacks.isolateDamage(cause.error))) {
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
    const { writeConnection, tx } = this.#options
    let session: Session
    try {
      session = await writeConnection.session()
    } catch (error) {
      return { error }
    }
    const runner = new Runner(session, tx, doubts)
    const beganAt = this.#options.monotonicMs()
    let batch: number
    let after: Numbers
    try {
      const begun = await this.#transactionStart.begin(session, runner, waits)
      batch = begun.batch
      // the wait for the lock may have been long: programs that have arrived in the meantime join this transaction
      if (begun.hasLock && mayJoin) group.push(...this.#queue.splice(0, this.#options.max - group.length))
      await this.#runAll(runner, group, mayJoin)
      const last = this.#callbacks.committing()
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
        writeConnection.node
      ])
    } catch (error) {
      const cause = runner.cause(error)
      tx.rolledBack()
      this.#transactionStart.rolledBack()
      await this.#rollBack(session, cause)
      return { error: cause }
    }
    const cause = await this.#commit(session, runner, batch)
    if (cause !== undefined) {
      tx.rolledBack()
      this.#transactionStart.rolledBack()
      return cause
    }
    this.#options.traffic.commits++
    this.#callbacks.renewed(beganAt)
    this.#transactionStart.committed(batch, after, runner.asked)
    this.#callbacks.committed(tx.committed(), batch, beganAt)
    for (const program of group) program.succeed(program.result as never)
    return undefined
  }

  /** Runs the programs of the group. When some have taken long, the rest waits for the next transaction. */
  async #runAll(runner: Runner, group: Array<Command>, mayJoin: boolean): Promise<void> {
    const before = stepsTaken()
    const count = group.length
    for (let i = 0; i < group.length; i++) {
      group[i]!.result = await group[i]!.run(runner)
      const isFull = stepsTaken() - before > MAX_SHARED_STEPS || this.#callbacks.isFull()
      if (isFull && i + 1 < group.length) this.#queue.unshift(...group.splice(i + 1))
      else if (mayJoin && !isFull && i + 1 === count) {
        const others = this.#queue.length
        this.#callbacks.joining()
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
      // for a transaction with a failed statement, Postgres answers a COMMIT with ROLLBACK, and no error
      return { error: runner.cause(new Error(`Postgres has answered ${command} to a COMMIT`)) }
    } catch (error) {
      if (isSkipped(error)) {
        await this.#rollBack(session, error)
        return { error: runner.cause(error) }
      }
      if (!isConnectionLost(error)) {
        this.#options.writeConnection.drop()
        return { error }
      }
      this.#options.writeConnection.drop()
      try {
        return (await this.#options.writeConnection.wasCommitted(batch)) ? undefined : { error }
      } catch (unknown) {
        return { error: unknown }
      }
    }
  }

  async #rollBack(session: Session, cause: unknown): Promise<void> {
    if (isConnectionLost(cause)) return this.#options.writeConnection.drop()
    session.discard()
    try {
      await session.wait(session.send({ name: "rollback", text: "ROLLBACK" }))
    } catch {
      // the connection was lost in the meantime, and with it the transaction
      this.#options.writeConnection.drop()
    }
  }
}
