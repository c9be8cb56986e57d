/**
 * {@link Store} on Postgres.
 *
 * Acknowledged writes are as durable as a commit of that server. Any number of engines share a schema. Each writes over one
 * connection, and reads over others, each read in its own snapshot.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { Pool } from "pg"
import { StoreError } from "../../../Errors.ts"
import { makeIdGenerator } from "../../../Ids.ts"
import { checkKeys, type Keys } from "../../../OptionKeys.ts"
import * as Alarm from "../../../Execution/Alarm.ts"
import type { LeaseFreshness } from "../../../Protocol/Worker.ts"
import type { Changes } from "../Changes.ts"
import { ClockJumps, clockJumpMessage, STORE_CLOCK_MS } from "../ClockJumps.ts"
import { readClock, storeClock } from "../ClockRows.ts"
import { Listeners } from "../Listeners.ts"
import { type Call, Refused } from "../Program.ts"
import { damagedRowMessage, isolateDamage } from "../DamageIsolation.ts"
import { DeadConnections } from "./DeadConnections.ts"
import { Store, type StoreService } from "../Store.ts"
import { RETRY_MS } from "../StoreOutage.ts"
import type { StoreCallbacks } from "../StoreCallbacks.ts"
import { Connections } from "./Connections.ts"
import { configOf, type Driver, loadDriver, type PostgresSettings, postgresSettingsOf } from "./Driver.ts"
import { WriteConnection } from "./WriteConnection.ts"
import { END_SILENT, isAwayFor, isSeen, NOW, OLDEST_ROW_MS } from "./Nodes.ts"
import { CommitNotifications } from "./CommitNotifications.ts"
import { allStale } from "./NotificationText.ts"
import { type Migration, migrations } from "./Migrations.ts"
import type { PostgresOptions } from "./Options.ts"
import { closeError, isDamage, isUnavailable, openError, storeError } from "./PostgresErrors.ts"
import { Environments, PostgresTransaction } from "./PostgresTransaction.ts"
import { Reader } from "./Reader.ts"
import { ServerClock } from "./ServerClock.ts"
import { Runner, type Session, type Traffic } from "./Session.ts"
import { Writer } from "./Writer.ts"

/** Most programs in one transaction. */
const GROUP = 512
/** How long to wait for the lock before checking who holds it, milliseconds. */
const MOST_WAIT_MS = 1000
/** How long Postgres may be silent before it counts as out of reach, milliseconds. */
const MOST_SILENT_MS = 3000
/** How long to wait for Postgres when the store is closed, milliseconds; after that the connections are abandoned. */
const MOST_CLOSING_MS = 5000
/** Runs that are started in one transaction; a single program is never split. */
const GROUP_RUNS = 1000

/** The traffic of the stores of this process with Postgres, for tests and benches. */
export const traffic: Traffic = { statements: 0, roundTrips: 0, commits: 0 }

/**
 * Opens a store. Fails with `StoreError`: `STORE_LOCKED` when another engine has exclusive use of the schema, `STORE_CORRUPT` when
 * the schema has tables of another program, `STORE_UNAVAILABLE` when Postgres cannot be reached or used. `known` are the migrations
 * of this version.
 */
export const make = (
  options: PostgresOptions,
  callbacks: StoreCallbacks,
  sharing: Sharing = "shared",
  known: ReadonlyArray<Migration> = migrations
): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  open({ ...postgresSettingsOf(options), known }, callbacks, sharing === "alone")

/**
 * Whether other engines may use the tables at the same time. `"alone"` is for tests with a clock that differs from the server's.
 */
export type Sharing = "alone" | "shared"

