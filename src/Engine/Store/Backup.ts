/**
 * Makes backups: files with everything that a database had at one moment, whatever is written to the database meanwhile.
 *
 * For a database in a file, a separate connection holds a snapshot while a separate thread copies it in small steps, so writers do
 * not wait. Meanwhile, SQLite cannot reuse the write-ahead log, so the log grows. A database in memory is copied over its only
 * connection.
 */
import { existsSync, statSync } from "node:fs"
import * as Effect from "effect/Effect"
import { type StoreError, ValidationError } from "../../Errors.ts"
import { verifyChecksum, type Mark, BACKUP_META_KEY, markOf, placeholder, writeChecksum } from "./Checksum.ts"
import { DEFAULT_MODE, makeFile, refuseNonFile } from "./Files.ts"
import { copyDatabase, DatabaseSync } from "./NodeSqlite.ts"
import { partialName, putNew, refuseExisting, removeLeftovers, removePartial } from "./AtomicWrite.ts"
import { formatSize } from "../../Size.ts"
import { storeError } from "./SqliteErrors.ts"
import { checkAll, checkIsIronflow, versionOf } from "./SqliteFile.ts"

/** Facts about a backup. */
export interface BackupInfo {
  /** The backup file. */
  readonly filename: string
  /** Size of the file. */
  readonly bytes: number
  /** The moment at which the database had the copied state, as an ISO string; absent when the file was copied by other means. */
  readonly madeAt?: string
  /** The version of the tables. An engine that knows this version or a later one can use the backup. */
  readonly version: number
}

/** Called with a sentence, without its full stop, that says how far a backup or a restore has come. */
export type OnProgress = (progress: string) => void

const ignoreProgress: OnProgress = () => undefined

/** How many pages are copied in one step. Writes over the same connection wait for the end of the step. */
const STEP_PAGES = 256
/** The size of a page. */
const PAGE_BYTES = 4096

/** When the backup in this database was made, if it is a backup. */
export const madeAtOf = (db: DatabaseSync): string | undefined => markOf(db)?.madeAt

/** Turns a copy into an engine's database by removing the mark of a backup. */
export const removeMark = (db: DatabaseSync): void => {
  db.prepare("DELETE FROM meta WHERE name = ?").run(BACKUP_META_KEY)
}

/**
 * Copies `source` to a new file that only the user of the process may read. Fails with `ValidationError` when the new file exists
 * already or has no name, and when `source` does not exist or has no tables of Ironflow. Fails with `StoreError` when one of the
 * files cannot be used. A failure leaves no partial file.
 */
export const backUp = (
  source: string | DatabaseSync,
  filename: string,
  now: number
): Effect.Effect<BackupInfo, StoreError | ValidationError> => intoNewFile(filename, makeCopier(source, now))

/**
 * Does what {@link backUp} does, and then checks the whole copy, as a restore does. Fails with `StoreError` when anything in the
 * copy is damaged, and then removes the copy. The check blocks the process.
 */
export const backUpChecked = (
  source: string,
  filename: string,
  now: number,
  onProgress: OnProgress = ignoreProgress
): Effect.Effect<BackupInfo, StoreError | ValidationError> =>
  intoNewFile(filename, async (partial, signal) => {
    await makeCopier(source, now, onProgress)(partial, signal)
    checkCopy(partial, source, onProgress)
  })

const checkCopy = (partial: string, source: string, onProgress: OnProgress): void => {
  onProgress(`Reading the copy, ${formatSize(statSync(partial).size)}`)
  const db = openToRead(partial)
  try {
    checkAll(
      db,
      source,
      "No backup of a damaged database is made, because it could not be restored. Restore the last good backup. To keep what the " +
        "damaged file still has, copy the file while no process has it open"
    )
  } finally {
    db.close()
  }
}

