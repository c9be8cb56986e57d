/**
 * The store on SQLite, through Node's built-in module: nothing to install, one file, one process at a time.
 *
 * Writes go through one group commit with `synchronous=FULL`: what was acknowledged survives the loss of power. Reads run
 * on the same connection between commits, so they see all that was acknowledged and nothing that was not.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type { FunctionInfo, RunStep } from "../../Client/Client.ts"
import { IronflowError, LimitExceededError, StoreError, type ValidationError } from "../../Errors.ts"
import { together } from "../../ExpressionBudget.ts"
import { makeIdGenerator } from "../../Ids.ts"
import { checkKeys, type Keys } from "../../OptionKeys.ts"
import type { TurnReport } from "../../Protocol/Worker.ts"
import { gathered, nextTurn, onePage, polite } from "../Polite.ts"
import { Registry } from "../Registry.ts"
import * as Access from "./AccessRows.ts"
import type { Seen } from "./Activity.ts"
import { ClockJumps } from "./ClockJumps.ts"
import { moveWithClock, readClock, setBackBetweenStarts, shortenLeases, storeClock } from "./ClockRows.ts"
import * as ConfigRows from "./ConfigRows.ts"
import { appendEvent, appendEvents, appendMessage, endOfLog, endOfLogByName } from "./Events.ts"
import { GroupCommit } from "./GroupCommit.ts"
import { readHistory } from "./History.ts"
import { forgetExpired } from "./Idempotency.ts"
import * as Inspection from "./Inspection.ts"
import * as KvBuckets from "./KvBuckets.ts"
import { writeEntries } from "./KvWrites.ts"
import * as KvRows from "./KvRows.ts"
import {
  adoptLeases,
  claimRuns,
  endRevoked,
  extendLeases,
  loseLease,
  markLate,
  recoverLeases,
  releaseWorker
} from "./Leases.ts"
import { checkFiles, DEFAULT_MODE, makeFile, refuseFolder } from "./Files.ts"
import { acquireLock } from "./Lock.ts"
import * as GroupDeadLetters from "./GroupDeadLetters.ts"
import * as GroupInspection from "./GroupInspection.ts"
import type { GroupInfo } from "./GroupStore.ts"
import * as Groups from "./GroupRows.ts"
import { readLog, readLogBack } from "./LogRows.ts"
import { forgiveRun, type Found, lookAtNewest, mend } from "./Mending.ts"
import { migrations } from "./Migrations.ts"
import { DatabaseSync } from "./NodeSqlite.ts"
import { checkLastOwner, type LastStop, Ownership } from "./Ownership.ts"
import { readProjectionChanges } from "./ProjectionChanges.ts"
import * as Projections from "./ProjectionInspection.ts"
import * as Owners from "./ProjectionRows.ts"
import { deleteExpiredRecordings, readRecording } from "./Recording.ts"
import { deleteFunction, loadRegistrations, registerFunctions } from "./Registrations.ts"
import { listRunsAround } from "./DamagedRunList.ts"
import { listRuns } from "./RunList.ts"
import { eventNameOf, findRun, hasEnded, readRun } from "./RunRows.ts"
import { deleteEndedRuns } from "./Retention.ts"
import { findUnsound } from "./Soundness.ts"
import * as Steering from "./Steering.ts"
import { readStreamHistory } from "./StreamHistory.ts"
import { Snapshot } from "./Snapshot.ts"
import * as Streams from "./StreamRows.ts"
import { countStuckRuns } from "./Stuck.ts"
import { type Changes, type ReadStreamQuery, type RunSteps, Store, type StoreService } from "./Store.ts"
import { isDamage, isUnavailable, storeError } from "./SqliteErrors.ts"
import { fireDue, nextDueAt as findNextDue, upkeep } from "./Timers.ts"
import { handOut, registerTokenless, saveTokenless } from "./TokenlessProjections.ts"
import * as Topics from "./TopicRows.ts"
import { Transaction } from "./Transaction.ts"
import { applyReports, refusedForDamage } from "./Turns.ts"

export interface SqliteOptions {
  /** Path of the database file, which is created when it does not exist; `":memory:"` for one that is gone with the process. */
  readonly filename: string
  /** The mode of the file when it is made, and of those beside it: 0600 by default. Files that are there keep theirs. */
  readonly fileMode?: number
  /** Reads the whole file first, and fails with `STORE_CORRUPT` when something in it is damaged. */
  readonly check?: boolean
}

/** Most commands in one transaction. */
const GROUP = 512
/** Runs that are started in one transaction; no command is cut. */
const GROUP_RUNS = 1000

/** Functions that are looked at in one turn of the event loop. */
const FUNCTIONS = 1000

/** How often the time is stored while there is something to write, milliseconds. */
const STORE_CLOCK_MS = 10_000

/**
 * Opens a database. Fails with `StoreError`: `STORE_LOCKED` when another engine has the file open, `STORE_CORRUPT` when
 * it is damaged or not an Ironflow database, `STORE_UNAVAILABLE` when it cannot be opened or written.
 */
