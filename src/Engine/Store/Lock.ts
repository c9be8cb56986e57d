/**
 * Ensures that one engine at a time opens a database file. The lock is a tiny SQLite database beside the file. Its holder keeps a
 * transaction open on it. The operating system releases the lock when the process ends, however it ends. While the lock is held,
 * other processes can read who holds it.
 */
import { existsSync } from "node:fs"
import { hostname } from "node:os"
import { StoreError } from "../../Errors.ts"
import { makeFile, targetOf } from "./Files.ts"
import { DatabaseSync } from "./NodeSqlite.ts"

/**
 * Takes the lock of `filename`. Creates the lock file with this mode if needed. When the lock is held, throws a `StoreError` with
 * code `STORE_LOCKED` that names the holder.
 */
export const acquireLock = (
  filename: string,
  mode: number,
  startedAt: number
): { readonly release: () => void } => {
  // the lock belongs to the file itself, even if the file is opened by a link
  const file = `${targetOf(filename)}.lock`
  makeFile(file, mode)
  const db = new DatabaseSync(file)
  try {
    db.exec("BEGIN IMMEDIATE")
    db.exec(
      "CREATE TABLE IF NOT EXISTS holder (pid INTEGER, host TEXT, started_at INTEGER); DELETE FROM holder"
    )
    db.prepare("INSERT INTO holder VALUES (?, ?, ?)").run(process.pid, hostname(), startedAt)
    db.exec("COMMIT; BEGIN IMMEDIATE")
    return { release: () => db.close() }
  } catch (cause) {
    const holder = readHolder(db)
    db.close()
    if (!isBusy(cause)) throw cause
    throw new StoreError(
      `Database "${filename}" is in use by another engine${holder}: one engine at a time may open a SQLite file. ` +
        `Stop that engine, or name another file`,
      { code: "STORE_LOCKED", cause }
    )
  }
}

/**
 * Who holds the lock of a database file: a text in brackets, for a message after "another engine". `""` when the lock is held and
 * the holder is unknown; `undefined` when the lock is free.
 */
export const lockHolderOf = (path: string): string | undefined => {
  if (!existsSync(`${path}.lock`)) return undefined
  const db = new DatabaseSync(`${path}.lock`)
  try {
    db.exec("BEGIN IMMEDIATE; ROLLBACK")
    return undefined
  } catch (cause) {
    if (!isBusy(cause)) throw cause
    return readHolder(db)
  } finally {
    db.close()
  }
}

/** Whether an error says that another process holds the database: SQLITE_BUSY or SQLITE_LOCKED. */
const isBusy = (cause: unknown): boolean =>
  cause instanceof Error && "errcode" in cause && (cause.errcode === 5 || cause.errcode === 6)

const readHolder = (db: DatabaseSync): string => {
  try {
    const row = db.prepare("SELECT pid, host, started_at FROM holder").get()
    if (row === undefined) return ""
    return ` (process ${row.pid} on ${row.host}, since ${new Date(Number(row.started_at)).toISOString()})`
  } catch {
    // the holder may be writing its row at this moment, so that the row cannot be read
    return ""
  }
}