const makeCopier =
  (source: string | DatabaseSync, now: number, onProgress: OnProgress = ignoreProgress) =>
  async (partial: string, signal: AbortSignal): Promise<void> => {
    if (typeof source === "string") {
      refuseNonFile(source)
      if (!existsSync(source)) {
        throw new ValidationError(`There is no database "${source}" to back up: check its name`)
      }
    }
    const reader = typeof source === "string" ? openToRead(source) : source
    try {
      // opens the snapshot to copy: without a snapshot, every commit in the meantime would restart the copy
      if (reader !== source) reader.exec("BEGIN; SELECT 1 FROM meta LIMIT 1")
      await copyDatabase(reader, partial, {
        rate: STEP_PAGES,
        progress: ({ remainingPages, totalPages }) => {
          signal.throwIfAborted()
          onProgress(
            `Copied ${formatSize((totalPages - remainingPages) * PAGE_BYTES)} of ${formatSize(totalPages * PAGE_BYTES)}`
          )
        }
      })
      const sha256 = placeholder()
      markCopy(partial, { madeAt: new Date(now).toISOString(), sha256 })
      await writeChecksum(partial, sha256)
    } finally {
      if (reader !== source) reader.close()
    }
  }

/**
 * Takes a backup from a remote `source`. `fill` writes the backup to the file `partial`, which exists. Fails as {@link
 * backUpChecked} does. Errors of `fill` for which `isPassedOn` returns `true` are passed on as they are.
 */
export const takeBackup = <E>(
  filename: string,
  source: string,
  fill: (partial: string, signal: AbortSignal) => Promise<void>,
  isPassedOn: (error: unknown) => error is E,
  onProgress: OnProgress = ignoreProgress
): Effect.Effect<BackupInfo, StoreError | ValidationError | E> =>
  intoNewFile(
    filename,
    async (partial, signal) => {
      await fill(partial, signal)
      await verifyChecksum(partial, filename)
      checkCopy(partial, source, onProgress)
    },
    isPassedOn
  )

const passesNone = (_error: unknown): _error is never => false

const intoNewFile = <E = never>(
  filename: string,
  fill: (partial: string, signal: AbortSignal) => Promise<void>,
  isPassedOn: (error: unknown) => error is E = passesNone
): Effect.Effect<BackupInfo, StoreError | ValidationError | E> =>
  Effect.callback((resume) => {
    const abort = new AbortController()
    const result = writeNew(filename, fill, abort.signal).then(Effect.succeed, (cause: unknown) =>
      Effect.fail(
        cause instanceof ValidationError || isPassedOn(cause)
          ? cause
          : storeError(`Cannot write the backup "${filename}"`, cause)
      )
    )
    void result.then(resume)
    // an interrupted fiber ends only when the partial file is removed
    return Effect.promise(async () => {
      abort.abort()
      await result
    })
  })

const writeNew = async (
  filename: string,
  fill: (partial: string, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal
): Promise<BackupInfo> => {
  if (filename.trim() === "")
    throw new ValidationError("The name of a backup's file must not be empty or blank")
  refuseNonFile(filename)
  refuseExisting(filename)
  removeLeftovers(filename)
  const partial = partialName(filename)
  removePartial(partial)
  try {
    makeFile(partial, DEFAULT_MODE)
    await fill(partial, signal)
    signal.throwIfAborted()
    const info = infoOf(partial, filename)
    await putNew(partial, filename)
    return info
  } finally {
    removePartial(partial)
  }
}

const infoOf = (partial: string, filename: string): BackupInfo => {
  const db = openToRead(partial)
  try {
    const madeAt = madeAtOf(db)
    return {
      filename,
      bytes: statSync(partial).size,
      version: versionOf(db),
      ...(madeAt === undefined ? {} : { madeAt })
    }
  } finally {
    db.close()
  }
}

/**
 * Opens an Ironflow database for reading only. An engine may be using it. Throws `ValidationError` or `StoreError` for a file that
 * is no such database.
 */
const openToRead = (filename: string): DatabaseSync => {
  const db = new DatabaseSync(filename, { readOnly: true, timeout: 5000 })
  try {
    checkIsIronflow(db, filename)
    if (versionOf(db) === 0) throw new ValidationError(`There is no database of Ironflow in "${filename}"`)
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/**
 * Makes a copy of a database a backup: gives the copy the mark of a backup, and removes the mark of the engine that owns the
 * original. Also moves the content of the copy's write-ahead log into the copy, and removes that log.
 */
const markCopy = (partial: string, mark: Mark): void => {
  const db = new DatabaseSync(partial)
  try {
    db.exec("PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL; DELETE FROM meta WHERE name = 'owner'")
    db.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)").run(
      BACKUP_META_KEY,
      JSON.stringify(mark)
    )
  } finally {
    db.close()
  }
}
