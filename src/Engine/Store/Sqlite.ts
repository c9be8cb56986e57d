/**
 * The store on SQLite, through Node's built-in module: nothing to install, one file, one process at a time.
 *
 * Writes go through one group commit, and are acknowledged when the disk has them: they survive a power loss. Reads run on the same
 * connection between commits. They see all acknowledged writes, and what else they see is on the disk before the reader has it.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { StoreError } from "../../Errors.ts"
import { Histogram } from "../../Histogram.ts"
import { withSharedBudget } from "../../ExpressionBudget.ts"
import { makeIdGenerator } from "../../Ids.ts"
import { checkKeys, type Keys } from "../../OptionKeys.ts"
import { backUp } from "./Backup.ts"
import { noteBackup } from "./BackupRows.ts"
import { ClockJumps, clockJumpMessage, STORE_CLOCK_MS } from "./ClockJumps.ts"
import { GroupCommit } from "./GroupCommit.ts"
import { damagedRowMessage, checkNewestRows, isolateDamage } from "./DamageIsolation.ts"
import { type Call, Refused } from "./Program.ts"
import { FileOwnership } from "./FileOwnership.ts"
import { hasRoom } from "./Files.ts"
import { isDamage, isFull, isUnavailable, diskRefusalError, storeError } from "./SqliteErrors.ts"
import { RETRY_MS } from "./StoreOutage.ts"
import { ReadSnapshot } from "./ReadSnapshot.ts"
import { walSyncOf } from "./WalSync.ts"
import { Transaction } from "./Transaction.ts"
import { readClock, storeClock } from "./ClockRows.ts"
import type { StoreCallbacks } from "./StoreCallbacks.ts"
import { SecureDelete } from "./SecureDelete.ts"
import { lastId, migrate, open, type SqliteOptions } from "./SqliteFile.ts"
import { Listeners } from "./Listeners.ts"
import { Store, type StoreService } from "./Store.ts"

/** Most commands in one transaction. */
const GROUP = 512
/** Runs that are started in one transaction; a single command is never split. */
const GROUP_RUNS = 1000

/**
 * Opens a database. Fails with `StoreError`: `STORE_LOCKED` when another engine has the file open, `STORE_CORRUPT` when
 * it is damaged or not an Ironflow database, `STORE_UNAVAILABLE` when it cannot be opened or written.
 */