export const make = (options: SqliteOptions): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const now = () => clock.currentTimeMillisUnsafe()
    const monotonicMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const { db, isFile, lastStop, release, warnings } = yield* Effect.try({
      try: () => open(options, now()),
      catch: (cause) => storeError(`Cannot open database "${options.filename}"`, cause)
    })
    yield* Effect.addFinalizer(() => Effect.sync(release))
    for (const warning of warnings) yield* Effect.logWarning(warning)

    const tell = (text: string): void => void runFork(Effect.logWarning(text))
    /** What others do with a commit is their own affair: the commit stands, and whoever waits for it wakes. */
    const careful = (what: string, run: () => void): void => {
      try {
        run()
      } catch (error) {
        runFork(Effect.logError(`Could not ${what}`, error))
      }
    }
    const lose = (error: StoreError): boolean => {
      if (lost !== undefined) return false
      lost = error
      writer.stop(error)
      runFork(Effect.logError(error.message))
      for (const listener of lossListeners) careful("stop what runs", () => listener(error))
      return false
    }

    const listeners = new Set<(changes: Changes) => void>()
    const lossListeners: Array<(error: StoreError) => void> = []
    const longLists = Semaphore.makeUnsafe(1)
    /** Those who look on, and whether at whole runs only. */
    let stateObservers = 0
    const observers = new Map<(activity: ReadonlyArray<Seen>) => void, boolean>()
    /** Why nothing is read or written any more, or why that does not work at the moment. */
    let lost: StoreError | undefined
    let outage: { readonly error: StoreError; readonly changes: unknown } | undefined
    const changesSoFar = () => db.prepare("SELECT total_changes() AS changes").get()?.changes
    const { ownership, snapshot, tx, writer } = yield* Effect.try({
      try: () => {
        migrate(db)
        const tx = new Transaction({
          db,
          now,
          random: () => random.nextDoubleUnsafe(),
          registry: new Registry(),
          // ids of events are ordered as they are in the log, also when the clock was set back in between
          ids: makeIdGenerator(now, (below) => Math.floor(random.nextDoubleUnsafe() * below), lastId(db))
        })
        const last = tx.perform(readClock())
        const jumps = new ClockJumps(now(), monotonicMs(), last)
        tx.settledNow = () => now() - jumps.aheadMs(monotonicMs())
        let clockStoredAt = Number.NEGATIVE_INFINITY
        const ownership = !isFile
          ? undefined
          : new Ownership(db, {
              filename: options.filename,
              nonce: [0, 1, 2, 3].map(() => Math.floor(random.nextDoubleUnsafe() * 2 ** 32)).join("-"),
              monotonicMs
            })
        const snapshot = new Snapshot(db)
        const writer = new GroupCommit(db, {
          max: GROUP,
          isFull: () => tx.changes.counts.started >= GROUP_RUNS,
          first: () => {
            const jump = jumps.look(now(), monotonicMs())
            if (jump === 0) return undefined
            tell(clockWasSet(jump))
            return () => tx.perform(moveWithClock(tx, jump))
          },
          beginning: () => snapshot.giveUp(),
          begin: () => {
            ownership?.check()
            tx.begin()
          },
          committing: () => {
            if (monotonicMs() - clockStoredAt >= STORE_CLOCK_MS) {
              tx.perform(storeClock(tx))
              tx.afterCommit(() => (clockStoredAt = monotonicMs()))
            }
            tx.committing()
          },
          rolledBack: () => tx.rolledBack(),
          mend: (error) => {
            if (error instanceof StoreError && error.code === "STORE_LOCKED") return lose(error)
            if (isUnavailable(error)) {
              outage = { error: storeError("Cannot write to the database", error), changes: changesSoFar() }
            }
            if (isDamage(error)) tx.damage.wasFound = true
            const found = mend(tx, error)
            for (const one of found) tell(isLeftAlone(one))
            return found.length > 0
          },
          committed: () => {
            // one that changes nothing needs no room on the disk
            if (outage !== undefined && changesSoFar() !== outage.changes) outage = undefined
            const changes = tx.committed()
            // those who look on hear of it before somebody acts on it
            for (const observer of observers.keys())
              careful("look at what happened to runs", () => observer(changes.activity))
            for (const listener of listeners) careful("act on a commit", () => listener(changes))
          },
          failed: (error) =>
            tell(`The clock was set, and what is stored could not be moved with it: ${String(error)}`)
        })
        tx.perform(loadRegistrations(tx))
        if (isFile) lookAtNewest(tx)
        return { ownership, snapshot, tx, writer }
      },
      catch: (cause) => storeError(`Cannot use database "${options.filename}"`, cause)
    })
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        writer.close(
          new StoreError(`Database "${options.filename}" is closed`, { code: "STORE_UNAVAILABLE" })
        )
        snapshot.giveUp()
        if (ownership === undefined || lost !== undefined) return Effect.void
        return Effect.catch(
          Effect.try({
            try: () => {
              tx.perform(storeClock(tx))
              ownership.release()
            },
            catch: (cause) => storeError("Cannot write to the database", cause)
          }),
          (error) =>
            // what was acknowledged is there; the next start says that this was not a clean stop
            Effect.logWarning(
              `Database "${options.filename}" could not be marked as closed: ${error.message}`
            )
        )
      })
    )

    const write = <A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> =>
      Effect.callback((resume) => {
        writer.submit(
          () => together(run),
          (value) => resume(Effect.succeed(value)),
          (cause) => resume(Effect.fail(cannot(what, cause)))
        )
      })
    const failedRead = (what: string | (() => string), cause: unknown): StoreError => {
      // a damaged page spoils the view for others who read in this turn
      snapshot.giveUp()
      if (isDamage(cause)) tx.damage.wasFound = true
      return cannot(what, cause)
    }
    const read = <A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> =>
      Effect.try({
        try: () => {
          if (lost !== undefined) throw lost
          snapshot.take()
          return together(run)
        },
        catch: (cause) => failedRead(what, cause)
      })
    /** Reads statement by statement, so that one that fails does not spoil the others. */
    const readApart = <A>(what: string, run: () => A): Effect.Effect<A, StoreError> =>
      Effect.try({
        try: () => {
          snapshot.giveUp()
          return run()
        },
        catch: (cause) => failedRead(what, cause)
      })
    /** For commands that refuse with an error of ours, which they do before they write anything. */
    const refusable = <A, E, R extends IronflowError>(
      self: Effect.Effect<A | Refusal, E>
    ): Effect.Effect<A, E | R> =>
      Effect.flatMap(self, (result) =>
        // each command names in `StoreService` what it throws
        result instanceof Refusal ? Effect.fail(result.error as R) : Effect.succeed(result)
      )
    /** For commands that return what refuses them. */
    const answered = <A, E>(
      self: Effect.Effect<A, E>
    ): Effect.Effect<Exclude<A, IronflowError>, E | Extract<A, IronflowError>> =>
      Effect.flatMap(self, (result) =>
        // the compiler does not take apart a type that it does not know yet
        result instanceof IronflowError
          ? Effect.fail(result as Extract<A, IronflowError>)
          : Effect.succeed(result as Exclude<A, IronflowError>)
      )
    const change = <A>(what: string, run: () => A) => answered(write(what, run))
    const look = <A>(what: string, run: () => A) => answered(read(what, run))
    const steer = <A, R extends IronflowError>(
      what: string,
      run: () => A
    ): Effect.Effect<A, StoreError | R> => refusable(write(what, () => refusal(run)))
    const inspect = <A, R extends IronflowError>(
      what: string,
      run: () => A
    ): Effect.Effect<A, StoreError | R> => refusable(read(what, () => refusal(run)))

    const inspectRuns: <A>(what: string, run: () => A) => Effect.Effect<A, StoreError | ValidationError> =
      inspect

    const steerRun = <A, R extends IronflowError>(
      what: string,
      environment: string,
      runId: string,
      run: () => A
    ): Effect.Effect<A, StoreError | R> =>
      steer(what, () => {
        const result = run()
        forgiveRun(tx, environment, runId)
        return result
      })

    if (lastStop?.mayLack === true) yield* Effect.logWarning(lastStop.message)
    else if (lastStop !== undefined) yield* Effect.logDebug(lastStop.message)
    for (const news of tx.damage.news) yield* Effect.logError(news)
    const stored = tx.perform(readClock())
    const setBackBy = stored === undefined ? 0 : stored.at - now()
    if (setBackBy >= 1000) {
      yield* Effect.logWarning(clockWasSet(-setBackBy))
      yield* write("move what is due with the clock", () => tx.perform(setBackBetweenStarts(tx, setBackBy)))
    }
    yield* write("take back leases", () => tx.perform(recoverLeases(tx)))
    yield* write("shorten leases", () => tx.perform(shortenLeases(tx)))
    yield* write("take back projections and messages", () => {
      tx.perform(Owners.recoverProjections(tx))
      // whoever held a message was connected to the engine that is gone
      tx.perform(Groups.recoverDeliveries(tx))
    })

    const stepsOf: StoreService["readRunSteps"] = (environment, runId, part) =>
      inspect(`read the steps of run ${runId}`, () =>
        tx.perform(Inspection.getRunSteps(tx, environment, runId, part))
      )

    return Store.of({
      write: (call) => answered(write(call.what, () => tx.perform(call.run(tx)))),
      read: (call) => answered(read(call.what, () => tx.perform(call.run(tx)))),
      onCommit: (listener) => {
        listeners.add(listener)
        return () => void listeners.delete(listener)
      },
      onLost: (listener) => {
        if (lost === undefined) lossListeners.push(listener)
        else listener(lost)
      },
      ...(ownership === undefined
        ? {}
        : {
            checkOwner: Effect.tapError(
              // the view of those who read in this turn may be older
              readApart("look whose the database is", () => {
                if (lost !== undefined) throw lost
                ownership.check()
              }),
              (error) => Effect.sync(() => void (error.code === "STORE_LOCKED" && lose(error)))
            )
          }),
      observe: (listener, { runsOnly = false } = {}) => {
        const observer = (activity: ReadonlyArray<Seen>) => {
          if (activity.length > 0) listener(activity)
        }
        observers.set(observer, runsOnly)
        const look = () => {
          tx.observed = [...observers.values()].includes(false)
          tx.runsObserved = observers.size > 0
        }
        look()
        return () => {
          observers.delete(observer)
          look()
        }
      },
      observeStates: () => {
        stateObservers++
        tx.statesObserved = true
        let stopped = false
        return () => {
          if (stopped) return
          stopped = true
          tx.statesObserved = --stateObservers > 0
        }
      },
      checkRoom: (environment, functions) => tx.registry.checkRoom(environment, functions),
      registerFunctions: (environment, functions, startedAt) =>
        write("register functions", () =>
          tx.perform(registerFunctions(tx, environment, functions, startedAt))
        ),
      deleteFunction: (environment, functionId) =>
        steer(`delete function "${functionId}"`, () =>
          tx.perform(deleteFunction(tx, environment, functionId))
        ),
      findFunction: (environment, functionId) => tx.registry.get(environment, functionId)?.registration,
      pushFunctions: () => tx.registry.pushed(),
      listFunctions: (environment) =>
        Effect.gen(function* () {
          const functions = tx.registry.list(environment)
          const infos: Array<FunctionInfo> = []
          for (let i = 0; i < functions.length; i += FUNCTIONS) {
            if (i > 0) yield* nextTurn
            const part = functions.slice(i, i + FUNCTIONS)
            infos.push(
              ...(yield* read("list functions", () => part.map((fn) => tx.perform(Inspection.infoOf(fn)))))
            )
          }
          return infos
        }),
      getFunction: (environment, functionId) =>
        read(`read function "${functionId}"`, () => {
          const fn = tx.registry.get(environment, functionId)
          return fn === undefined || fn.deleted === true ? undefined : tx.perform(Inspection.infoOf(fn))
        }),
      checkEnvironment: (environment) => tx.checkEnvironment(environment),
      countFunctions: (environment) => tx.registry.list(environment).length,
      appendEvent: (event) => write(`store event "${event.name}"`, () => tx.perform(appendEvent(tx, event))),
      appendEvents: (events) =>
        change(`store ${events.length} events`, () => tx.perform(appendEvents(tx, events))),
      appendMessage: (message) =>
        write(`store a message of topic "${message.topic}"`, () => tx.perform(appendMessage(tx, message))),
      appendToStream: (environment, append) =>
        change(`append to stream "${append.entityId}"`, () =>
          tx.perform(Streams.appendToStream(tx, environment, append))
        ),
      readStream: ({ most = Number.POSITIVE_INFINITY, ...query }) => {
        const part = (query: ReadStreamQuery) =>
          read(`read stream "${query.entityId}"`, () => tx.perform(Streams.readStream(tx, query)))
        const gather = (pages: number) =>
          Effect.gen(function* () {
            const first = yield* pages === 1 ? part(query) : onePage(part(query))
            const { events, totalCount } = first
            let { length, next } = first
            while (next !== undefined && length <= most) {
              if (pages === 1) return undefined
              // what is appended meanwhile is not read
              const rest: number = query.backward ? 0 : totalCount - next + 1
              const limit = query.limit === 0 ? rest : query.limit - events.length
              const found = yield* onePage(part({ ...query, fromVersion: next, limit }))
              for (const event of found.events) events.push(event)
              length += found.length
              next = found.next
            }
            if (length <= most) return { events, totalCount }
            return yield* Effect.fail(
              new LimitExceededError(
                `What is read of stream "${query.entityId}" (read it in pages: fewer events with \`limit\`, and on from \`fromVersion\`)`,
                length,
                most,
                "characters"
              )
            )
          })
        return gathered(gather)
      },
      getStream: (environment, entityId) =>
        inspect(`read stream "${entityId}"`, () => tx.perform(Streams.getStream(tx, environment, entityId))),
      readStreamHistory: (query) =>
        inspect(`read the history of stream "${query.entityId}"`, () =>
          tx.perform(readStreamHistory(tx, query))
        ),
      listStreams: (query) => read("list streams", () => tx.perform(Streams.listStreams(tx, query))),
      putSnapshot: (snapshot) =>
        steer(`store a snapshot of stream "${snapshot.entityId}"`, () =>
          tx.perform(Streams.putSnapshot(tx, snapshot))
        ),
      getSnapshot: (environment, entityId, beforeVersion) =>
        read(`read a snapshot of stream "${entityId}"`, () =>
          tx.perform(Streams.getSnapshot(tx, environment, entityId, beforeVersion))
        ),
      readLog: (query) => read("read the log", () => tx.perform(readLog(tx, query))),
      endOfLog: () =>
        Effect.catchIf(
          read("read the log", () => tx.perform(endOfLog())),
          isDamage,
          () => readApart("read the log", () => tx.perform(endOfLogByName()))
        ),
      readLogBack: (query) => read("read the log", () => tx.perform(readLogBack(tx, query))),
      listTopics: (environment, page) =>
        read("list topics", () => tx.perform(Topics.listTopics(tx, environment, page))),
      getTopic: (environment, topic) =>
        Effect.gen(function* () {
          const what = `read topic "${topic}"`
          const state = yield* read(what, () => tx.perform(Topics.getTopic(tx, environment, topic)))
          let part = yield* read(what, () => tx.perform(Topics.lagOf(tx, environment, topic, 0)))
          let { lag } = part
          while (part.next !== undefined) {
            const after = part.next
            part = yield* polite(read(what, () => tx.perform(Topics.lagOf(tx, environment, topic, after))))
            lag = Math.max(lag, part.lag)
          }
          return { ...state, lag }
        }),
      deleteOldMessages: (limits, limit, after) =>
        write("delete old messages", () => tx.perform(Topics.deleteOldMessages(limits, limit, after))),
      openGroup: (group) =>
        write(`open group "${group.name}"`, () => tx.perform(Groups.openGroup(tx, group))),
      reopenGroup: (group) =>
        write(`open group "${group.name}"`, () => tx.perform(Groups.reopenGroup(tx, group))),
      claimDeliveries: (demand) =>
        write("hand out messages of a group", () => tx.perform(Groups.claimDeliveries(tx, demand))),
      settleDeliveries: (settlements) =>
        write("settle deliveries", () =>
          settlements.map((one) => tx.perform(Groups.settleDelivery(tx, one)))
        ),
      extendDeliveries: (extension) =>
        write("extend deliveries", () => tx.perform(Groups.extendDeliveries(tx, extension))),
      releaseHolder: (holder) =>
        write("give back deliveries", () => tx.perform(Groups.releaseHolder(tx, holder))),
      touchGroups: (groups) => write("keep groups", () => tx.perform(Groups.touchGroups(tx, groups))),
      deleteAbandonedGroups: (before, limit) =>
        write("delete abandoned groups", () => tx.perform(Groups.deleteAbandonedGroups(tx, before, limit))),
      mayHaveReady: () => tx.hot.size > 0,
      claimRuns: (demands) => write("claim runs", () => tx.perform(claimRuns(tx, demands))),
      applyReports: (reports, environment, options) => {
        const apply = (some: ReadonlyArray<TurnReport>) =>
          write("store reports", () => tx.perform(applyReports(tx, some, environment, options?.callsBack)))
        // damage that could not be put down to one run costs only those reports that meet it
        const applyAlone = (report: TurnReport) =>
          Effect.catchIf(apply([report]), isDamage, (error) =>
            Effect.succeed([refusedForDamage(report, error.message)])
          )
        return Effect.catchIf(apply(reports), isDamage, () =>
          Effect.map(Effect.forEach(reports, applyAlone, { concurrency: "unbounded" }), (acks) => acks.flat())
        )
      },
      extendLeases: (jobIds, leaseMs, holder, environment) =>
        write("extend leases", () => tx.perform(extendLeases(tx, jobIds, leaseMs, holder, environment))),
      adoptLeases: (workerId, jobIds, leaseMs, functionIds, since) =>
        write(`keep the turns of worker ${workerId}`, () =>
          tx.perform(adoptLeases(tx, workerId, jobIds, leaseMs, functionIds, since))
        ),
      releaseWorker: (workerId, lost, left) =>
        write(`release worker ${workerId}`, () => tx.perform(releaseWorker(tx, workerId, lost, left))),
      endRevoked: (jobIds) => write("hand out what was taken back", () => tx.perform(endRevoked(tx, jobIds))),
      loseLease: (jobId, why) => write(`take back job ${jobId}`, () => tx.perform(loseLease(tx, jobId, why))),
      markLate: (runId, lingerMs, environment) =>
        write(`wake run ${runId}`, () => tx.perform(markLate(tx, runId, lingerMs, environment))),
      fireDue: () =>
        Effect.gen(function* () {
          // they are submitted together, and share a transaction
          const [fired, next] = yield* Effect.all(
            [
              Effect.all(
                upkeep.map((what) =>
                  Effect.result(write("fire timers", () => tx.perform(fireDue(tx, what))))
                ),
                { concurrency: "unbounded" }
              ),
              Effect.result(write("fire timers", () => tx.perform(findNextDue(tx))))
            ],
            { concurrency: "unbounded" }
          )
          const failed = [...fired, next].find(Result.isFailure)?.failure
          if (failed !== undefined && fired.every(Result.isFailure)) return yield* Effect.fail(failed)
          return {
            count: fired.filter(Result.isSuccess).reduce((sum, { success }) => sum + success, 0),
            nextDueAt: Result.isSuccess(next) ? next.success : Number.POSITIVE_INFINITY,
            ...(failed === undefined ? {} : { failed })
          }
        }),
      getRun: (environment, runId) =>
        inspect(`read run ${runId}`, () =>
          tx.perform(readRun(tx, tx.perform(findRun(tx, environment, runId))))
        ),
      getEndedRun: (environment, runId) =>
        inspect(`read run ${runId}`, () =>
          tx.perform(hasEnded(tx, environment, runId))
            ? tx.perform(readRun(tx, tx.perform(findRun(tx, environment, runId))))
            : undefined
        ),
      environmentOfRun: (runId) =>
        read(`read run ${runId}`, () => {
          const row = tx.get("SELECT environment FROM runs WHERE id = ?", runId)
          return row === undefined ? undefined : tx.environmentName(Number(row.environment))
        }),
      getEventName: (environment, runId) =>
        read(`read run ${runId}`, () => tx.perform(eventNameOf(tx, environment, runId))),
      listRuns: (query) =>
        Effect.catchIf(
          listRuns(tx, query, (look) => inspectRuns("list runs", () => tx.perform(look())), longLists),
          (error) => isDamage(error),
          (): ReturnType<StoreService["listRuns"]> =>
            refusable(readApart("list runs", () => refusal(() => tx.perform(listRunsAround(tx, query)))))
        ),
      getRunSteps: (environment, runId) =>
        Effect.gen(function* () {
          const steps: Array<RunStep> = []
          let from: number | undefined = 0
          while (from !== undefined) {
            if (from > 0) yield* nextTurn
            const part: RunSteps = yield* stepsOf(environment, runId, { from, limit: -1 })
            for (const step of part.steps) steps.push(step)
            from = part.next
          }
          return steps
        }),
      readRunSteps: stepsOf,
      readRecording: (environment, runId, part) =>
        inspect(`read the record of run ${runId}`, () =>
          tx.perform(readRecording(tx, environment, runId, part))
        ),
      deleteExpiredRecordings: (limit) =>
        write("delete old records", () => tx.perform(deleteExpiredRecordings(tx, limit))),
      deleteExpiredIdempotencyKeys: (limit) =>
        write("delete old idempotency keys", () => tx.perform(forgetExpired(tx, limit))),
      getHistory: (environment, runId) =>
        inspect(`read run ${runId}`, () => tx.perform(readHistory(tx, environment, runId))),
      getSituation: (environment, runId) =>
        inspect(`read run ${runId}`, () => tx.perform(Inspection.getSituation(tx, environment, runId))),
      cancelRun: (environment, runId, reason) =>
        steerRun(`cancel run ${runId}`, environment, runId, () =>
          tx.perform(Steering.cancelRun(tx, environment, runId, reason))
        ),
      pauseRun: (environment, runId, reason) =>
        steerRun(`pause run ${runId}`, environment, runId, () =>
          tx.perform(Steering.pauseRun(tx, environment, runId, reason))
        ),
      resumeRun: (environment, runId, fromStep) =>
        steerRun(`resume run ${runId}`, environment, runId, () =>
          tx.perform(Steering.resumeRun(tx, environment, runId, fromStep))
        ),
      retryRun: (environment, runId, fromStep) =>
        steerRun(`retry run ${runId}`, environment, runId, () =>
          tx.perform(Steering.retryRun(tx, environment, runId, fromStep))
        ),
      patchStep: (environment, stepId, output, reason) =>
        steerRun(`patch step ${stepId}`, environment, stepId.slice(0, Math.max(0, stepId.indexOf(":"))), () =>
          tx.perform(Steering.patchStep(tx, environment, stepId, output, reason))
        ),
      createKvBucket: (environment, bucket) =>
        change(`create bucket "${bucket.name}"`, () =>
          tx.perform(KvBuckets.createBucket(tx, environment, bucket))
        ),
      listKvBuckets: (environment, page) =>
        read("list buckets", () => tx.perform(KvBuckets.listBuckets(tx, environment, page))),
      readKvBucket: (environment, name) =>
        look(`read bucket "${name}"`, () => tx.perform(KvBuckets.readBucket(tx, environment, name))),
      deleteKvBucket: (environment, name) =>
        change(`delete bucket "${name}"`, () => tx.perform(KvBuckets.deleteBucket(tx, environment, name))),
      writeKv: (environment, bucket, writes) =>
        change(`write to bucket "${bucket}"`, () =>
          tx.perform(writeEntries(tx, environment, bucket, writes))
        ),
      readKv: (environment, bucket, key) =>
        look(`read bucket "${bucket}"`, () => tx.perform(KvRows.readEntry(tx, environment, bucket, key))),
      readKvHistory: (environment, bucket, query) =>
        look(`read bucket "${bucket}"`, () => tx.perform(KvRows.readHistory(tx, environment, bucket, query))),
      listKvKeys: (environment, bucket, query) =>
        look(`list the keys of bucket "${bucket}"`, () =>
          tx.perform(KvRows.listKeys(tx, environment, bucket, query))
        ),
      readKvChanges: (environment, bucket, after, limit) =>
        look(`read bucket "${bucket}"`, () =>
          tx.perform(KvRows.readChanges(tx, environment, bucket, after, limit))
        ),
      setConfig: (environment, name, data) =>
        change(`store configuration "${name}"`, () =>
          tx.perform(ConfigRows.setConfig(tx, environment, name, data))
        ),
      patchConfig: (environment, name, patch) =>
        change(`store configuration "${name}"`, () =>
          tx.perform(ConfigRows.patchConfig(tx, environment, name, patch))
        ),
      readConfig: (environment, name) =>
        look(`read configuration "${name}"`, () => tx.perform(ConfigRows.readConfig(tx, environment, name))),
      listConfigs: (environment, after, limit) =>
        read("list configurations", () => tx.perform(ConfigRows.listConfigs(tx, environment, after, limit))),
      deleteConfig: (environment, name) =>
        change(`delete configuration "${name}"`, () =>
          tx.perform(ConfigRows.deleteConfig(tx, environment, name))
        ),
      readConfigChanges: (environment, after, limit) =>
        look("read configurations", () =>
          tx.perform(ConfigRows.readConfigChanges(tx, environment, after, limit))
        ),
      projections: {
        register: (environment, registration) =>
          steer(`register projection "${registration.name}"`, () => {
            tx.perform(registerTokenless(tx, environment, registration))
            return tx.perform(Projections.getProjection(environment, registration.name))
          }),
        claim: (request) =>
          steer(`claim projection "${request.registration.name}"`, () =>
            tx.perform(Owners.claimProjection(tx, request))
          ),
        renew: (token, leaseMs) =>
          write(`keep projection "${token.name}"`, () =>
            tx.perform(Owners.renewProjection(tx, token, leaseMs))
          ),
        release: (token) =>
          write(`release projection "${token.name}"`, () => tx.perform(Owners.releaseProjection(tx, token))),
        readPage: (token, after, limit) =>
          read(`read on for projection "${token.name}"`, () =>
            tx.perform(Owners.readProjectionPage(tx, token, after, limit))
          ),
        readStates: (token, partitions) =>
          read(`read the state of projection "${token.name}"`, () =>
            tx.perform(Owners.readPartitions(tx, token, partitions))
          ),
        save: (token, save) =>
          steer(`save projection "${token.name}"`, () => tx.perform(Owners.saveProjection(tx, token, save))),
        handOut: (request) =>
          steer(`hand out events of projection "${request.name}"`, () => tx.perform(handOut(tx, request))),
        saveTokenless: (save) =>
          steer(`save projection "${save.name}"`, () => tx.perform(saveTokenless(tx, save))),
        get: (environment, name) =>
          inspect(`read projection "${name}"`, () =>
            tx.perform(Projections.getProjection(environment, name))
          ),
        list: (environment, page) =>
          read("list projections", () => tx.perform(Projections.listProjections(tx, environment, page))),
        getState: (environment, name, partition) =>
          inspect(`read the state of projection "${name}"`, () =>
            tx.perform(Projections.getProjectionState(environment, name, partition))
          ),
        readChanges: (environment, name, query) =>
          inspect(`read the changes of projection "${name}"`, () =>
            tx.perform(readProjectionChanges(environment, name, query))
          ),
        isAt: (environment, name, target, checked, limit) =>
          inspect(`read projection "${name}"`, () =>
            tx.perform(Projections.isProjectionAt(tx, environment, name, target, checked, limit))
          ),
        findEvent: (environment, eventId) =>
          read(`find event ${eventId}`, () => tx.perform(Projections.findEvent(tx, environment, eventId))),
        pause: (environment, name, by, reason) =>
          steer(`pause projection "${name}"`, () =>
            tx.perform(Projections.pauseProjection(tx, environment, name, by, reason))
          ),
        resume: (environment, name) =>
          steer(`resume projection "${name}"`, () =>
            tx.perform(Projections.resumeProjection(tx, environment, name))
          ),
        rebuild: (environment, name) =>
          steer(`rebuild projection "${name}"`, () =>
            tx.perform(Projections.rebuildProjection(tx, environment, name))
          ),
        delete: (environment, name) =>
          steer(`delete projection "${name}"`, () =>
            tx.perform(Projections.deleteProjection(tx, environment, name))
          ),
        listDeadLetters: (environment, name, after, limit) =>
          inspect(`list the dead letters of projection "${name}"`, () =>
            tx.perform(Projections.listDeadLetters(environment, name, after, limit))
          ),
        retryDeadLetters: (environment, name, position) =>
          steer(`retry dead letters of projection "${name}"`, () =>
            tx.perform(Projections.retryDeadLetters(tx, environment, name, position))
          )
      },
      groups: {
        create: (group) =>
          steer(`create consumer group "${group.name}"`, () =>
            tx.perform(GroupInspection.createGroup(tx, group))
          ),
        get: (group) =>
          inspect(`read consumer group "${group.name}"`, () =>
            tx.perform(GroupInspection.getGroup(tx, group))
          ),
        list: (query) =>
          Effect.gen(function* () {
            const what = "list consumer groups"
            const { keys, ...page } = yield* read(what, () =>
              tx.perform(GroupInspection.listGroups(tx, query))
            )
            const groups: Array<GroupInfo> = []
            for (const key of keys) {
              if (groups.length > 0) yield* nextTurn
              const info = yield* read(what, () => tx.perform(GroupInspection.findInfo(key)))
              if (info !== undefined) groups.push(info)
            }
            return { groups, ...page }
          }),
        update: (group, change) =>
          steer(`update consumer group "${group.name}"`, () =>
            tx.perform(GroupInspection.updateGroup(tx, group, change))
          ),
        delete: (group) =>
          steer(`delete consumer group "${group.name}"`, () =>
            tx.perform(GroupInspection.deleteGroup(tx, group))
          ),
        listDeadLetters: (group, after, limit) =>
          inspect(`list the dead letters of consumer group "${group.name}"`, () =>
            tx.perform(GroupDeadLetters.listDeadLetters(tx, group, after, limit))
          ),
        retryDeadLetters: (group, position) =>
          steer(`retry dead letters of consumer group "${group.name}"`, () =>
            tx.perform(GroupDeadLetters.retryDeadLetters(tx, group, position))
          ),
        setup: (key) => read("read a consumer group", () => tx.perform(GroupInspection.getSetup(key)))
      },
      readAccess: () => read("read who may do what", () => tx.perform(Access.readAccess())),
      readAccessLog: (limit) => read("read the access log", () => tx.perform(Access.readAccessLog(limit))),
      createApiKey: (key, by) =>
        steer("store an API key", () => tx.perform(Access.createApiKey(tx, key, by))),
      rotateApiKey: (id, secret, by) =>
        steer(`rotate API key ${id}`, () => tx.perform(Access.rotateApiKey(tx, id, secret, by))),
      deleteApiKey: (id, by, options) =>
        steer(`delete API key ${id}`, () => tx.perform(Access.deleteApiKey(tx, id, by, options))),
      putBootstrapKey: (hash) =>
        write("store the bootstrap key", () => tx.perform(Access.putBootstrapKey(tx, hash))),
      touchApiKeys: (uses) => write("note the use of API keys", () => tx.perform(Access.touchApiKeys(uses))),
      createOrg: (name, by) =>
        steer("store an organization", () => tx.perform(Access.createOrg(tx, name, by))),
      updateOrg: (id, name, by) =>
        steer(`change organization ${id}`, () => tx.perform(Access.updateOrg(tx, id, name, by))),
      deleteOrg: (id, by) =>
        steer(`delete organization ${id}`, () => tx.perform(Access.deleteOrg(tx, id, by))),
      createRole: (role, by) => steer("store a role", () => tx.perform(Access.createRole(tx, role, by))),
      updateRole: (id, name, by) =>
        steer(`change role ${id}`, () => tx.perform(Access.updateRole(tx, id, name, by))),
      deleteRole: (id, by) => steer(`delete role ${id}`, () => tx.perform(Access.deleteRole(tx, id, by))),
      assignPolicy: (roleId, policyId, by) =>
        steer(`assign a policy to role ${roleId}`, () =>
          tx.perform(Access.assignPolicy(tx, roleId, policyId, by))
        ),
      removePolicy: (roleId, policyId, by) =>
        steer(`remove a policy from role ${roleId}`, () =>
          tx.perform(Access.removePolicy(tx, roleId, policyId, by))
        ),
      createPolicy: (policy, by) =>
        steer("store a policy", () => tx.perform(Access.createPolicy(tx, policy, by))),
      updatePolicy: (id, changes, by) =>
        steer(`change policy ${id}`, () => tx.perform(Access.updatePolicy(tx, id, changes, by))),
      deletePolicy: (id, by) =>
        steer(`delete policy ${id}`, () => tx.perform(Access.deletePolicy(tx, id, by))),
      deleteEndedRuns: (endedBefore, limit, after) =>
        write("delete old runs", () => tx.perform(deleteEndedRuns(tx, endedBefore, limit, after))),
      settledNow: () => tx.settledNow(),
      health: () => {
        if (lost !== undefined) return { status: "down", message: lost.message }
        if (outage !== undefined) return { status: "degraded", message: outage.error.message }
        if (!tx.damage.wasFound) return { status: "ok" }
        const { count } = tx.damage
        return {
          status: "degraded",
          message:
            "Something in the database is damaged" +
            (count === 0 ? "" : `, and ${count} ${count === 1 ? "thing is" : "things are"} left alone`) +
            ": the log of the engine says what. `ironflow serve --check` reads the whole file"
        }
      },
      countStuckRuns: (holders) =>
        Effect.gen(function* () {
          let from: number | undefined = 0
          let stuck = 0
          while (from !== undefined) {
            const begin: number = from
            const { count, next } = yield* read("count stuck runs", () =>
              tx.perform(countStuckRuns(tx, holders, begin))
            )
            stuck += count
            from = next
            if (from !== undefined) yield* nextTurn
          }
          return stuck
        })
    })
  })

