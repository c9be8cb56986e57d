/** Restores a backup: makes it the database file of an engine, which then goes on from the state in the backup. */
import { existsSync, realpathSync, statSync } from "node:fs"
import { chmod, copyFile } from "node:fs/promises"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { StoreError, ValidationError } from "../../Errors.ts"
import { checkKeys, type Keys } from "../../OptionKeys.ts"
import { type BackupInfo, madeAtOf, removeMark, type OnProgress } from "./Backup.ts"
import { checkFiles, DEFAULT_MODE, refuseNonFile } from "./Files.ts"
import { acquireLock } from "./Lock.ts"
import { verifyChecksum } from "./Checksum.ts"
import { DatabaseSync } from "./NodeSqlite.ts"
import { checkLastOwner, isOwned } from "./FileOwnership.ts"
import { partialName, putInPlace, putNew, removeLeftovers, removeLogs, removePartial } from "./AtomicWrite.ts"
import { formatSize } from "../../Size.ts"
import { isDamage, storeError } from "./SqliteErrors.ts"
import { checkAll, checkIsIronflow, isForeign, versionOf } from "./SqliteFile.ts"

/** Options of `restoreBackup`. */
export interface RestoreOptions {
  /** The backup file, which is not changed. */
  readonly backup: string
  /** The database file to create. */
  readonly filename: string
  /** Whether the backup may replace an existing database; `false` by default. */
  readonly replace?: boolean
}

const restoreKeys = { backup: true, filename: true, replace: true } satisfies Keys<RestoreOptions>

/**
 * Turns a backup into the database at `filename`, completely or not at all, after checking the whole backup. An engine that is
 * started on this database goes on with the unfinished runs. Fails with `ValidationError` for a file that is not a backup, and for
 * an existing database that may not be replaced. Fails with `StoreError`: `STORE_LOCKED` when an engine has the existing database
 * open, `STORE_CORRUPT` when the backup is damaged, `STORE_UNAVAILABLE` when the backup is of a newer version or cannot be read, or
 * when the database cannot be written.
 */
export const restore = (options: RestoreOptions): Effect.Effect<BackupInfo, StoreError | ValidationError> =>
  restoreWithProgress(options, () => undefined)

/** {@link restore}, which also calls `onProgress` when it begins to copy the backup, and when it begins to check the copy. */
export const restoreWithProgress = (
  options: RestoreOptions,
  onProgress: OnProgress
): Effect.Effect<BackupInfo, StoreError | ValidationError> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    // not interruptible: a partial result would be neither the old database nor the new one
    Effect.uninterruptible(
      Effect.tryPromise({
        try: () => restoreFile(options, now, onProgress),
        catch: (cause) =>
          cause instanceof ValidationError
            ? cause
            : storeError(`Cannot restore "${options.backup}" to "${options.filename}"`, cause)
      })
    )
  )

const restoreFile = async (
  options: RestoreOptions,
  now: number,
  onProgress: OnProgress
): Promise<BackupInfo> => {
  checkKeys(options, restoreKeys, "A restore")
  const { backup, filename, replace = false } = options
  refuseNonBackup(backup)
  if (filename.trim() === "")
    throw new ValidationError("The filename of the database must not be empty or blank")
  refuseNonFile(filename)
  checkFiles(filename, DEFAULT_MODE)
  // if the name is a link, replaces the file to which it leads, and not the link itself
  const target = existsSync(filename) ? realpathSync(filename) : filename
  const exists = existsSync(target)
  if (exists && realpathSync(backup) === target) {
    throw new ValidationError(
      `"${backup}" is both the backup and the database to restore it to: name two different files`
    )
  }
  // tries the lock only if the file of the lock exists: a restore that is refused must not create this file
  if (existsSync(`${target}.lock`)) acquireLock(target, DEFAULT_MODE, now).release()
  if (exists) {
    // the database may be open under another name
    checkInUse(target)
    if (!replace) {
      throw new ValidationError(
        `"${filename}" exists: add --replace (\`replace: true\`) to replace it, or restore to another file`
      )
    }
  }
  removeLeftovers(target)
  const partial = partialName(target)
  try {
    const size = formatSize(statSync(backup).size)
    onProgress(`Copying ${size}`)
    await copyFile(backup, partial)
    await chmod(partial, exists ? statSync(target).mode & 0o777 : DEFAULT_MODE)
    onProgress(`Reading the copy, ${size}`)
    const info = await makeDatabase(partial, backup, filename)
    const lock = acquireLock(target, DEFAULT_MODE, now)
    try {
      if (!exists) await putNew(partial, target)
      else {
        // an engine may have opened the database in the meantime
        checkInUse(target)
        closeLog(target)
        await putInPlace(partial, target)
      }
    } finally {
      lock.release()
    }
    return info
  } finally {
    removePartial(partial)
  }
}

