/**
 * The only writer of an engine on Postgres. Programs that arrive together share a transaction, and every caller wakes after the
 * commit. `TransactionStart.ts` says how a transaction begins. Writes without a result go out with the next statement whose
 * answer is awaited, or with the commit.
 *
 * A program that fails rolls the whole group back. Then the programs of the group are repeated, each in its own transaction, so that
 * only the faulty program fails.
 */
import { MAX_SHARED_STEPS, expressionSteps } from "../../../ExpressionBudget.ts"
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

interface QueuedProgram {
  readonly run: (runner: Runner) => Promise<unknown>
  readonly succeed: (value: never) => void
  readonly fail: (cause: unknown) => void
  result: unknown
}

export interface WriterOptions extends TransactionStartOptions {
  readonly traffic: Traffic
  /** Maximum number of programs in one transaction. */
  readonly maxPrograms: number
}

export interface WriterCallbacks extends TransactionStartCallbacks {
  /** Called before every group. If a program has to be committed before the group, returns that program. */
  beforeGroup(): (() => Program<void>) | undefined
  /** Called with the error when the program of `beforeGroup` could not be committed. */
  beforeGroupFailed(error: unknown): void
  /** Whether the transaction has done enough. If so, the remaining programs wait for the next transaction. */
  isFull(): boolean
  /**
   * Called after the programs. Programs that this function submits join the transaction. Not called when the transaction is full or
   * when a program failed, and not in a transaction for the program of `beforeGroup` or for one program of a failed group.
   */
  afterPrograms(): void
  /** Called after the programs. May return a program, which is committed with them. */
  beforeCommit(): Program<void> | undefined
  /**
   * Called with the error after a rollback. Returns whether it has noted damaged rows. Noted rows are skipped from now on, so the
   * same programs may succeed when they are repeated.
   */
  transactionFailed(error: unknown): Promise<boolean>
  /** Called first after every commit: the transaction, which began at `beganAt`, has renewed the row of this node. */
  renewed(beganAt: number): void
  /** Called after every commit, before the callers wake. */
  committed(changes: Changes, sequence: number, beganAt: number): void
}

/** Maximum number of times that a transaction is repeated because damaged rows were found. */
const MAX_REPEATS = 500
/**
 * Maximum number of times that a transaction is repeated because its connection was lost, or because it was in conflict with
 * another transaction.
 */
const MAX_RETRIES = 3

const COMMIT = { name: "commit", text: "COMMIT" }
const SAVE_NUMBERS = {
  name: "numbers",
  text: `WITH node AS (UPDATE nodes SET batch = $8, ${SET_LAST_SEEN} WHERE id = $9)
    UPDATE engine SET environments = $1, events = $2, runs = $3, seq = $4, functions = $5, leases = $6, id_time = $7`
}

export class Writer {
  readonly #options: WriterOptions
  readonly #callbacks: WriterCallbacks
  readonly #queue: Array<QueuedProgram> = []
  readonly #transactionStart: TransactionStart
  #isWorking = false
  /** Why nothing is written any more, if so. */
  #closeReason: unknown

  constructor(options: WriterOptions, callbacks: WriterCallbacks) {
    this.#options = options
    this.#callbacks = callbacks
    this.#transactionStart = new TransactionStart(options, callbacks)
  }

  /** How transactions begin, and what this node knows of the other nodes. */
  get transactionStart(): Pick<TransactionStart, "markAway" | "isAway" | "knows" | "sequence" | "waitedMs"> {
    return this.#transactionStart
  }

  /** Queues a program. `succeed` is called after the commit, `fail` after a failure. */
  submit<A>(
    run: (runner: Runner) => Promise<A>,
    succeed: (value: A) => void,
    fail: (cause: unknown) => void
  ): void {
    if (this.#closeReason !== undefined) return fail(this.#closeReason)
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
    this.#closeReason ??= reason
  }

  /** Stops writing: queued and later programs fail with `reason`. */
  stop(reason: unknown): void {
    this.#closeReason ??= reason
  }

  /** Commits a transaction soon, even if no program is queued: every transaction checks the state of the nodes when it begins. */
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
    const group = this.#queue.splice(0, this.#options.maxPrograms)
    await this.#commitBeforeGroup()
    const failure = await this.#transactRepeating(group, true)
    if (failure === undefined) return
    if (group.length === 1 || isConnectionLost(failure.error)) {
      for (const program of group) program.fail(failure.error)
      return
    }
    for (const program of group) {
      const failureAlone = await this.#transactRepeating([program], false)
      if (failureAlone !== undefined) program.fail(failureAlone.error)
    }
  }