/** {@link Store} on SQLite. */
export const layer = (options: SqliteOptions): Layer.Layer<Store, StoreError> => {
  checkKeys(options, sqliteKeys, "The SQLite store")
  return Layer.effect(Store, make(options))
}

const sqliteKeys = { filename: true, fileMode: true, check: true } satisfies Keys<SqliteOptions>

/** An error of ours as a value, so that refusing one command does not roll back the group that it is in. */
class Refusal {
  readonly error: IronflowError
  constructor(error: IronflowError) {
    this.error = error
  }
}

const refusal = <A>(run: () => A): A | Refusal => {
  try {
    return run()
  } catch (error) {
    if (error instanceof IronflowError && !(error instanceof StoreError)) return new Refusal(error)
    throw error
  }
}

/** The message is put together when something fails, and not before. */
const cannot = (what: string | (() => string), cause: unknown): StoreError =>
  storeError(`Cannot ${typeof what === "string" ? what : what()}`, cause)

const clockWasSet = (ms: number): string => {
  const by = `${Math.round(Math.abs(ms) / 1000)} s`
  return ms < 0
    ? `The clock was set back by ${by}: leases, timeouts and retries keep their length, and what is due at a time comes later`
    : `The clock went forward by ${by}: leases keep their length. What is old by this clock is kept for another day, in case it is set right`
}

