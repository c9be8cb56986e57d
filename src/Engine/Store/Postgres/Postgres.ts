/**
 * {@link Store} on Postgres.
 *
 * Acknowledged writes are as durable as commits of the Postgres server. Any number of engines share a schema. Each engine writes
 * over one connection, and reads in snapshots over other connections.
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
import { clockJumpMessage } from "../ClockJumps.ts"
import { readClock } from "../ClockRows.ts"
import { ClockWatch } from "../ClockWatch.ts"
import { Listeners } from "../Listeners.ts"
import { Refused } from "../Program.ts"
import { healthOf, Store, type StoreService } from "../Store.ts"
import type { StoreCallbacks } from "../StoreCallbacks.ts"
import { CommitNotifications } from "./CommitNotifications.ts"
import { Connections } from "./Connections.ts"
import { DeadConnections } from "./DeadConnections.ts"
import { configOf, type Driver, loadDriver, type PostgresSettings, postgresSettingsOf } from "./Driver.ts"
import { type Migration, migrations } from "./Migrations.ts"
import { NOW } from "./Nodes.ts"
import type { PostgresOptions } from "./Options.ts"
import { closeError, openError } from "./PostgresErrors.ts"
import { PostgresReads } from "./PostgresReads.ts"
import { Environments, PostgresTransaction } from "./PostgresTransaction.ts"
import { PostgresWrites } from "./PostgresWrites.ts"
import { Reachability } from "./Reachability.ts"
import { Reader } from "./Reader.ts"
import { ServerClock } from "./ServerClock.ts"
import { Runner, type Session, type Traffic } from "./Session.ts"
import { WriteConnection } from "./WriteConnection.ts"

/** How long to wait for Postgres when the store is closed; after that the connections are abandoned. */
const MAX_CLOSING_MS = 5000
/** How often to look for connections that are dead without an error. */
const DEAD_CHECK_MS = 1000

/** The traffic of the stores of this process with Postgres, for tests and benches. */
export const traffic: Traffic = { statements: 0, roundTrips: 0, commits: 0 }

/**
 * Opens a store. Fails with `StoreError`: `STORE_LOCKED` when an engine or an import has exclusive use of the schema, or when
 * engines of an older version cannot work with a migration; `STORE_CORRUPT` when the schema has tables of another program;
 * `STORE_UNAVAILABLE` when Postgres cannot be reached or used. Throws `ValidationError` for invalid options. `knownMigrations` are
 * the migrations of this version.
 */
export const make = (
  options: PostgresOptions,
  callbacks: StoreCallbacks,
  sharing: Sharing = "shared",
  knownMigrations: ReadonlyArray<Migration> = migrations
): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  open({ ...postgresSettingsOf(options), migrations: knownMigrations }, callbacks, sharing === "alone")