const refuseNonBackup = (backup: string): void => {
  const stat = statSync(backup, { throwIfNoEntry: false })
  if (stat === undefined) throw new ValidationError(`There is no file "${backup}"`)
  if (!stat.isFile() || stat.size === 0) {
    throw new ValidationError(
      `"${backup}" is not a backup: it is ${stat.isDirectory() ? "a folder" : stat.isFile() ? "empty" : "not a file"}`
    )
  }
  if ((statSync(`${backup}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0) {
    throw new ValidationError(
      `"${backup}" is not a backup: there is a write-ahead log beside it, so it is a database in use, or one that was not closed. ` +
        "`ironflow backup` makes a backup of it"
    )
  }
}

const checkInUse = (target: string): void => {
  try {
    checkLastOwner(target)
  } catch (error) {
    // other errors say that the old database cannot be opened, which does not matter, because it is replaced
    if (error instanceof StoreError && error.code === "STORE_LOCKED") throw error
  }
}

const OTHER_BACKUP_ADVICE = "Nothing was changed: restore another backup"

/** Checks the copy of a backup, and turns it into a database that no engine has open. */
const makeDatabase = async (partial: string, backup: string, filename: string): Promise<BackupInfo> => {
  const nonBackupError = (why: string) =>
    new ValidationError(`"${backup}" is not a backup of Ironflow: ${why}`)
  let db: DatabaseSync | undefined
  try {
    db = new DatabaseSync(partial)
    if (isForeign(db)) throw nonBackupError("it is a SQLite database of another program")
    checkIsIronflow(db, backup)
    const version = versionOf(db)
    if (version === 0) throw nonBackupError("it is empty")
    if (isOwned(db)) {
      throw nonBackupError(
        "it is a copy of a database that was in use, and may lack what was committed last. `ironflow backup` makes complete backups"
      )
    }
    checkAll(db, backup, OTHER_BACKUP_ADVICE)
    // must run before the copy is changed
    await verifyChecksum(partial, backup)
    const madeAt = madeAtOf(db)
    removeMark(db)
    db.exec("PRAGMA journal_mode=DELETE")
    return { filename, bytes: statSync(partial).size, version, ...(madeAt === undefined ? {} : { madeAt }) }
  } catch (error) {
    // SQLITE_NOTADB
    if (error instanceof Error && "errcode" in error && error.errcode === 26)
      throw nonBackupError("it is not a SQLite database")
    if (isDamage(error) && !(error instanceof StoreError)) {
      throw new StoreError(
        `"${backup}" is damaged: ${error instanceof Error ? error.message : String(error)}. ${OTHER_BACKUP_ADVICE}`,
        { code: "STORE_CORRUPT", cause: error }
      )
    }
    throw error
  } finally {
    db?.close()
  }
}

/**
 * Moves the content of the old database's write-ahead log into the old file, and removes the log. Otherwise SQLite would apply the
 * old log to the new database, and damage it.
 */
const closeLog = (target: string): void => {
  try {
    const oldDatabase = new DatabaseSync(target)
    try {
      oldDatabase.exec("PRAGMA journal_mode=DELETE")
    } finally {
      oldDatabase.close()
    }
  } catch {
    // the old database is damaged, so the content of its log cannot be moved: this damage may be the reason for the restore
  }
  removeLogs(target)
}