const isLeftAlone = ({ id, key, kind, why }: Found): string =>
  kind === "run"
    ? `Run ${id ?? `#${key}`} is damaged in the database and is left alone, the others go on: ${why}. Restore the database from a backup, ` +
      "or patch the step that is damaged, or cancel the run"
    : `A ${kind} (${key}) is damaged in the database and is left alone, the others go on: ${why}. Restore the database from a backup`

interface Opened {
  readonly db: DatabaseSync
  /** False for a database in memory. */
  readonly isFile: boolean
  /** What should be known about the last stop. */
  readonly lastStop: LastStop | undefined
  /** What should be known about the files. */
  readonly warnings: ReadonlyArray<string>
  readonly release: () => void
}

const open = ({ check = false, fileMode = DEFAULT_MODE, filename }: SqliteOptions, now: number): Opened => {
  // SQLite takes an empty name for a database that is gone with the process
  if (filename.trim() === "") {
    throw new StoreError("The filename of the database must not be empty or blank", {
      code: "STORE_UNAVAILABLE"
    })
  }
  const isFile = filename !== ":memory:"
  if (isFile) refuseFolder(filename)
  const warnings = isFile ? checkFiles(filename, fileMode) : []
  const lock = isFile ? acquireLock(filename, fileMode, now) : undefined
  let db: DatabaseSync | undefined
  try {
    const lastStop = lock === undefined ? undefined : checkLastOwner(filename)
    if (isFile) makeFile(filename, fileMode)
    db = new DatabaseSync(filename, { timeout: 5000 })
    // before anything is changed: it may be somebody else's
    checkOurs(db, filename)
    db.exec(
      "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint=4000"
    )
    if (check) checkAll(db, filename)
    const opened = db
    return {
      warnings,
      db: opened,
      isFile,
      lastStop,
      release: () => {
        opened.close()
        lock?.release()
      }
    }
  } catch (error) {
    db?.close()
    lock?.release()
    throw error
  }
}