/**
 * Whether other engines may use the tables at the same time. `"alone"` is for tests that have a clock of their own, and not that of
 * the server.
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
    // an engine that is alone uses the clock of its process, which a test may set
    const now = isAlone ? () => clock.currentTimeMillisUnsafe() : server.now
    const monotonicMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const warn = (message: string): void => void runFork(Effect.logWarning(message))
    const attempt = <A>(run: () => Promise<A>): Effect.Effect<A, StoreError> =>
      Effect.tryPromise({ try: run, catch: (cause) => openError(settings.displayName, cause) })

    const scheduleTimeout = yield* Alarm.makeScheduleTimeout
    const connections = new Connections(yield* attempt(loadDriver))
    const { driver } = connections
    const deadConnections = new DeadConnections({ driver, settings, monotonicMs })
    const { unanswered } = deadConnections
    // begins before the store is open, because the server may fall silent after it has accepted the first connections
    const checkForDead = (): void => {
      deadConnections.check()
      scheduleTimeout(DEAD_CHECK_MS, checkForDead)
    }
    // not for an engine that is alone: it runs in a test, and the clock of a test may go forward by months in a moment
    if (!isAlone) checkForDead()
    const writeConnection = yield* Effect.acquireRelease(
      Effect.sync(() => new WriteConnection({ driver, settings, traffic, isAlone, unanswered })),
      (held) =>
        Effect.catch(
          Effect.tryPromise({
            try: () => held.close(),
            catch: closeError
          }),
          ({ message }) =>
            Effect.logWarning(
              `${message}. Other engines will notice after a while that this engine is silent, and then take over its runs`
            )
        )
    )
    const session = yield* attempt(() => writeConnection.session())
    const pool = yield* Effect.acquireRelease(
      Effect.sync(() => makePool(driver, settings)),
      (opened) => Effect.promise(() => opened.end().catch(() => undefined))
    )
    const reader = new Reader(pool, traffic, unanswered)
    const listeners = new Listeners(
      (what, error) => void runFork(Effect.logError(`Could not ${what}`, error))
    )
    const reachability = new Reachability(monotonicMs)
    const notifications = isAlone
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
                scheduleTimeout,
                monotonicMs,
                wants: () => listeners.wants,
                isConnectedHere: (workerId) => listeners.isConnectedHere(workerId),
                onOtherWants: (wants) => (listeners.wantedElsewhere = wants),
                warn
              })
          ),
          (started) => Effect.promise(() => started.close())
        )
    // started before anything is read, so that this engine is told of everything that changes after it has read
    if (notifications !== undefined) {
      yield* attempt(() => notifications.start())
      listeners.onWants = () => notifications.wantsChanged()
    }

    const start = yield* attempt(() => readStart(session))
    server.set(start.now)
    const tx = new PostgresTransaction({
      environments: start.environments,
      // an engine that is alone does not need to know where workers are
      node: isAlone ? undefined : writeConnection.node,
      now,
      random: () => random.nextDoubleUnsafe(),
      ids: makeIdGenerator(now, (below) => Math.floor(random.nextDoubleUnsafe() * below), start.lastId)
    })
    listeners.interest = tx.interest
    const clockWatch = isAlone
      ? new ClockWatch({
          tx,
          callbacks,
          monotonicMs,
          lastStored: yield* attempt(() => readStoredClock(session, tx)),
          warn
        })
      : undefined

    const closedError = new StoreError(`The store at ${settings.displayName} is closed`, {
      code: "STORE_UNAVAILABLE"
    })
    const writes = new PostgresWrites({
      tx,
      callbacks,
      listeners,
      writeConnection,
      reader,
      traffic,
      server,
      reachability,
      monotonicMs,
      notifications,
      clockWatch,
      fork: runFork
    })
    const { leaseFreshness, writer } = writes
    const reads = new PostgresReads({ tx, pool, reader, writer, notifications, listeners, closedError })
    notifications?.watch(writes)
    yield* Effect.addFinalizer(() =>
      Effect.promise(() => {
        scheduleTimeout(MAX_CLOSING_MS, () => writer.stop(closedError))
        connections.endAfter(MAX_CLOSING_MS, scheduleTimeout)
        return writer.close(closedError)
      })
    )

    const service = Store.of({
      write: (call) => writes.write(call),
      read: (call) => reads.read("read", call),
      readApart: (call) => reads.read("readApart", call),
      onCommit: listeners.onCommit,
      onReady: listeners.onReady,
      onLost: listeners.onLost,
      ...(notifications === undefined
        ? {}
        : {
            clock: server.clock,
            node: writeConnection.node,
            onPossibleTakeover: listeners.onPossibleTakeover,
            setGate: listeners.setGate,
            leaseFreshness,
            sinceCurrentMs: () => reachability.sinceCurrentMs,
            announce: (what, make) => {
              if (listeners.wantedElsewhere[what]) notifications.announce(make())
            },
            markStale: (kind) => notifications.markStale(kind)
          }),
      health: () =>
        healthOf({
          lost: listeners.lost?.message,
          outage: reachability.outage?.message,
          damage: tx.damage.wasFound
            ? "Something in the database is damaged: the log of the engine says what"
            : undefined
        })
    })
    const behindMs = clockWatch?.behindMs ?? 0
    if (behindMs >= 1000) {
      yield* Effect.logWarning(clockJumpMessage(-behindMs))
      yield* service.write(callbacks.clockWasSetBack(behindMs))
    }
    // all at once, so that they share one transaction
    yield* Effect.forEach(callbacks.takeOver, (call) => service.write(call), {
      concurrency: "unbounded",
      discard: true
    })
    return service
  })

const makePool = (driver: Driver, settings: PostgresSettings): Pool => {
  // one connection of `poolSize` is the write connection, which is not in this pool
  const pool = new driver.Pool({ ...configOf(settings), max: settings.poolSize - 1 })
  // ignores the loss of an idle connection: the next caller gets another connection
  pool.on("error", () => undefined)
  return pool
}

/** Runs {@link readClock}, and returns its result. */
const readStoredClock = async (session: Session, tx: PostgresTransaction) => {
  const stored = await new Runner(session, tx).run(readClock())
  // never: `readClock` refuses nothing
  return stored instanceof Refused ? undefined : stored
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