  /** Commits the program that `beforeGroup` returns, if any. */
  async #commitBeforeGroup(): Promise<void> {
    const program = this.#callbacks.beforeGroup()
    if (program === undefined) return
    const queued: QueuedProgram = {
      run: (runner) => runner.run(program()),
      succeed: () => {},
      fail: () => {},
      result: undefined
    }
    const failure = await this.#transactRepeating([queued], false)
    if (failure !== undefined) this.#callbacks.beforeGroupFailed(failure.error)
  }

  /** Commits a group. Repeats the transaction after errors that may not occur again. */
  async #transactRepeating(
    group: Array<QueuedProgram>,
    mayJoin: boolean
  ): Promise<{ readonly error: unknown } | undefined> {
    let retries = 0
    let awaitsCounts = false
    let mustWait = false
    for (let repeats = 0; ; repeats++) {
      if (this.#closeReason !== undefined) return { error: this.#closeReason }
      const failure = await this.#transact(group, mayJoin, awaitsCounts, mustWait)
      if (failure === undefined) return undefined
      if (this.#transactionStart.consumeOvertaken()) {
        mustWait = true
        continue
      }
      if (!awaitsCounts && isAssumptionError(failure.error)) {
        awaitsCounts = true
        continue
      }
      if (isConnectionLost(failure.error) || isConflict(failure.error)) {
        if (++retries <= MAX_RETRIES) continue
        await this.#callbacks.transactionFailed(failure.error)
        return failure
      } else if (repeats === MAX_REPEATS || !(await this.#callbacks.transactionFailed(failure.error))) {
        return failure
      }
    }
  }

  /**
   * Commits a group in one transaction. `awaitsCounts`: see `Runner`. `mustWait` says whether to wait for the lock before the first
   * program runs.
   */
  async #transact(
    group: Array<QueuedProgram>,
    mayJoin: boolean,
    awaitsCounts: boolean,
    mustWait: boolean
  ): Promise<{ readonly error: unknown } | undefined> {
    const { writeConnection, tx } = this.#options
    let session: Session
    try {
      session = await writeConnection.session()
    } catch (error) {
      return { error }
    }
    const runner = new Runner(session, tx, awaitsCounts)
    const beganAt = this.#options.monotonicMs()
    let batch: number
    let numbers: Numbers
    try {
      const transaction = await this.#transactionStart.begin(session, runner, mustWait)
      batch = transaction.batch
      // the wait for the lock may have been long: programs that have arrived in the meantime join this transaction
      if (transaction.hasLock && mayJoin)
        group.push(...this.#queue.splice(0, this.#options.maxPrograms - group.length))
      await this.#runAll(runner, group, mayJoin)
      const lastProgram = this.#callbacks.beforeCommit()
      if (lastProgram !== undefined) await runner.run(lastProgram)
      await runner.beforeCommit()
      numbers = tx.numbersAfter(batch)
      runner.put(SAVE_NUMBERS, [
        numbers.environments,
        numbers.events,
        numbers.runs,
        numbers.seq,
        numbers.functions,
        numbers.leases,
        numbers.idTime,
        batch,
        writeConnection.node
      ])
    } catch (error) {
      const firstError = runner.firstError(error)
      tx.rolledBack()
      this.#transactionStart.rolledBack()
      await this.#rollBack(session, firstError)
      return { error: firstError }
    }
    const failure = await this.#commit(session, runner, batch)
    if (failure !== undefined) {
      tx.rolledBack()
      this.#transactionStart.rolledBack()
      return failure
    }
    this.#options.traffic.commits++
    this.#callbacks.renewed(beganAt)
    this.#transactionStart.committed(batch, numbers, runner.programReads)
    this.#callbacks.committed(tx.committed(), batch, beganAt)
    for (const program of group) program.succeed(program.result as never)
    return undefined
  }

  /** Runs the programs of the group. When some programs have taken long, the others wait for the next transaction. */
  async #runAll(runner: Runner, group: Array<QueuedProgram>, mayJoin: boolean): Promise<void> {
    const stepsBefore = expressionSteps()
    const count = group.length
    for (let i = 0; i < group.length; i++) {
      group[i]!.result = await group[i]!.run(runner)
      const isFull = expressionSteps() - stepsBefore > MAX_SHARED_STEPS || this.#callbacks.isFull()
      if (isFull && i + 1 < group.length) this.#queue.unshift(...group.splice(i + 1))
      else if (mayJoin && !isFull && i + 1 === count) {
        const queuedBefore = this.#queue.length
        this.#callbacks.afterPrograms()
        group.push(...this.#queue.splice(queuedBefore))
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
      return { error: runner.firstError(new Error(`Postgres has answered ${command} to a COMMIT`)) }
    } catch (error) {
      if (isSkipped(error)) {
        await this.#rollBack(session, error)
        return { error: runner.firstError(error) }
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
      // the connection was lost in the meantime, so the transaction is lost too
      this.#options.writeConnection.drop()
    }
  }
}