/** Marks a database as ours: "Iron" in ASCII. */
const APPLICATION_ID = 0x49726f6e

const pragma = (db: DatabaseSync, name: string): number =>
  Number(Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0])

const checkOurs = (db: DatabaseSync, filename: string): void => {
  const foreign =
    pragma(db, "application_id") !== APPLICATION_ID &&
    db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() !== undefined
  if (foreign) {
    throw new StoreError(
      `"${filename}" is a SQLite database of something else: give the engine a file of its own`,
      { code: "STORE_CORRUPT" }
    )
  }
  const done = pragma(db, "user_version")
  if (done > migrations.length) {
    throw new StoreError(
      `Database "${filename}" was written by a newer version (its tables are at ${done}, this version knows ${migrations.length}): upgrade @ironflow/node`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
}

/** Problems that are told of. */
const MOST_PROBLEMS = 10

/** Reads the whole file, and throws a `StoreError` that says what is damaged. */
const checkAll = (db: DatabaseSync, filename: string): void => {
  const problems: Array<string> = []
  try {
    for (const row of db.prepare(`PRAGMA integrity_check(${MOST_PROBLEMS})`).iterate()) {
      problems.push(...String(row.integrity_check).split("\n"))
    }
    if (problems.length === 1 && problems[0] === "ok")
      problems.splice(0, 1, ...findUnsound(db, MOST_PROBLEMS))
  } catch (error) {
    // it may be too badly damaged to be checked to the end
    if (!isDamage(error)) throw error
    problems.push(storeError("it cannot be read to the end", error).message)
  }
  if (problems.length === 0) return
  throw new StoreError(
    `Database "${filename}" is damaged: ${problems
      .filter((line) => line !== "")
      .slice(0, MOST_PROBLEMS)
      .join("; ")}. Restore it from a backup; without the check the engine starts, ` +
      "and leaves alone what is damaged",
    { code: "STORE_CORRUPT" }
  )
}

const migrate = (db: DatabaseSync): void => {
  const done = pragma(db, "user_version")
  db.exec("BEGIN IMMEDIATE")
  try {
    for (const migration of migrations.slice(done)) db.exec(migration)
    db.exec(`PRAGMA user_version = ${migrations.length}; PRAGMA application_id = ${APPLICATION_ID}; COMMIT`)
  } catch (error) {
    db.exec("ROLLBACK")
    throw error
  }
}

/** The last id of those that new ids are compared with: of the log, and of jobs that are held. */
const lastId = (db: DatabaseSync): string | undefined => {
  try {
    const event = db.prepare("SELECT id FROM events ORDER BY position DESC LIMIT 1").get()?.id
    const job = db.prepare("SELECT max(ltrim(lease, '~')) AS id FROM runs WHERE lease IS NOT NULL").get()?.id
    const [last] = [event, job]
      .flatMap((id) => (id == null ? [] : [String(id)]))
      .toSorted((a, b) => (a.replace(/^.*_/, "") > b.replace(/^.*_/, "") ? -1 : 1))
    return last
  } catch (error) {
    if (!isDamage(error)) throw error
    // the end of the log is damaged, which `lookAtNewest` says: new ids go by the clock alone
    return undefined
  }
}
