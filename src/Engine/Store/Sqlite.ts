/**
 * The store on SQLite, through Node's built-in module: nothing to install, one file, one process at a time.
 *
 * Writes go through one group commit, and are acknowledged when the disk has them: they survive a power loss. Reads run on the same
 * connection between commits. They see all acknowledged writes. They may also see writes that the disk does not have yet. In this
 * case, the reader gets its result only when the disk has these writes.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import { StoreError } from "../../Errors.ts"
import { makeIdGenerator } from "../../Ids.ts"
import { checkKeys, type Keys } from "../../OptionKeys.ts"
import { backUp } from "./Backup.ts"
import { noteBackup } from "./LastBackup.ts"
import { clockJumpMessage } from "./ClockJumps.ts"
import { readClock, storeClock } from "./ClockRows.ts"
import { ClockWatch } from "./ClockWatch.ts"
import { checkNewestRows } from "./DamageIsolation.ts"
import { FileOwnership } from "./FileOwnership.ts"
import { Listeners } from "./Listeners.ts"
import type { DatabaseSync } from "./NodeSqlite.ts"
import { ReadSnapshot } from "./ReadSnapshot.ts"
import { SecureDelete } from "./SecureDelete.ts"
import { storeError } from "./SqliteErrors.ts"
import { newestIdOf, migrate, open, type SqliteOptions } from "./SqliteFile.ts"
import { SqliteOutage } from "./SqliteOutage.ts"
import { SqliteReads } from "./SqliteReads.ts"
import { SqliteWrites } from "./SqliteWrites.ts"
import { healthOf, Store, type StoreService } from "./Store.ts"
import type { StoreCallbacks } from "./StoreCallbacks.ts"
import { Transaction } from "./Transaction.ts"
import { type WalSync, walSyncOf } from "./WalSync.ts"

/**
 * Opens a database. Fails with `StoreError`: `STORE_LOCKED` when another engine has the file open, `STORE_CORRUPT` when the file is
 * damaged or not an Ironflow database, `STORE_UNAVAILABLE` when it was written by a newer version, or cannot be opened or written.
 */
export const make = (
  options: SqliteOptions,
  callbacks: StoreCallbacks
): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const random = yield* Random.Random
    const now = () => clock.currentTimeMillisUnsafe()
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const { db, isFile, lastStop, release, warnings } = yield* Effect.try({
      try: () => open(options, now()),
      catch: (cause) => storeError(`Cannot open database "${options.filename}"`, cause)
    })
    yield* Effect.addFinalizer(() => Effect.sync(release))
    for (const warning of warnings) yield* Effect.logWarning(warning)

    const file = isFile ? options.filename : undefined
    const listeners = new Listeners(
      (what, error) => void runFork(Effect.logError(`Could not ${what}`, error))
    )
    const parts = yield* Effect.try({
      try: () =>
        openParts({
          db,
          filename: options.filename,
          file,
          callbacks,
          listeners,
          now,
          monotonicMs: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
          random: () => random.nextDoubleUnsafe(),
          log: runFork
        }),
      catch: (cause) => storeError(`Cannot use database "${options.filename}"`, cause)
    })
    const { clockWatch, outage, ownership, reads, snapshot, sync, tx, writes } = parts
    yield* Effect.addFinalizer(() => Effect.sync(() => sync?.close()))
    yield* Effect.addFinalizer(() => Effect.suspend(() => close(parts, options.filename, listeners)))

    const secureDelete = new SecureDelete(db, file, snapshot)
    const service = Store.of({
      write: (call) => writes.write(call),
      read: (call) => reads.read(call),
      readApart: (call) => reads.readApart(call),
      onCommit: listeners.onCommit,
      onReady: listeners.onReady,
      onLost: listeners.onLost,
      tryAgain: writes.tryAgain,
      ...(file === undefined ? {} : { filename: file }),
      overwrite: (isOn) => secureDelete.overwrite(isOn),
      wipe: (mayBlock, what) => secureDelete.wipe(mayBlock, what),
      cutLog: Effect.suspend(() => secureDelete.cutLog),
      backup: (filename) =>
        Effect.suspend(() =>
          listeners.lost === undefined
            ? Effect.tap(backUp(file ?? db, filename, now()), ({ bytes, madeAt }) =>
                // only a warning when the facts about the backup cannot be stored: the backup itself is complete
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
              reads.runApart("check which engine owns the database", () => {
                if (listeners.lost !== undefined) throw listeners.lost
                ownership.check()
              }),
              (error) =>
                Effect.sync(() => {
                  if (error.code === "STORE_LOCKED") writes.lose(error)
                })
            )
          }),
      commitFigures: () => writes.commitFigures(),
      health: () =>
        healthOf({
          lost: listeners.lost?.message,
          outage: outage.error?.message,
          damage: tx.damage.wasFound ? damageMessage(tx.damage.skippedCount) : undefined
        })
    })

    if (lastStop?.mayLackWrites === true) yield* Effect.logWarning(lastStop.message)
    else if (lastStop !== undefined) yield* Effect.logDebug(lastStop.message)
    for (const message of tx.damage.messages) yield* Effect.logError(message)
    const { behindMs } = clockWatch
    if (behindMs >= 1000) {
      yield* Effect.logWarning(clockJumpMessage(-behindMs))
      yield* service.write(callbacks.clockWasSetBack(behindMs))
    }
    for (const call of callbacks.takeOver) yield* service.write(call)
    return service
  })

