/** Translates errors of SQLite into `StoreError`s, and tells a damaged file from a file that is out of reach. */
import { StoreError } from "../../Errors.ts"
import { NOT_JSON } from "./StoredJson.ts"

// Result codes of SQLite.

/** SQLITE_CORRUPT and SQLITE_NOTADB: the file is damaged, or is not a database. */
const CORRUPT = new Set([11, 26])
const BUSY = 5
const FULL = 13
/** The file cannot be used now: also SQLITE_LOCKED, SQLITE_READONLY, SQLITE_IOERR, SQLITE_CANTOPEN and SQLITE_AUTH. */
const UNAVAILABLE = new Set([BUSY, 6, 8, 10, FULL, 14, 23])

const resultCode = (cause: unknown): number | undefined =>
  cause instanceof Error && "errcode" in cause ? Number(cause.errcode) & 0xff : undefined

/** Whether the error says that the file cannot be used now, for any read or write. */
export const isUnavailable = (cause: unknown): boolean =>
  cause instanceof StoreError
    ? cause.code === "STORE_UNAVAILABLE" || cause.code === "STORE_LOCKED"
    : UNAVAILABLE.has(resultCode(cause) ?? -1) ||
      // an error with `syscall` comes from Node.js, about a file that cannot be created or read
      (cause instanceof Error && "syscall" in cause)

/** Whether the error says that the disk has no room for what was to be written. */
export const isFull = (cause: unknown): boolean =>
  resultCode(cause instanceof StoreError ? cause.cause : cause) === FULL

/** Whether the error says that the file is damaged: it has content that neither SQLite nor the engine has written. */
export const isDamage = (cause: unknown): boolean =>
  cause instanceof StoreError ? cause.code === "STORE_CORRUPT" : CORRUPT.has(resultCode(cause) ?? -1)

/**
 * The `StoreError` for a failure, with advice; `what` begins its message. A cause that is a `StoreError` already is returned as it
 * is, unless it says that stored JSON cannot be parsed: then `what` is added to the message, to say where.
 */
export const storeError = (what: string, cause: unknown): StoreError => {
  const reason = cause instanceof Error ? cause.message : String(cause)
  if (cause instanceof StoreError) {
    return cause.code === "STORE_CORRUPT" && reason.startsWith(NOT_JSON)
      ? new StoreError(`${what}: ${reason}`, { code: cause.code, cause })
      : cause
  }
  if (isDamage(cause)) {
    return new StoreError(
      `${what}: ${reason}. The file is damaged or is not a database: restore it from a backup`,
      { code: "STORE_CORRUPT", cause }
    )
  }
  if (isUnavailable(cause)) {
    const advice =
      resultCode(cause) === BUSY
        ? "Another program has locked the file: close it (an SQLite shell, a copy that is being made)"
        : "Check that the folder of the database exists, is writable and has room"
    return new StoreError(`${what}: ${reason}. ${advice}`, {
      code: "STORE_UNAVAILABLE",
      retryable: true,
      cause
    })
  }
  return new StoreError(`${what}: ${reason}`, { cause })
}

/** The error for a call that failed. `what` is what the call was to do, or a function that says it: called only for an error. */
export const callError = (what: string | (() => string), cause: unknown): StoreError =>
  storeError(`Cannot ${typeof what === "string" ? what : what()}`, cause)

/** The error when the disk did not store what was committed. It is final: a later sync that succeeds does not store it either. */
export const diskRefusalError = (filename: string, cause: unknown): StoreError =>
  new StoreError(
    `The disk has not stored what was written to database "${filename}": ${cause instanceof Error ? cause.message : String(cause)}. What was just ` +
      "written may be lost, so this engine stops and answers nothing more. Check the disk, and start the engine again",
    { code: "STORE_UNAVAILABLE", cause }
  )
