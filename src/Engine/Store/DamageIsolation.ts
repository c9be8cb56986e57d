/** Finds out which of many rows caused an error, so that the work can go on without those rows. */

import type { Culprit, DamagedKind } from "./Damage.ts"
import { all, type Program } from "./Program.ts"
import { isUnavailable } from "./SqliteErrors.ts"
import type { Transaction } from "./Transaction.ts"
import type { StoreCallbacks } from "./StoreCallbacks.ts"

/**
 * How many rows are checked at once. If damaged rows are among them, the work is tried again without these, before any other rows
 * are checked.
 */
const CHUNK = 1000

/** A row that was found damaged, for the log. */
export interface DamagedRow {
  readonly kind: DamagedKind
  readonly key: number
  readonly id: string | undefined
  readonly reason: string
}

/** Tests that tell what an error of a database means. */
export interface ErrorTests {
  readonly isDamage: (error: unknown) => boolean
  readonly isUnavailable: (error: unknown) => boolean
}

/**
 * Notes the rows that cause an error, and returns them. Returns none when the disk is full, when the database is out of reach, when
 * the error cannot be traced to rows, or when all rows that cause it were noted before. Must not run within a transaction.
 */
export function* isolateDamage(
  tx: Transaction,
  callbacks: StoreCallbacks,
  error: unknown,
  errors: ErrorTests
): Program<ReadonlyArray<DamagedRow>> {
  const { culprit } = tx
  tx.culprit = undefined
  if (culprit === undefined || culprit.error !== error || errors.isUnavailable(error)) return []
  // if the error certainly comes from the listed rows, they are noted even if they can be read, because work on them fails anyway
  const isAmongRows = "known" in culprit.keys || culprit.isCertain === true
  if (!isAmongRows && !errors.isDamage(error)) return []
  let keys: ReadonlyArray<number>
  try {
    keys = yield* keysOf(culprit)
  } catch {
    // the index that lists the rows is damaged too: the caller gets `error`
    return []
  }
  const damagedRows: Array<DamagedRow> = []
  for (let i = 0; i < keys.length && damagedRows.length === 0; i += CHUNK) {
    for (const key of keys.slice(i, i + CHUNK)) {
      const problem = yield* problemOf(tx, callbacks, culprit.kind, key, errors)
      const reason = problem ?? (isAmongRows ? reasonOf(error, errors) : undefined)
      if (reason === undefined || !tx.damage.note(culprit.kind, key, reason)) continue
      damagedRows.push({
        kind: culprit.kind,
        key,
        id: yield* callbacks.nameOf(tx, culprit.kind, key),
        reason
      })
    }
  }
  return damagedRows
}

/** The log message for a damaged row, which is skipped. */
export const damagedRowMessage = ({ id, key, kind, reason }: DamagedRow): string =>
  kind === "run"
    ? `Run ${id ?? `#${key}`} is damaged in the database and is skipped, while the other runs continue: ${reason}. Restore the database from a backup, ` +
      "or patch the damaged step, or cancel the run"
    : `${rowNames[kind](key)} is damaged in the database and is skipped, while all other work continues: ${reason}. Restore the database from a backup`

/** How log messages name a row that has no id. */
const rowNames: { readonly [Kind in Exclude<DamagedKind, "run">]: (key: number) => string } = {
  event: (position) => `The event at position ${position}`,
  schedule: (functionKey) => `The schedule of a function (row ${functionKey} of the table functions)`,
  key: (key) => `An entry of a bucket (row ${key} of the table kv_entries)`
}

function* keysOf({ keys }: Culprit): Program<ReadonlyArray<number>> {
  if ("known" in keys) return [keys.known]
  return (yield* all(keys.statement, ...keys.values)).map((row) => Number(row.key))
}

/** Why the work on a row fails although the row can be read, as the end of a sentence. */
const reasonOf = (error: unknown, { isDamage }: ErrorTests): string =>
  isDamage(error)
    ? `it cannot be written, because data beside it is damaged (${messageOf(error)})`
    : messageOf(error)

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

function* problemOf(
  tx: Transaction,
  callbacks: StoreCallbacks,
  kind: DamagedKind,
  key: number,
  { isUnavailable }: ErrorTests
): Program<string | undefined> {
  try {
    yield* callbacks.checkReadable(tx, kind, key)
    return undefined
  } catch (error) {
    return isUnavailable(error) ? undefined : messageOf(error)
  }
}

/** How many rows of each table are checked when the database is opened. */
const NEWEST_COUNT = 20

/**
 * Checks whether the newest rows can be read. If the disk has acknowledged a sync that it had not done, a crash leaves half-written
 * rows among them.
 */
export const checkNewestRows = (tx: Transaction): void => {
  const newest: ReadonlyArray<readonly [what: string, sql: string]> = [
    ["The end of the log", "SELECT * FROM events ORDER BY position DESC LIMIT ?"],
    ["The newest runs", "SELECT * FROM runs ORDER BY key DESC LIMIT ?"],
    ["The newest steps", "SELECT * FROM steps ORDER BY run DESC LIMIT ?"],
    ["The next timers", "SELECT * FROM waits WHERE due_at IS NOT NULL ORDER BY due_at LIMIT ?"],
    ["The newest entries of buckets", "SELECT * FROM kv_entries ORDER BY rowid DESC LIMIT ?"]
  ]
  for (const [what, sql] of newest) {
    try {
      tx.all(sql, NEWEST_COUNT)
    } catch (error) {
      if (isUnavailable(error)) throw error
      tx.damage.noteUnreadable(what, error)
    }
  }
}