const open = (
  settings: PostgresSettings,
  callbacks: StoreCallbacks,
  isAlone: boolean
): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const server = new ServerClock(clock)
    // an engine that is alone goes by its own clock, which may be moved
    const now = isAlone ? () => clock.currentTimeMillisUnsafe() : server.now
    const monotonicMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const attempt = <A>(run: () => Promise<A>): Effect.Effect<A, StoreError> =>
      Effect.tryPromise({ try: run, catch: (cause) => openError(settings.shown, cause) })

    const after = yield* Alarm.makeScheduleTimeout
    const connections = new Connections(yield* attempt(loadDriver))
    const { driver } = connections
    const deadConnections = new DeadConnections({ driver, settings, now: monotonicMs })
    const { waiting } = deadConnections
    const writeConnection = yield* Effect.acquireRelease(
      Effect.sync(() => new WriteConnection({ driver, settings, traffic, isAlone, waiting })),
      (held) =>
        Effect.catch(
          Effect.tryPromise({
            try: () => held.close(),
            catch: closeError
          }),
          ({ message }) =>
            Effect.logWarning(`${message}. Other engines notice it later, and then take over its work`)
        )
    )
    const first = yield* attempt(() => writeConnection.session())
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => makePool(driver, settings)),
      (made) =>
        Effect.promise(() => {
          isClosed = true
          return made.end().catch(() => undefined)
        })
    )
    const closed = new StoreError(`The store at ${settings.shown} is closed`, { code: "STORE_UNAVAILABLE" })
    let isClosed = false

    const listeners = new Listeners(
      (failing, error) => void runFork(Effect.logError(`Could not ${failing}`, error))
    )
    let tellOthers: (changes: Changes) => void = () => undefined
    /** When this node last renewed its row, as far as it knows. */
    let renewedAt = monotonicMs()
    /** When this node last asked what others have committed, and then knew all of it. */
    let currentAt = monotonicMs()
    /** When the last transaction began. */
    let beganAt = monotonicMs()
    /** When Postgres last answered. */
    let answeredAt = monotonicMs()
    /** Why writes fail at the moment. */
    let outage: StoreError | undefined
    const lookAround = (): void => {
      deadConnections.look()
      if (monotonicMs() - answeredAt > MOST_SILENT_MS) {
        outage ??= new StoreError(
          `Cannot reach Postgres: it has not answered for ${Math.round((monotonicMs() - answeredAt) / 1000)} s`,
          { code: "STORE_UNAVAILABLE", retryable: true }
        )
      }
      // where there are no others nobody takes anything
      if (
        !writer.transactionStart.isAway &&
        news?.hasOthers === true &&
        isAwayFor(monotonicMs() - renewedAt)
      ) {
        writer.transactionStart.away()
        runFork(
          Effect.logWarning(
            "This engine stops its turns: Postgres could not be reached for so long that other engines may take them over"
          )
        )
        listeners.away()
      }
      const { pid } = writeConnection
      if (writer.transactionStart.waitedMs < MOST_WAIT_MS || pid === undefined) return
      // whoever writes says that it does not go on
      reader.ask(END_SILENT, [pid]).catch(() => undefined)
    }
    const reader = new Reader(pool, traffic, waiting)
    const news = isAlone
      ? undefined
      : yield* Effect.acquireRelease(
          Effect.sync(
            () =>
              new CommitNotifications({
                driver,
                settings,
                traffic,
                reader,
                node: () => writeConnection.node,
                after,
                now: monotonicMs,
                wants: () => listeners.wants,
                isHere: (workerId) => listeners.isHere(workerId),
                tell: (changes) => tellOthers(changes),
                wanted: (wants) => (listeners.elsewhere = wants),
                looking: () => lookAround(),
                looked: ({ hasLapsed, isThere, now: serverMs, sequence }, askedAt) => {
                  answeredAt = monotonicMs()
                  if (news?.isInOrder(Number(sequence) + 1) === true) currentAt = Math.max(currentAt, askedAt)
                  server.measured(Number(serverMs))
                  if (isThere === 1) renewedAt = Math.max(renewedAt, askedAt - OLDEST_ROW_MS)
                  // whoever writes knows whether it can be written again
                  if (
                    hasLapsed === 1 ||
                    isThere !== 1 ||
                    writer.transactionStart.isAway ||
                    outage !== undefined
                  )
                    writer.look()
                },
                failed: (error) => {
                  if (isUnavailable(error)) outage ??= storeError("Cannot reach Postgres", error)
                },
                warn: (message) => void runFork(Effect.logWarning(message))
              })
          ),
          (made) => Effect.promise(() => made.close())
        )
    // before anything is read: later changes are told
    if (news !== undefined) {
      yield* attempt(() => news.start())
      listeners.onWants = () => news.wantsChanged()
    }
    const start = yield* attempt(() => readStart(first))
    server.measured(start.now)
    const tx = new PostgresTransaction({
      environments: start.environments,
      // an engine that is alone does not need to know where workers are
      node: isAlone ? undefined : writeConnection.node,
      now,
      random: () => random.nextDoubleUnsafe(),
      ids: makeIdGenerator(now, (below) => Math.floor(random.nextDoubleUnsafe() * below), start.lastId)
    })
    listeners.interest = tx.interest
    const stored = isAlone ? yield* attempt(() => new Runner(first, tx).run(readClock())) : undefined
    const last = stored instanceof Refused ? undefined : stored
    const jumps = new ClockJumps(now(), monotonicMs(), last)
    tx.settledNow = () => now() - jumps.aheadMs(monotonicMs())
    let clockStoredAt = Number.NEGATIVE_INFINITY
    /** Finds the rows that cause an error and leaves them alone, so that the rest of the work goes on. */
    const leaveAlone = async (error: unknown): Promise<boolean> => {
      // a failed connection says nothing about the stored data
      if (tx.culprit === undefined || isUnavailable(error)) return false
      try {
        const session = await writeConnection.session()
        const found = await new Runner(session, tx).run(
          isolateDamage(tx, callbacks, error, { isDamage, isUnavailable })
        )
        // this program refuses nothing
        if (found instanceof Refused) return false
        for (const one of found) runFork(Effect.logWarning(damagedRowMessage(one)))
        return found.length > 0
      } catch {
        // the caller gets the first error: the connection was lost meanwhile
        return false
      }
    }
    const writer = new Writer({
      tx,
      writeConnection,
      traffic,
      isAlone,
      expectsNobody: () => news?.hasOthers !== true,
      monotonicMs,
      renewed: (at) => (renewedAt = beganAt = at),
      takeOver: () => callbacks.takeOver.map((call) => call.run(tx)),
      tookOver: (names) => {
        runFork(
          Effect.logWarning(`Engines were lost, and other engines take over their work: ${names.join("; ")}`)
        )
        tellOthers(allStale)
        for (const subject of ["ready", "groups", "projections", "workers"] as const) news?.markStale(subject)
      },
      returned: (wasDead) => {
        if (wasDead) {
          runFork(
            Effect.logWarning(
              "Other engines have declared this one dead and taken over its work, because it was frozen or cut off from Postgres for too long. It is back, has given up the turns that it had, and takes new ones"
            )
          )
        }
        listeners.away()
      },
      replaced: (hasLostCommits) => {
        const what = "Postgres is another server than before"
        runFork(
          hasLostCommits
            ? Effect.logError(
                `${what}, and the last commits that Postgres had acknowledged are lost. This engine reads everything again and continues with the data that is there. Set synchronous_standby_names to lose nothing`
              )
            : Effect.logWarning(
                `${what}, and has everything that this engine committed: the engine continues there`
              )
        )
        tellOthers(allStale)
      },
      load: callbacks.load,
      ready: callbacks.ready,
      looked: (serverMs) => server.measured(serverMs),
      max: GROUP,
      isFull: () => tx.changes.counts.started >= GROUP_RUNS || tx.budget.isFull,
      first: () => {
        if (!isAlone) return undefined
        const jump = jumps.look(now(), monotonicMs())
        if (jump === 0) return undefined
        runFork(Effect.logWarning(clockJumpMessage(jump)))
        return () => callbacks.clockWasSet(tx, jump)
      },
      failed: (error) =>
        void runFork(
          Effect.logWarning(
            `The clock was changed, and the stored times could not be adjusted to it: ${String(error)}`
          )
        ),
      committing: () => {
        if (!isAlone || monotonicMs() - clockStoredAt < STORE_CLOCK_MS) return undefined
        tx.afterCommit(() => (clockStoredAt = monotonicMs()))
        return storeClock(tx)
      },
      joining: () => {
        if (tx.changes.ready) listeners.ready()
      },
      isolateDamage: (error) => {
        if (error instanceof StoreError && error.code === "STORE_LOCKED") {
          writer.stop(error)
          if (listeners.lose(error)) runFork(Effect.logError(error.message))
        } else if (isUnavailable(error)) outage = storeError("Cannot write to Postgres", error)
        if (isDamage(error)) tx.damage.wasFound = true
        return leaveAlone(error)
      },
      committed: (changes, sequence) => {
        outage = undefined
        answeredAt = monotonicMs()
        if (news?.isInOrder(sequence) === true) currentAt = Math.max(currentAt, beganAt)
        listeners.committed(news?.isInOrder(sequence) === false ? { ...changes, inOrder: false } : changes)
        news?.committed(sequence, changes)
      }
    })
    // functions and environments are remembered; the next transaction reads what others have written
    const tellFunctionsStale = (): void => listeners.committed({ ...allStale, stale: new Set(["functions"]) })
    tellOthers = (changes) => {
      if (!changes.stale.has("functions")) return listeners.committed(changes)
      const stale = new Set(changes.stale)
      stale.delete("functions")
      listeners.committed({ ...changes, stale })
      const follow = (): void =>
        writer.submit(() => Promise.resolve(), tellFunctionsStale, tellFunctionsStale)
      // a transaction just for this would make the other engines look in turn
      reader.ask(READ_KNOWN).then(([row]) => {
        const stored = { functions: Number(row?.functions), environments: Number(row?.environments) }
        return writer.transactionStart.knows(stored) ? tellFunctionsStale() : follow()
      }, follow)
    }
    news?.watch()
    yield* Effect.addFinalizer(() =>
      Effect.promise(() => {
        after(MOST_CLOSING_MS, () => writer.stop(closed))
        connections.endAfter(MOST_CLOSING_MS, after)
        return writer.close(closed)
      })
    )

    const cannot = (call: Call<unknown, unknown>, cause: unknown): StoreError => {
      if (isDamage(cause)) tx.damage.wasFound = true
      return storeError(`Cannot ${call.what()}`, cause)
    }
    const answer = <A, E>(result: A | Refused<E>): Effect.Effect<A, E> =>
      result instanceof Refused ? Effect.fail(result.error) : Effect.succeed(result)

    const write = <A, E>(call: Call<A, E>): Effect.Effect<A, E | StoreError> =>
      Effect.callback((resume) => {
        writer.submit(
          async (runner) => {
            if (!call.leavesHeld) await runner.writeHeld()
            return runner.run(call.run(tx))
          },
          (result) => resume(answer(result)),
          (cause) => resume(Effect.fail(cannot(call, cause)))
        )
      })
    const readOnce = async <A, E>(how: "read" | "readApart", call: Call<A, E>) => {
      if (listeners.lost !== undefined) throw listeners.lost
      const beside = tx.beside(news === undefined || writer.transactionStart.sequence >= news.sequence)
      // what comes back is what the program returns
      const result = (await reader[how](beside, () => call.run(beside))) as A | Refused<E>
      return { result, unknown: beside.unknownEnvironment }
    }
    /** Follows the commits of others if they have created this environment. Returns whether they have. */
    const learnsOf = async (name: string): Promise<boolean> => {
      if (isAlone) return false
      if ((await reader.ask(FIND_ENVIRONMENT, [name])).length === 0) return false
      await new Promise<void>((resolve) => {
        const done = (): void => resolve()
        writer.submit(() => Promise.resolve(), done, done)
      })
      return true
    }
    const reading =
      (how: "read" | "readApart") =>
      <A, E>(call: Call<A, E>): Effect.Effect<A, E | StoreError> =>
        Effect.flatMap(
          Effect.tryPromise({
            try: async () => {
              const first = await readOnce(how, call)
              const { unknown } = first
              // another node may have created the environment since this one last followed
              if (unknown === undefined || !(await learnsOf(unknown))) return first.result
              return (await readOnce(how, call)).result
            },
            // the pool says in words of its own that it has ended
            catch: (cause) => (isClosed ? closed : cannot(call, cause))
          }),
          answer
        )

    const touch: LeaseFreshness = {
      isRecent: () => isSeen(monotonicMs() - renewedAt),
      // its transaction finds out whether others have declared this node dead: its turns are told before `then`
      renew: (then) => {
        const again = (): void =>
          void runFork(
            Effect.delay(
              Effect.sync(() => touch.renew(then)),
              RETRY_MS
            )
          )
        writer.submit(
          () => Promise.resolve(),
          then,
          () => (listeners.lost === undefined ? again() : then())
        )
      }
    }

    const service = Store.of({
      write,
      read: reading("read"),
      readApart: reading("readApart"),
      ...(isAlone ? {} : { clock: server.clock }),
      onCommit: listeners.onCommit,
      onReady: listeners.onReady,
      onLost: listeners.onLost,
      ...(isAlone ? {} : { onAway: listeners.onAway, touch, currentMs: () => monotonicMs() - currentAt }),
      ...(news === undefined
        ? {}
        : {
            node: writeConnection.node,
            announce: (what, make) => {
              if (listeners.elsewhere[what]) news.announce(make())
            },
            callOthers: (subject) => news.markStale(subject)
          }),
      health: () => {
        if (listeners.lost !== undefined) {
          return { status: "down", message: listeners.lost.message, cannotWrite: true }
        }
        if (outage !== undefined) return { status: "degraded", message: outage.message, cannotWrite: true }
        if (!tx.damage.wasFound) return { status: "ok" }
        return {
          status: "degraded",
          message: "Something in the database is damaged: the log of the engine says what"
        }
      }
    })
    const setBackBy = last === undefined ? 0 : last.at - now()
    if (setBackBy >= 1000) {
      yield* Effect.logWarning(clockJumpMessage(-setBackBy))
      yield* service.write(callbacks.clockWasSetBack(setBackBy))
    }
    // in one transaction
    yield* Effect.forEach(callbacks.takeOver, (call) => service.write(call), {
      concurrency: "unbounded",
      discard: true
    })
    return service
  })

