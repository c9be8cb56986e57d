/** Translates errors of SQLite into ours. */
import { StoreError } from "../../Errors.ts"
import { NOT_JSON } from "./StoredJson.ts"

/** SQLite's result codes for problems with the file. */
const CORRUPT = new Set([11, 26])
const BUSY = 5
const FULL = 13
const UNAVAILABLE = new Set([BUSY, 6, 8, 10, FULL, 14, 23])

const resultCode = (cause: unknown): number | undefined =>
  cause instanceof Error && "errcode" in cause ? Number(cause.errcode) & 0xff : undefined

/** Whether the file itself is out of reach, whatever was requested. */
export const isUnavailable = (cause: unknown): boolean =>
  cause instanceof StoreError
    ? cause.code === "STORE_UNAVAILABLE" || cause.code === "STORE_LOCKED"
    : UNAVAILABLE.has(resultCode(cause) ?? -1) ||
      // an error with `syscall` comes from Node.js, about a file that cannot be created or read
      (cause instanceof Error && "syscall" in cause)

/** Whether the disk had no room for what was written. */
export const isFull = (cause: unknown): boolean =>
  resultCode(cause instanceof StoreError ? cause.cause : cause) === FULL

/** Whether the file has content that SQLite or the engine has not written. */
export const isDamage = (cause: unknown): boolean =>
  cause instanceof StoreError ? cause.code === "STORE_CORRUPT" : CORRUPT.has(resultCode(cause) ?? -1)

/**
 * The `StoreError` for a failure, with advice; `what` begins its message. A `StoreError` is returned as it is, unless it says that
 * stored JSON cannot be parsed: `what` then says where.
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

/** The error for a call that failed. `what` is what it was to do: the message is built only when something fails. */
export const callError = (what: string | (() => string), cause: unknown): StoreError =>
  storeError(`Cannot ${typeof what === "string" ? what : what()}`, cause)

/** The error when the disk did not store what was committed. A later success says nothing about what was written before. */
export const diskRefusalError = (filename: string, cause: unknown): StoreError =>
  new StoreError(
    `The disk has not stored what was written to database "${filename}": ${cause instanceof Error ? cause.message : String(cause)}. What was just ` +
      "written may be lost, so this engine stops and answers nothing more. Check the disk, and start the engine again",
    { code: "STORE_UNAVAILABLE", cause }
  )