export const make = (
  options: SqliteOptions,
  callbacks: StoreCallbacks
): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
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
    const listeners = new Listeners(
      (what, error) => void runFork(Effect.logError(`Could not ${what}`, error))
    )
    const lose = (error: StoreError): boolean => {
      if (listeners.lost !== undefined) return false
      writer.stop(error)
      runFork(Effect.logError(error.message))
      listeners.lose(error)
      return false
    }

    /** Why writes fail at the moment. */
    let outage:
      { readonly error: StoreError; readonly changes: unknown; readonly isFull: boolean } | undefined
    const commitTimes = new Histogram()
    let programs = 0
    let triedAt = Number.NEGATIVE_INFINITY
    const changesSoFar = () => db.prepare("SELECT total_changes() AS changes").get()?.changes
    const { ownership, snapshot, sync, tx, writer } = yield* Effect.try({
      try: () => {
        migrate(db)
        const tx = new Transaction({
          db,
          now,
          random: () => random.nextDoubleUnsafe(),
          // event ids are ordered as in the log, also when the clock was set back
          ids: makeIdGenerator(now, (below) => Math.floor(random.nextDoubleUnsafe() * below), lastId(db))
        })
        listeners.interest = tx.interest
        const last = tx.perform(readClock())
        const jumps = new ClockJumps(now(), monotonicMs(), last)
        tx.settledNow = () => now() - jumps.aheadMs(monotonicMs())
        let clockStoredAt = Number.NEGATIVE_INFINITY
        const ownership = !isFile
          ? undefined
          : new FileOwnership(db, {
              filename: options.filename,
              nonce: [0, 1, 2, 3].map(() => Math.floor(random.nextDoubleUnsafe() * 2 ** 32)).join("-"),
              monotonicMs
            })
        const sync = isFile ? walSyncOf(db, options.filename) : undefined
        const snapshot = new ReadSnapshot(db)
        const writer = new GroupCommit(db, {
          max: GROUP,
          isFull: () => tx.changes.counts.started >= GROUP_RUNS || tx.budget.isFull,
          first: () => {
            const jump = jumps.look(now(), monotonicMs())
            if (jump === 0) return undefined
            tell(clockJumpMessage(jump))
            return () => tx.perform(callbacks.clockWasSet(tx, jump))
          },
          took: (ms, commands) => {
            programs += commands
            commitTimes.add(ms / 1000)
          },
          beginning: () => snapshot.close(),
          begin: () => {
            ownership?.check()
            tx.begin()
          },
          joining: () => {
            if (tx.changes.ready) listeners.ready()
          },
          committing: () => {
            if (monotonicMs() - clockStoredAt >= STORE_CLOCK_MS) {
              tx.perform(storeClock(tx))
              tx.afterCommit(() => (clockStoredAt = monotonicMs()))
            }
            tx.committing()
          },
          rolledBack: () => tx.rolledBack(),
          isolateDamage: (error) => {
            if (error instanceof StoreError && error.code === "STORE_LOCKED") return lose(error)
            if (isUnavailable(error)) {
              outage = {
                error: storeError("Cannot write to the database", error),
                changes: changesSoFar(),
                isFull: isFull(error)
              }
            }
            if (isDamage(error)) tx.damage.wasFound = true
            const found = tx.perform(isolateDamage(tx, callbacks, error, { isDamage, isUnavailable }))
            for (const one of found) tell(damagedRowMessage(one))
            return found.length > 0
          },
          committed: () => {
            // a transaction without changes needs no disk space
            if (
              outage !== undefined &&
              changesSoFar() !== outage.changes &&
              // on a full disk small writes still succeed, in parts of the log that are used again
              (!outage.isFull || !isFile || hasRoom(options.filename))
            )
              outage = undefined
            const changes = tx.committed()
            return () => listeners.committed(changes)
          },
          ...(sync === undefined ? {} : { sync }),
          refused: (cause) => {
            const error = diskRefusalError(options.filename, cause)
            lose(error)
            return error
          },
          failed: (error) =>
            tell(`The clock was changed, and the stored times could not be adjusted to it: ${String(error)}`)
        })
        tx.perform(callbacks.load(tx))
        if (isFile) checkNewestRows(tx)
        return { ownership, snapshot, sync, tx, writer }
      },
      catch: (cause) => storeError(`Cannot use database "${options.filename}"`, cause)
    })
    yield* Effect.addFinalizer(() => Effect.sync(() => sync?.close()))
    yield* Effect.addFinalizer(() =>
      Effect.suspend(() => {
        writer.close(
          new StoreError(`Database "${options.filename}" is closed`, { code: "STORE_UNAVAILABLE" })
        )
        snapshot.close()
        if (ownership === undefined || listeners.lost !== undefined) return Effect.void
        return Effect.catch(
          Effect.try({
            try: () => {
              tx.perform(storeClock(tx))
              ownership.release()
            },
            catch: (cause) => storeError("Cannot write to the database", cause)
          }),
          (error) =>
            // acknowledged writes are durable; the next start reports that this stop was not clean
            Effect.logWarning(
              `Database "${options.filename}" could not be marked as closed: ${error.message}`
            )
        )
      })
    )

    const write = <A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> =>
      Effect.callback((resume) => {
        writer.submit(
          () => withSharedBudget(run),
          (value) => resume(Effect.succeed(value)),
          (cause) => resume(Effect.fail(cannot(what, cause)))
        )
      })
    const failedRead = (what: string | (() => string), cause: unknown): StoreError => {
      // a damaged page spoils the snapshot for other reads of this turn
      snapshot.close()
      if (isDamage(cause)) tx.damage.wasFound = true
      return cannot(what, cause)
    }
    /** Reads at once. The reader gets the result when the disk has everything that was read. */
    const readDurable = <A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> =>
      Effect.callback((resume) => {
        let found: A
        try {
          found = run()
        } catch (cause) {
          return resume(Effect.fail(failedRead(what, cause)))
        }
        writer.whenDurable((refused) =>
          resume(refused === undefined ? Effect.succeed(found) : Effect.fail(cannot(what, refused.error)))
        )
      })
    const read = <A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> =>
      readDurable(what, () => {
        if (listeners.lost !== undefined) throw listeners.lost
        snapshot.open()
        return withSharedBudget(run)
      })
    /** Reads statement by statement, so that a failed one does not spoil the others. */
    const readApart = <A>(what: string | (() => string), run: () => A): Effect.Effect<A, StoreError> =>
      readDurable(what, () => {
        snapshot.close()
        return run()
      })
    /** Returns a refusal as a value, so that it does not roll back the group. */
    const perform = <A, E>(call: Call<A, E>): A | Refused<E> => {
      try {
        return tx.perform(call.run(tx))
      } catch (error) {
        // a program refuses only with errors that its type names
        if (error instanceof Refused) return error as Refused<E>
        throw error
      }
    }
    const refusable = <A, E, E1>(self: Effect.Effect<A | Refused<E>, E1>): Effect.Effect<A, E | E1> =>
      Effect.flatMap(self, (result) =>
        result instanceof Refused ? Effect.fail(result.error) : Effect.succeed(result)
      )

    const secureDelete = new SecureDelete(db, isFile ? options.filename : undefined, snapshot)
    const service = Store.of({
      write: (call) =>
        refusable(
          write(call.what, () => {
            if (!call.leavesHeld) tx.writeHeld()
            return perform(call)
          })
        ),
      read: (call) => refusable(read(call.what, () => perform(call))),
      readApart: (call) => refusable(readApart(call.what, () => perform(call))),
      onCommit: listeners.onCommit,
      onReady: listeners.onReady,
      onLost: listeners.onLost,
      tryAgain: Effect.suspend(() => {
        if (outage === undefined || monotonicMs() - triedAt < RETRY_MS) return Effect.void
        triedAt = monotonicMs()
        // `health` says whether it works
        return Effect.ignore(write("store the time", () => tx.perform(storeClock(tx))))
      }),
      ...(isFile ? { filename: options.filename } : {}),
      overwrite: (isOn) => secureDelete.overwrite(isOn),
      wipe: (mayBlock, what) => secureDelete.wipe(mayBlock, what),
      cutLog: Effect.suspend(() => secureDelete.cutLog),
      backup: (filename) =>
        Effect.suspend(() =>
          listeners.lost === undefined
            ? Effect.tap(backUp(isFile ? options.filename : db, filename, now()), ({ bytes, madeAt }) =>
                // the backup is complete, whether or not this can be stored
                Effect.catch(
                  service.write(noteBackup({ at: madeAt === undefined ? now() : Date.parse(madeAt), bytes })),
                  (error) =>
                    Effect.logWarning(
                      `The backup is complete, but its time and size could not be stored: ${error.message}`
                    )
                )
              )
            : Effect.fail(listeners.lost)
        ),
      ...(ownership === undefined
        ? {}
        : {
            checkOwner: Effect.tapError(
              // the snapshot of this turn's reads may be older
              readApart("check which engine owns the database", () => {
                if (listeners.lost !== undefined) throw listeners.lost
                ownership.check()
              }),
              (error) => Effect.sync(() => void (error.code === "STORE_LOCKED" && lose(error)))
            )
          }),
      commits: () => ({ programs, durations: commitTimes.data() }),
      health: () => {
        if (listeners.lost !== undefined)
          return { status: "down", message: listeners.lost.message, cannotWrite: true }
        if (outage !== undefined)
          return { status: "degraded", message: outage.error.message, cannotWrite: true }
        if (!tx.damage.wasFound) return { status: "ok" }
        const { count } = tx.damage
        return {
          status: "degraded",
          message:
            "Something in the database is damaged" +
            (count === 0 ? "" : `, and ${count} ${count === 1 ? "thing is" : "things are"} skipped`) +
            ": the log of the engine says which rows. `ironflow serve --check` reads the whole file"
        }
      }
    })

    if (lastStop?.mayLack === true) yield* Effect.logWarning(lastStop.message)
    else if (lastStop !== undefined) yield* Effect.logDebug(lastStop.message)
    for (const news of tx.damage.news) yield* Effect.logError(news)
    const stored = tx.perform(readClock())
    const setBackBy = stored === undefined ? 0 : stored.at - now()
    if (setBackBy >= 1000) {
      yield* Effect.logWarning(clockJumpMessage(-setBackBy))
      yield* service.write(callbacks.clockWasSetBack(setBackBy))
    }
    for (const call of callbacks.takeOver) yield* service.write(call)
    return service
  })

/** {@link Store} on SQLite. */
export const layer = (options: SqliteOptions, callbacks: StoreCallbacks): Layer.Layer<Store, StoreError> => {
  checkKeys(options, sqliteKeys, "The SQLite store")
  return Layer.effect(Store, make(options, callbacks))
}

const sqliteKeys = { filename: true, fileMode: true, check: true } satisfies Keys<SqliteOptions>

/** The message is built only when something fails. */
const cannot = (what: string | (() => string), cause: unknown): StoreError =>
  storeError(`Cannot ${typeof what === "string" ? what : what()}`, cause)