interface Parts {
  readonly tx: Transaction
  readonly clockWatch: ClockWatch
  readonly outage: SqliteOutage
  /** Absent for a database in memory. */
  readonly ownership: FileOwnership | undefined
  readonly reads: SqliteReads
  readonly snapshot: ReadSnapshot
  /** Absent where `COMMIT` makes commits durable. */
  readonly sync: WalSync | undefined
  readonly writes: SqliteWrites
}

/** Migrates the tables, and makes the parts of the store. Throws what SQLite throws. */
const openParts = ({
  callbacks,
  db,
  file,
  filename,
  listeners,
  log,
  monotonicMs,
  now,
  random
}: {
  readonly db: DatabaseSync
  readonly filename: string
  /** `filename`, unless the database is in memory. */
  readonly file: string | undefined
  readonly callbacks: StoreCallbacks
  readonly listeners: Listeners
  readonly now: () => number
  readonly monotonicMs: () => number
  readonly random: () => number
  readonly log: (entry: Effect.Effect<void>) => void
}): Parts => {
  migrate(db)
  const tx = new Transaction({
    db,
    now,
    random,
    // new ids sort after the ids in the log, even if the clock was set back
    ids: makeIdGenerator(now, (below) => Math.floor(random() * below), newestIdOf(db))
  })
  listeners.interest = tx.interest
  const clockWatch = new ClockWatch({
    tx,
    callbacks,
    monotonicMs,
    lastStored: tx.perform(readClock()),
    warn: (message) => log(Effect.logWarning(message))
  })
  const nonce = () => [0, 1, 2, 3].map(() => Math.floor(random() * 2 ** 32)).join("-")
  const ownership =
    file === undefined ? undefined : new FileOwnership(db, { filename: file, nonce: nonce(), monotonicMs })
  const sync = file === undefined ? undefined : walSyncOf(db, file)
  const snapshot = new ReadSnapshot(db)
  const outage = new SqliteOutage({ db, filename: file, monotonicMs })
  const writes = new SqliteWrites({
    db,
    filename,
    tx,
    callbacks,
    listeners,
    snapshot,
    outage,
    clockWatch,
    ownership,
    sync,
    log
  })
  const reads = new SqliteReads({ tx, snapshot, writer: writes.writer, listeners })
  tx.perform(callbacks.loadFunctions(tx))
  if (file !== undefined) checkNewestRows(tx)
  return { tx, clockWatch, outage, ownership, reads, snapshot, sync, writes }
}

/** Commits the queued programs, stores the time, and removes the mark whose presence would show that the stop was not clean. */
const close = (
  { ownership, snapshot, tx, writes }: Parts,
  filename: string,
  listeners: Listeners
): Effect.Effect<void> => {
  writes.writer.close(new StoreError(`Database "${filename}" is closed`, { code: "STORE_UNAVAILABLE" }))
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
      // only a warning: all acknowledged writes are durable, and the next start only reports that this stop was not clean
      Effect.logWarning(`Database "${filename}" could not be marked as closed: ${error.message}`)
  )
}

/** `skipped` is the number of damaged rows that are left alone. */
const damageMessage = (skipped: number): string =>
  "Something in the database is damaged" +
  (skipped === 0 ? "" : `, and ${skipped} ${skipped === 1 ? "thing is" : "things are"} skipped`) +
  ": the log of the engine says which rows. `ironflow serve --check` reads the whole file"

/** {@link Store} on SQLite. */
export const layer = (options: SqliteOptions, callbacks: StoreCallbacks): Layer.Layer<Store, StoreError> => {
  checkKeys(options, sqliteKeys, "The SQLite store")
  return Layer.effect(Store, make(options, callbacks))
}

const sqliteKeys = { filename: true, fileMode: true, check: true } satisfies Keys<SqliteOptions>
