/**
 * Who owns a database file. The lock beside the file keeps other engines out, as long as all engines use the same name of the file
 * and nobody deletes the lock. Since this may not be so, the owner also leaves a mark in the database itself. Every transaction
 * reads the mark, and an engine that finds a mark other than its own stops writing. A clean stop removes the mark. So a mark at the
 * next start shows that the last stop was not clean.
 *
 * "Log" in this file is the write-ahead log, the file `-wal` beside the database.
 */
import { existsSync, realpathSync, statSync } from "node:fs"
import type { StatementSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { StoreError } from "../../Errors.ts"
import { safeJsonParse } from "../../Json.ts"
import { BACKUP_META_KEY as BACKUP } from "./Checksum.ts"
import { lockHolderOf } from "./Lock.ts"
import { DatabaseSync } from "./NodeSqlite.ts"

const OWNER_META_KEY = "owner"

/** The mark that an engine leaves in the database as long as it has the database open. */
interface Mark {
  readonly nonce: string
  /** The path at which the owner opened the file. The write-ahead log is named after this path. */
  readonly path: string
  /** Device and inode of the file. A copy of the file has another inode. */
  readonly inode: string
}

/** What to report about a last stop that was not clean. */
export interface LastStop {
  readonly message: string
  /** Whether acknowledged writes may be missing. */
  readonly mayLackWrites: boolean
}

const inodeOf = (path: string): string | undefined => {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
}

const hasLog = (path: string): boolean => (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0

/**
 * Reads the mark in the file, without the log and without locks. It ignores the log, because the file may be open under another
 * name: then its log is beside the other name, and a log beside this name would be wrong. It takes no locks, because this process
 * may have the file open, and a process must not lock the same file twice.
 */
const readMark = (path: string): Mark | undefined => {
  if (inodeOf(path) === undefined) return undefined
  let db: DatabaseSync | undefined
  try {
    const url = pathToFileURL(path)
    url.searchParams.set("immutable", "1")
    db = new DatabaseSync(url, { readOnly: true })
    const value = db.prepare("SELECT value FROM meta WHERE name = ?").get(OWNER_META_KEY)?.value
    // safe cast: only `FileOwnership` writes this row of `meta`
    return value === undefined ? undefined : safeJsonParse<Mark>(String(value))
  } catch {
    // a file that is new, of another program or damaged has no mark; opening it reports what is wrong
    return undefined
  } finally {
    db?.close()
  }
}

/**
 * Checks the file before it is opened, because opening it would create a log. Throws a `StoreError` when an engine has the file
 * open under another name, or has left its log under another name. Returns what is to be reported about the last stop; `undefined`
 * when it was clean.
 */
export const checkLastOwner = (filename: string): LastStop | undefined => {
  const path = existsSync(filename) ? realpathSync(filename) : filename
  const file = { path, inode: inodeOf(path), hasLog: hasLog(path) }
  const mark = readMark(path)
  if (mark === undefined) return undefined
  if (mark.inode !== file.inode) {
    if (file.hasLog) return undefined
    return {
      mayLackWrites: true,
      message:
        `Database "${filename}" was copied, or moved to another disk, after an engine had opened it as "${mark.path}" and before that ` +
        `engine closed it. If its write-ahead log "${mark.path}-wal" was not copied or moved with it, what was in the log is missing: stop ` +
        "the engine of the original, and copy the original again, together with its log. If SQLite's `.backup` made the copy, nothing is missing, " +
        "and nothing needs to be done"
    }
  }
  if (mark.path === file.path) {
    return file.hasLog
      ? {
          mayLackWrites: false,
          message: `Database "${filename}" was not closed the last time. Its write-ahead log is there, so nothing is missing`
        }
      : {
          mayLackWrites: true,
          message:
            `Database "${filename}" was not closed the last time, and its write-ahead log "${file.path}-wal" is gone: what was committed last ` +
            "may be missing. Always move or restore the file together with this log"
        }
  }
  const holder = lockHolderOf(mark.path)
  if (holder !== undefined) {
    throw new StoreError(
      `Database "${filename}" is in use by another engine${holder} under another name, "${mark.path}": one engine at a time may ` +
        "open a SQLite file. Stop that engine, or name another file",
      { code: "STORE_LOCKED" }
    )
  }
  if (!file.hasLog && hasLog(mark.path)) {
    throw new StoreError(
      `Database "${filename}" was last open as "${mark.path}" and was not closed: what was committed last is in the write-ahead log ` +
        `"${mark.path}-wal", which is not found under this name. Open the database as "${mark.path}" once, or move the log to "${file.path}-wal"`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
  return {
    mayLackWrites: false,
    message: `Database "${filename}" was open as "${mark.path}" and was not closed the last time`
  }
}

/**
 * Whether the database has the mark of an owner: an engine has the database open, or had it open when the file was copied, or was
 * killed before it closed the database.
 */
export const isOwned = (db: DatabaseSync): boolean =>
  db.prepare("SELECT 1 FROM meta WHERE name = ?").get(OWNER_META_KEY) !== undefined

/** How often to check that the file is still in its place. */
const PLACE_CHECK_MS = 1000

export class FileOwnership {
  readonly #filename: string
  readonly #path: string
  readonly #inode: string | undefined
  readonly #mark: string
  readonly #readMark: StatementSync
  readonly #removeMark: StatementSync
  readonly #monotonicMs: () => number
  #checkedPlaceAt: number

  /** Makes this engine the owner: leaves its mark in the database. */
  constructor(db: DatabaseSync, options: { filename: string; nonce: string; monotonicMs: () => number }) {
    const { filename, monotonicMs, nonce } = options
    this.#filename = filename
    this.#path = realpathSync(filename)
    this.#inode = inodeOf(this.#path)
    const mark: Mark = { nonce, path: this.#path, inode: this.#inode ?? "" }
    this.#mark = JSON.stringify(mark)
    this.#readMark = db.prepare(`SELECT value FROM meta WHERE name = '${OWNER_META_KEY}'`)
    this.#removeMark = db.prepare(`DELETE FROM meta WHERE name = '${OWNER_META_KEY}' AND value = ?`)
    this.#monotonicMs = monotonicMs
    this.#checkedPlaceAt = monotonicMs()
    db.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)").run(OWNER_META_KEY, this.#mark)
    // a backup that is opened as a database is no backup any more: its checksum no longer matches
    db.prepare("DELETE FROM meta WHERE name = ?").run(BACKUP)
    // moves the mark from the log into the file: an engine that opens the file under another name does not see the log
    db.exec("PRAGMA wal_checkpoint(PASSIVE)")
  }

  /**
   * Throws a `StoreError` when a transaction must not go on: `STORE_LOCKED` when another engine owns the database,
   * `STORE_UNAVAILABLE` when the file was deleted, moved or replaced.
   */
  check(): void {
    if (this.#readMark.get()?.value !== this.#mark) {
      throw new StoreError(
        `Database "${this.#filename}" was taken over by another engine: this engine stops, and has written nothing since. One engine at a time ` +
          `may open a SQLite file, and the file "${this.#path}.lock" beside it, which enforces this, must not be deleted`,
        { code: "STORE_LOCKED" }
      )
    }
    const now = this.#monotonicMs()
    if (now - this.#checkedPlaceAt < PLACE_CHECK_MS) return
    if (inodeOf(this.#path) !== this.#inode) {
      throw new StoreError(
        `Database "${this.#filename}" is gone: the file was deleted, moved or replaced while the engine had it open, and what is written ` +
          "now would be lost. Move the same file back, and the engine continues. If the engine is started again instead, it uses the file " +
          "that is then at this path, or makes an empty one",
        { code: "STORE_UNAVAILABLE", retryable: true }
      )
    }
    this.#checkedPlaceAt = now
  }

  /** Removes the mark, for a clean stop. */
  release(): void {
    this.#removeMark.run(this.#mark)
  }
}
