/**
 * The checks of a database that `ironflow doctor` opens itself. They only read, so engines may have the database open at the same
 * time.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type StoreError, ValidationError } from "../../Errors.ts"
import { makeIdGenerator } from "../../Ids.ts"
import type { DoctorCheck } from "../../Protocol/Server.ts"
import { loadRegistrations } from "../Functions/FunctionRows.ts"
import type { DatabaseSync } from "../Store/NodeSqlite.ts"
import type { PostgresOptions } from "../Store/Postgres/Options.ts"
import { type Call, Refused } from "../Store/Program.ts"
import { storeError } from "../Store/SqliteErrors.ts"
import { Transaction } from "../Store/Transaction.ts"
import { type Condition, readCondition } from "./Condition.ts"
import { explainRuns, type Readable } from "./Doctor.ts"
import {
  checkBackup,
  checkDisk,
  checkHolder,
  checkIntegrity,
  checkLeftovers,
  checkPermissions,
  checkTables,
  messageOf,
  openForReading
} from "./FileChecks.ts"
import {
  checkClockSkew,
  checkBackups,
  checkDeadLetters,
  checkApiKeys,
  checkNodeVersion,
  checkOperations,
  checkRuns,
  checkSecrets,
  checkStoredTime,
  fail
} from "./Checks.ts"
import { checkPostgres } from "./PostgresChecks.ts"

export interface FileOptions {
  readonly filename: string
  /** Whether to read every page and every row. */
  readonly all: boolean
  /** Whether this process has a master key. */
  readonly hasMasterKey: boolean
}

/**
 * Runs the checks of a database file. Fails with `StoreError` when the file does not exist. Fails with `ValidationError` when
 * `filename` names something else, such as a folder.
 */
export const examineFile = ({
  all,
  filename,
  hasMasterKey
}: FileOptions): Effect.Effect<ReadonlyArray<DoctorCheck>, StoreError | ValidationError> =>
  Effect.acquireUseRelease(
    Effect.try({
      try: () => openForReading(filename),
      catch: (cause) =>
        cause instanceof ValidationError ? cause : storeError(`Cannot open "${filename}"`, cause)
    }),
    (db) =>
      Effect.gen(function* () {
        const fileChecks = yield* Effect.try({
          try: () => {
            return [
              checkNodeVersion(),
              checkPermissions(filename),
              checkHolder(filename),
              checkDisk(filename),
              checkLeftovers(filename),
              tablesOf(db, filename)
            ]
          },
          catch: (cause) => storeError(`Cannot check "${filename}"`, cause)
        })
        const tables = fileChecks.at(-1)
        if (tables?.status === "fail") return fileChecks
        const checksum = all ? yield* Effect.promise(() => checkBackup(db, filename)) : undefined
        const integrity = [checkIntegrity(db, filename, all), ...(checksum === undefined ? [] : [checksum])]
        if (tables?.status !== "ok") return [...fileChecks, ...integrity]
        const tableChecks = yield* Effect.match(
          Effect.flatMap(readableOf(db, yield* Clock.Clock), (readable) => examine(readable, hasMasterKey)),
          {
            onSuccess: (checks) => checks,
            onFailure: (error) => [
              fail("runs", `The tables cannot be read: ${messageOf(error)}.`, "Restore a backup.")
            ]
          }
        )
        return [...fileChecks, ...integrity, ...tableChecks]
      }),
    (db) => Effect.sync(() => db.close())
  )

const tablesOf = (db: DatabaseSync, filename: string): DoctorCheck => {
  try {
    return checkTables(db, filename)
  } catch (error) {
    return fail("tables", `"${filename}" cannot be read: ${messageOf(error)}.`, "Restore a backup.")
  }
}

/** Runs programs on a read-only connection. */
const readableOf = (db: DatabaseSync, clock: Clock.Clock): Effect.Effect<Readable, StoreError> =>
  Effect.try({
    try: () => makeReadable(db, clock),
    catch: (cause) => storeError("Cannot read the registered functions", cause)
  })

const makeReadable = (db: DatabaseSync, clock: Clock.Clock): Readable => {
  const now = () => clock.currentTimeMillisUnsafe()
  const tx = new Transaction({ db, now, random: () => 0, ids: makeIdGenerator(now, () => 0) })
  tx.perform(loadRegistrations(tx))
  return {
    readApart: <A, E>(call: Call<A, E>) =>
      Effect.try({
        try: () => tx.perform(call.run(tx)),
        // safe cast: the type of a program names every error with which it refuses
        catch: (cause) =>
          cause instanceof Refused ? (cause.error as E) : storeError(`Cannot ${call.what()}`, cause)
      })
  }
}

/** Runs the checks that read the tables. `clockOf` makes the check of the clock. */
const examine = (
  readable: Readable,
  hasMasterKey: boolean,
  clockOf: (condition: Condition, now: number) => DoctorCheck = ({ storedAt }, now) =>
    checkStoredTime(now, storedAt),
  isFile = true,
  hasEngine = false
): Effect.Effect<ReadonlyArray<DoctorCheck>, StoreError> =>
  Effect.gen(function* () {
    const condition = yield* readable.readApart(readCondition())
    const explained = yield* explainRuns(readable, condition.runsToExplain, () => [])
    const now = yield* Clock.currentTimeMillis
    return [
      clockOf(condition, now),
      checkApiKeys(condition.apiKeys),
      checkSecrets(condition, hasMasterKey, "shell"),
      checkRuns(condition, explained, { hasEngine: false }),
      checkDeadLetters(condition),
      checkOperations(condition, condition.databaseNow ?? now, hasEngine),
      ...(isFile ? [checkBackups(condition, now)] : [])
    ]
  })

/**
 * Runs the checks of a database on Postgres. Fails with `StoreError` when Postgres cannot be reached, and with `ValidationError`
 * for invalid options.
 */
export const examinePostgres = (
  options: PostgresOptions,
  hasMasterKey: boolean
): Effect.Effect<ReadonlyArray<DoctorCheck>, StoreError | ValidationError> =>
  Effect.gen(function* () {
    const { inspect } = yield* Effect.promise(() => import("../Store/Postgres/Inspection.ts"))
    const clock = yield* Clock.Clock
    return yield* Effect.acquireUseRelease(
      inspect(options, () => clock.currentTimeMillisUnsafe(), loadRegistrations),
      (inspection) =>
        Effect.gen(function* () {
          const serverChecks = checkPostgres(inspection.facts)
          const { readApart } = inspection
          if (readApart === undefined) return [checkNodeVersion(), ...serverChecks]
          const tableChecks = yield* examine(
            { readApart },
            hasMasterKey,
            ({ databaseNow, storedAt }, now) =>
              databaseNow === undefined
                ? checkStoredTime(now, storedAt)
                : checkClockSkew(now, databaseNow, "Postgres"),
            false,
            inspection.facts.engines.length > 0
          )
          return [checkNodeVersion(), ...serverChecks, ...tableChecks]
        }),
      ({ close }) => close
    )
  })
