/**
 * The writes of a store on Postgres, and this engine's part in the cluster of the engines on its schema.
 *
 * All writes go through one {@link Writer}, which calls methods of this class around each transaction. `CommitNotifications` calls
 * other methods of this class: when other engines have committed something, and once a second, with what the check of the engines
 * has found.
 */
import * as Effect from "effect/Effect"
import { StoreError } from "../../../Errors.ts"
import type { LeaseFreshness } from "../../../Protocol/Worker.ts"
import { resultAsEffect } from "../ResultAsEffect.ts"
import type { Changes } from "../Changes.ts"
import type { ClockWatch } from "../ClockWatch.ts"
import { damagedRowMessage, isolateDamage } from "../DamageIsolation.ts"
import type { Listeners } from "../Listeners.ts"
import { type Call, type Program, Refused } from "../Program.ts"
import type { StoreCallbacks } from "../StoreCallbacks.ts"
import { RETRY_MS } from "../StoreOutage.ts"
import type { EnginesSeen, CommitNotifications, CommitWatcher } from "./CommitNotifications.ts"
import { AWAY_MESSAGE, lostEnginesMessage, otherServerMessage, RETURNED_MESSAGE } from "./EngineLogTexts.ts"
import { END_SILENT } from "./Nodes.ts"
import { allStale } from "./NotificationText.ts"
import { callError, isDamage, isUnavailable } from "./PostgresErrors.ts"
import type { PostgresTransaction } from "./PostgresTransaction.ts"
import type { Reachability } from "./Reachability.ts"
import type { Reader } from "./Reader.ts"
import type { ServerClock } from "./ServerClock.ts"
import { Runner, type Traffic } from "./Session.ts"
import type { WriteConnection } from "./WriteConnection.ts"
import { Writer, type WriterCallbacks } from "./Writer.ts"

const READ_KNOWN = { name: "known", text: "SELECT functions, environments FROM engine" }

/** Maximum number of programs in one transaction. */
const MAX_PROGRAMS = 512
/** A transaction that has started this many runs takes no more programs. A single program may start more runs. */
const ENOUGH_RUNS = 1000
/**
 * How long a transaction waits for the lock on the row of `engine`. After that, sessions of silent engines that hold the lock are
 * ended.
 */
const MAX_WAIT_MS = 1000

export interface PostgresWritesOptions {
  readonly tx: PostgresTransaction
  readonly callbacks: StoreCallbacks
  readonly listeners: Listeners
  readonly writeConnection: WriteConnection
  readonly reader: Reader
  readonly traffic: Traffic
  readonly server: ServerClock
  readonly reachability: Reachability
  /** A monotonic clock. */
  readonly monotonicMs: () => number
  /** Absent for an engine that uses the tables alone. */
  readonly notifications: CommitNotifications | undefined
  /** Only for an engine that uses the tables alone: engines that share the tables use the clock of the server. */
  readonly clockWatch: ClockWatch | undefined
  /** Runs an effect in the background. */
  readonly fork: (effect: Effect.Effect<void>) => void
}

export class PostgresWrites implements WriterCallbacks, CommitWatcher {
  readonly writer: Writer
  /** See `StoreService.leaseFreshness`. */
  readonly leaseFreshness: LeaseFreshness = {
    isRecent: () => this.#options.reachability.mayStartWork,
    renew: (then) => this.#renew(then)
  }
  readonly #options: PostgresWritesOptions

  constructor(options: PostgresWritesOptions) {
    const { callbacks, monotonicMs, notifications, traffic, tx, writeConnection } = options
    this.#options = options
    this.writer = new Writer(
      {
        tx,
        writeConnection,
        traffic,
        isAlone: notifications === undefined,
        monotonicMs,
        loadFunctions: callbacks.loadFunctions,
        listReadyFunctions: callbacks.listReadyFunctions,
        maxPrograms: MAX_PROGRAMS
      },
      this
    )
  }

  write<A, E>(call: Call<A, E>): Effect.Effect<A, E | StoreError> {
    const { tx } = this.#options
    return Effect.callback((resume) => {
      this.writer.submit(
        async (runner) => {
          if (!call.allowsHeldWrites) await runner.flushCaches()
          return runner.run(call.run(tx))
        },
        (result) => resume(resultAsEffect(result)),
        (cause) => resume(Effect.fail(callError(call, cause, tx.damage)))
      )
    })
  }

  /**
   * Commits a transaction without programs, which finds out whether other engines have declared this engine dead. If they have, its
   * turns are told of the possible takeover before `then` is called. Tries again until the commit succeeds, or the store has
   * stopped for good.
   */
  #renew(then: () => void): void {
    const { fork, listeners } = this.#options
    const renewAgain = (): void =>
      fork(
        Effect.delay(
          Effect.sync(() => this.#renew(then)),
          RETRY_MS
        )
      )
    this.writer.submit(
      () => Promise.resolve(),
      then,
      () => (listeners.lost === undefined ? renewAgain() : then())
    )
  }

  #warn(message: string): void {
    this.#options.fork(Effect.logWarning(message))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Called by the writer, around a transaction
  // -------------------------------------------------------------------------------------------------------------------

  beforeGroup(): (() => Program<void>) | undefined {
    return this.#options.clockWatch?.adjust()
  }

  beforeGroupFailed(error: unknown): void {
    this.#options.clockWatch?.adjustFailed(error)
  }

  isFull(): boolean {
    const { tx } = this.#options
    return tx.changes.counts.started >= ENOUGH_RUNS || tx.budget.isFull
  }

