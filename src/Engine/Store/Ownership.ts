/**
 * Whose a database file is. The lock beside the file keeps others out, as long as all come by the same name and leave the
 * lock alone; the owner's name in the database itself catches the rest. It is compared in every transaction, and whoever
 * finds another one there writes nothing any more. It also shows at the next start that the last stop was not a clean one.
 */
import { existsSync, realpathSync, statSync } from "node:fs"
import type { StatementSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { StoreError } from "../../Errors.ts"
import { safeJsonParse } from "../../Json.ts"
import { isHeld } from "./Lock.ts"
import { DatabaseSync } from "./NodeSqlite.ts"

const OWNER = "owner"

/** What the owner leaves in the database while it has it open. */
interface Mark {
  readonly nonce: string
  /** The name by which it has the file open, which its write-ahead log is called after. */
  readonly path: string
  readonly inode: string
}

/** What is to be said of a last stop that was not a clean one. */
export interface LastStop {
  readonly message: string
  /** Something that was acknowledged may not be there. */
  readonly mayLack: boolean
}

const inodeOf = (path: string): string | undefined => {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false })
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
}

const hasLog = (path: string): boolean => (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0

/**
 * What the owner has left in the file. It is read without locks and without a log: the log of another name is not to be
 * seen, and a process that has the file open under that name gets no second one for it.
 */
const readMark = (path: string): Mark | undefined => {
  if (inodeOf(path) === undefined) return undefined
  let db: DatabaseSync | undefined
  try {
    const url = pathToFileURL(path)
    url.searchParams.set("immutable", "1")
    db = new DatabaseSync(url, { readOnly: true })
    const value = db.prepare("SELECT value FROM meta WHERE name = ?").get(OWNER)?.value
    // written by `Ownership`
    return value === undefined ? undefined : safeJsonParse<Mark>(String(value))
  } catch {
    // it is new, of somebody else or damaged, which opening it says better: nothing is known of a last owner
    return undefined
  } finally {
    db?.close()
  }
}

/**
 * Before the file is opened, which makes a log. Throws a `StoreError` when it is open under another name, or when its log is
 * left under another name. Returns what should be known about the last stop.
 */
export const checkLastOwner = (filename: string): LastStop | undefined => {
  const path = existsSync(filename) ? realpathSync(filename) : filename
  const before = { path, inode: inodeOf(path), hasLog: hasLog(path) }
  const mark = readMark(path)
  if (mark === undefined) return undefined
  if (mark.inode !== before.inode) {
    if (before.hasLog) return undefined
    return {
      mayLack: true,
      message:
        `Database "${filename}" is a copy of one that was open ("${mark.path}"). A copy made with SQLite's \`.backup\` is whole; one made ` +
        `by copying the file lacks what was in the log "${mark.path}-wal" at that time`
    }
  }
  if (mark.path === before.path) {
    return before.hasLog
      ? { mayLack: false, message: `Database "${filename}" was not closed the last time` }
      : {
          mayLack: true,
          message:
            `Database "${filename}" was not closed the last time, and its log "${before.path}-wal" is gone: what was committed last may be ` +
            "missing. Whoever moves or restores the file has to take its log with it"
        }
  }
  const holder = isHeld(mark.path)
  if (holder !== undefined) {
    throw new StoreError(
      `Database "${filename}" is in use by another engine${holder} under another name, "${mark.path}": one engine at a time may ` +
        "open a SQLite file. Stop the other one, or give this one a file of its own",
      { code: "STORE_LOCKED" }
    )
  }
  if (!before.hasLog && hasLog(mark.path)) {
    throw new StoreError(
      `Database "${filename}" was last open as "${mark.path}" and was not closed: what was committed last is in the log ` +
        `"${mark.path}-wal", which is not found under this name. Open it as "${mark.path}" once, or move the log to "${before.path}-wal"`,
      { code: "STORE_UNAVAILABLE" }
    )
  }
  return {
    mayLack: false,
    message: `Database "${filename}" was open as "${mark.path}" and was not closed the last time`
  }
}

/** Whether an engine has the database open, or had not closed it when it was copied. */
export const isOwned = (db: DatabaseSync): boolean =>
  db.prepare("SELECT 1 FROM meta WHERE name = ?").get(OWNER) !== undefined

/** How often it is looked whether the file is still where it was, milliseconds. */
const LOOK_MS = 1000

export class Ownership {
  readonly #filename: string
  readonly #path: string
  readonly #inode: string | undefined
  readonly #mark: string
  readonly #read: StatementSync
  readonly #remove: StatementSync
  readonly #monotonicMs: () => number
  #lookedAt: number

  /** Makes the caller the owner. */
  constructor(db: DatabaseSync, options: { filename: string; nonce: string; monotonicMs: () => number }) {
    const { filename, monotonicMs, nonce } = options
    this.#filename = filename
    this.#path = realpathSync(filename)
    this.#inode = inodeOf(this.#path)
    const mark: Mark = { nonce, path: this.#path, inode: this.#inode ?? "" }
    this.#mark = JSON.stringify(mark)
    this.#read = db.prepare(`SELECT value FROM meta WHERE name = '${OWNER}'`)
    this.#remove = db.prepare(`DELETE FROM meta WHERE name = '${OWNER}' AND value = ?`)
    this.#monotonicMs = monotonicMs
    this.#lookedAt = monotonicMs()
    db.prepare("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)").run(OWNER, this.#mark)
    // an engine that comes by another name finds the mark in the file, and not in a log that it does not see
    db.exec("PRAGMA wal_checkpoint(PASSIVE)")
  }

  /** Throws a `StoreError` within a transaction that must not go on: `STORE_LOCKED` when the database is another engine's. */
  check(): void {
    if (this.#read.get()?.value !== this.#mark) {
      throw new StoreError(
        `Database "${this.#filename}" was taken over by another engine: this one stops and has written nothing since. One engine at a time ` +
          `may open a SQLite file, and the file "${this.#path}.lock" beside it, which sees to that, must not be deleted`,
        { code: "STORE_LOCKED" }
      )
    }
    const now = this.#monotonicMs()
    if (now - this.#lookedAt < LOOK_MS) return
    if (inodeOf(this.#path) !== this.#inode) {
      throw new StoreError(
        `Database "${this.#filename}" is gone: the file was deleted, moved or replaced while the engine had it open, and what is written ` +
          "now would be lost. Put it back, or start the engine again",
        { code: "STORE_UNAVAILABLE", retryable: true }
      )
    }
    this.#lookedAt = now
  }

  /** Leaves the database as one that was closed. */
  release(): void {
    this.#remove.run(this.#mark)
  }
}
