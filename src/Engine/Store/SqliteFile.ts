/** Opens the file of a SQLite database for one process at a time, checks it, and migrates its tables. */
import { StoreError } from "../../Errors.ts"
import { checkFiles, DEFAULT_MODE, makeFile, refuseNonFile, targetOf } from "./Files.ts"
import { acquireLock } from "./Lock.ts"
import { migrations } from "./Migrations.ts"
import { DatabaseSync } from "./NodeSqlite.ts"
import { checkLastOwner, type LastStop } from "./FileOwnership.ts"
import { findDamage } from "./DamageSearch.ts"
import { isDamage } from "./SqliteErrors.ts"

/** Which file to open, and how. */
export interface SqliteOptions {
  /**
   * Path of the database file, which is created when it does not exist. `":memory:"` is a database in memory, which ends with the
   * process.
   */
  readonly filename: string
  /** The mode of new database files; 0600 by default. Existing files keep their mode. */
  readonly fileMode?: number
  /**
   * Whether to read the whole file before it is used, and to fail with `STORE_CORRUPT` when something in it is damaged; `false` by
   * default.
   */
  readonly check?: boolean
}

/** A database that {@link open} has opened. */
export interface Opened {
  readonly db: DatabaseSync
  /** `false` for a database in memory. */
  readonly isFile: boolean
  /** What is to be reported about the last stop, if anything. */
  readonly lastStop: LastStop | undefined
  /** Warnings about the modes of the files. */
  readonly warnings: ReadonlyArray<string>
  /** Closes the database, and releases its lock. */
  readonly release: () => void
}

/**
 * Opens the file. Throws when another engine uses the file, and when the file is neither new nor an Ironflow database that this
 * version can use. `now` is when this engine starts: the lock shows this time to other engines.
 */
export const open = (
  { check = false, fileMode = DEFAULT_MODE, filename }: SqliteOptions,
  now: number
): Opened => {
  // SQLite takes an empty name for a temporary database
  if (filename.trim() === "") {
    throw new StoreError("The filename of the database must not be empty or blank", {
      code: "STORE_UNAVAILABLE"
    })
  }
  const isFile = filename !== ":memory:"
  if (isFile) {
    refuseNonFile(filename, (message) => new StoreError(message, { code: "STORE_UNAVAILABLE" }))
  }
  const warnings = isFile ? checkFiles(filename, fileMode) : []
  const lock = isFile ? acquireLock(filename, fileMode, now) : undefined
  let db: DatabaseSync | undefined
  try {
    const lastStop = lock === undefined ? undefined : checkLastOwner(filename)
    if (isFile) makeFile(targetOf(filename), fileMode)
    db = new DatabaseSync(filename, { timeout: 5000 })
    // checked before anything is changed: the file may belong to another program
    checkIsIronflow(db, filename)
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

/** The `application_id` that marks a database as one of Ironflow: "Iron" in ASCII. */
const APPLICATION_ID = 0x49726f6e

const pragma = (db: DatabaseSync, name: string): number =>
  Number(Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0])

/** How many migrations have run on the tables; 0 where there are no tables. */
export const versionOf = (db: DatabaseSync): number => pragma(db, "user_version")

/** Whether a database belongs to another program. */
export const isForeign = (db: DatabaseSync): boolean =>
  pragma(db, "application_id") !== APPLICATION_ID &&
  db.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() !== undefined

/** Throws a `StoreError` for a database of another program, and for tables that a newer version has migrated. */
export const checkIsIronflow = (db: DatabaseSync, filename: string): void => {
  if (isForeign(db)) {
    throw new StoreError(
      `"${filename}" is a SQLite database of another program: give the engine a file of its own`,
      { code: "STORE_CORRUPT" }
    )
  }
  const done = versionOf(db)
  if (done > migrations.length) {
    throw new StoreError(
      `Database "${filename}" was written by a newer version (its tables are at version ${done}, and this package knows version ${migrations.length}): upgrade @ironflow/node`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
}

/** Maximum number of problems that the message names. */
const MAX_PROBLEMS = 10

const RESTORE_IT =
  "Restore it from a backup. Without `--check` (`check: true`), the engine may still start, and then skips damaged rows"

/** Reads the whole file. Throws a `StoreError` that says what is damaged, and what to do. */
export const checkAll = (db: DatabaseSync, filename: string, whatToDo = RESTORE_IT): void => {
  const problems: Array<string> = []
  try {
    for (const row of db.prepare(`PRAGMA integrity_check(${MAX_PROBLEMS})`).iterate()) {
      problems.push(...String(row.integrity_check).split("\n"))
    }
    if (problems.length === 1 && problems[0] === "ok") problems.splice(0, 1, ...findDamage(db, MAX_PROBLEMS))
  } catch (error) {
    // the file may be too damaged to be checked to the end
    if (!isDamage(error)) throw error
    problems.push(`it cannot be read to the end: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (problems.length === 0) return
  throw new StoreError(
    `Database "${filename}" is damaged: ${problems
      .filter((line) => line !== "")
      .slice(0, MAX_PROBLEMS)
      .join("; ")}${whatToDo === "" ? "" : `. ${whatToDo}`}`,
    { code: "STORE_CORRUPT" }
  )
}

/** Migrates the tables to this version. */
export const migrate = (db: DatabaseSync): void => {
  const done = versionOf(db)
  db.exec("BEGIN IMMEDIATE")
  try {
    for (const migration of migrations.slice(done)) db.exec(migration)
    db.exec(`PRAGMA user_version = ${migrations.length}; PRAGMA application_id = ${APPLICATION_ID}; COMMIT`)
  } catch (error) {
    db.exec("ROLLBACK")
    throw error
  }
}

/** The newest id of an event or of a job that a worker holds. New ids must sort after it. */
export const newestIdOf = (db: DatabaseSync): string | undefined => {
  try {
    const eventId = db.prepare("SELECT id FROM events ORDER BY position DESC LIMIT 1").get()?.id
    const jobId = db
      .prepare("SELECT max(ltrim(lease, '~')) AS id FROM runs WHERE lease IS NOT NULL")
      .get()?.id
    const [newestId] = [eventId, jobId]
      .flatMap((id) => (id == null ? [] : [String(id)]))
      .toSorted((a, b) => (a.replace(/^.*_/, "") > b.replace(/^.*_/, "") ? -1 : 1))
    return newestId
  } catch (error) {
    if (!isDamage(error)) throw error
    // the newest rows are damaged, which `checkNewestRows` reports: new ids then sort by the clock alone
    return undefined
  }
}