  afterPrograms(): void {
    if (this.#options.tx.changes.ready) this.#options.listeners.tellReady()
  }

  beforeCommit(): Program<void> | undefined {
    return this.#options.clockWatch?.store()
  }

  renewed(beganAt: number): void {
    this.#options.reachability.renewed(beganAt)
  }

  committed(changes: Changes, sequence: number, beganAt: number): void {
    const { listeners, notifications, reachability } = this.#options
    const isInOrder = notifications?.isInOrder(sequence)
    reachability.committed(beganAt, isInOrder === true)
    listeners.committed(isInOrder === false ? { ...changes, isInOrder: false } : changes)
    notifications?.committed(sequence, changes)
  }

  transactionFailed(error: unknown): Promise<boolean> {
    const { fork, listeners, reachability, tx } = this.#options
    if (error instanceof StoreError && error.code === "STORE_LOCKED") {
      this.writer.stop(error)
      if (listeners.lose(error)) fork(Effect.logError(error.message))
    } else if (isUnavailable(error)) reachability.writeFailed(error)
    if (isDamage(error)) tx.damage.wasFound = true
    return this.#skipDamaged(error)
  }

  /** Notes the damaged rows that cause an error, so that they are skipped from now on. Returns whether it has noted any. */
  async #skipDamaged(error: unknown): Promise<boolean> {
    const { callbacks, tx, writeConnection } = this.#options
    // an error of the connection says nothing about the stored data
    if (tx.culprit === undefined || isUnavailable(error)) return false
    try {
      const session = await writeConnection.session()
      const damagedRows = await new Runner(session, tx).run(
        isolateDamage(tx, callbacks, error, { isDamage, isUnavailable })
      )
      // never: `isolateDamage` refuses nothing
      if (damagedRows instanceof Refused) return false
      for (const row of damagedRows) this.#warn(damagedRowMessage(row))
      return damagedRows.length > 0
    } catch {
      // the connection was lost, so no damage can be found: the caller gets `error`
      return false
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Called by the writer, with what a transaction has found out about the server and the other engines
  // -------------------------------------------------------------------------------------------------------------------

  expectsNoOtherWriter(): boolean {
    return this.#options.notifications?.hasOthers !== true
  }

  serverTimeRead(serverMs: number): void {
    this.#options.server.set(serverMs)
  }

  takeOver(): ReadonlyArray<Program<unknown>> {
    const { callbacks, tx } = this.#options
    return callbacks.takeOver.map((call) => call.run(tx))
  }

  nodesDeclaredDead(names: ReadonlyArray<string>): void {
    this.#warn(lostEnginesMessage(names))
    this.tell(allStale)
    for (const kind of ["ready", "groups", "projections", "workers"] as const)
      this.#options.notifications?.markStale(kind)
  }

  nodeReturned(wasDead: boolean): void {
    if (wasDead) this.#warn(RETURNED_MESSAGE)
    this.#options.listeners.tellPossibleTakeover()
  }

  serverReplaced(hasLostCommits: boolean): void {
    const message = otherServerMessage(hasLostCommits)
    this.#options.fork(hasLostCommits ? Effect.logError(message) : Effect.logWarning(message))
    this.tell(allStale)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Called by the notifications of commits
  // -------------------------------------------------------------------------------------------------------------------

  tell(changes: Changes): void {
    const { listeners, reader } = this.#options
    if (!changes.stale.has("functions")) return listeners.committed(changes)
    const stale = new Set(changes.stale)
    stale.delete("functions")
    listeners.committed({ ...changes, stale })
    // functions and environments are in memory, and only a transaction reads them again when other engines have changed them; so
    // listeners are told after a transaction
    const tellFunctions = (): void => listeners.committed({ ...allStale, stale: new Set(["functions"]) })
    const follow = (): void => this.writer.submit(() => Promise.resolve(), tellFunctions, tellFunctions)
    // when this engine knows the change already, it makes no transaction: each transaction makes all other engines check in the
    // same way
    reader.ask(READ_KNOWN).then(([row]) => {
      const stored = { functions: Number(row?.functions), environments: Number(row?.environments) }
      return this.writer.transactionStart.knows(stored) ? tellFunctions() : follow()
    }, follow)
  }

  beforeCheck(): void {
    const { notifications, reader, reachability, writeConnection } = this.#options
    const { transactionStart } = this.writer
    reachability.checkSilence()
    // without other engines, nobody can take over the turns of this engine
    if (!transactionStart.isAway && notifications?.hasOthers === true && reachability.isOverdue)
      this.#goAway()
    const { pid } = writeConnection
    if (transactionStart.waitedMs < MAX_WAIT_MS || pid === undefined) return
    // errors are ignored: the write that waits for the lock will report one
    reader.ask(END_SILENT, [pid]).catch(() => undefined)
  }

  #goAway(): void {
    this.writer.transactionStart.markAway()
    this.#warn(AWAY_MESSAGE)
    this.#options.listeners.tellPossibleTakeover()
  }

  checkDone({ hasLapsed, isThere, now: serverMs, sequence }: EnginesSeen, askedAt: number): void {
    const { notifications, reachability, server } = this.#options
    const isLive = isThere === 1
    reachability.checkAnswered(askedAt, isLive, notifications?.isInOrder(Number(sequence) + 1) === true)
    server.set(Number(serverMs))
    const { isAway } = this.writer.transactionStart
    // an empty transaction takes over what dead engines held, brings this engine back, and shows whether Postgres takes writes again
    if (hasLapsed === 1 || !isLive || isAway || reachability.outage !== undefined) this.writer.checkNodes()
  }

  checkFailed(error: unknown): void {
    this.#options.reachability.checkFailed(error)
  }
}