const READ_KNOWN = { name: "known", text: "SELECT functions, environments FROM engine" }
const FIND_ENVIRONMENT = { name: "findEnvironment", text: "SELECT 1 FROM environments WHERE name = $1" }

const makePool = (driver: Driver, settings: PostgresSettings): Pool => {
  const pool = new driver.Pool({ ...configOf(settings), max: Math.max(1, settings.poolSize - 2) })
  // an idle connection was lost: the next caller gets another one
  pool.on("error", () => undefined)
  return pool
}

const readStart = async (
  session: Session
): Promise<{
  readonly environments: Environments
  readonly lastId: string | undefined
  readonly now: number
}> => {
  const ask = async (text: string) => (await session.wait(session.send({ name: "", text }))).rows
  const environments = new Environments()
  for (const { key, name } of await ask("SELECT key, name FROM environments")) environments.put(name, key)
  const events = await ask("SELECT id FROM events ORDER BY position DESC LIMIT 1")
  const jobs = await ask("SELECT max(ltrim(lease, '~')) AS id FROM runs WHERE lease IS NOT NULL")
  const ids = [...events, ...jobs].flatMap(({ id }) => (id === null ? [] : [String(id)]))
  const [lastId] = ids.toSorted((a, b) => (a.replace(/^.*_/, "") > b.replace(/^.*_/, "") ? -1 : 1))
  const [time] = await ask(`SELECT ${NOW} AS now`)
  return { environments, lastId, now: Number(time?.now) }
}

/** {@link Store} on Postgres, as a layer. */
export const layer = (
  options: PostgresOptions,
  callbacks: StoreCallbacks,
  sharing?: Sharing
): Layer.Layer<Store, StoreError> => {
  checkKeys(options, keys, "The Postgres store")
  return Layer.effect(Store, make(options, callbacks, sharing))
}

const keys = {
  url: true,
  schema: true,
  poolSize: true,
  connectTimeoutMs: true,
  statementTimeoutMs: true
} satisfies Keys<PostgresOptions>
