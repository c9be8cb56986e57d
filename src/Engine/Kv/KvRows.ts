/**
 * Reads keys.
 *
 * `kv_entries` has one row for each key: either its value, or a marker, which says that the key was deleted or purged, or that it
 * has expired. Watchers get markers as changes; a marker is deleted after a day. `kv_history` has earlier revisions, as many as the
 * bucket keeps. A key counts as expired as soon as its time is past, even if it was not swept yet.
 */
import { all, get, statement, visit, inEnvironment, refuse, type Program } from "../Store/Program.ts"
import { BucketNotFoundError, KeyNotFoundError, RevisionGoneError, withoutStack } from "../../Errors.ts"
import { findBucket } from "./KvBuckets.ts"
import { operationsByCode, PUT_CODE, typesByCode } from "./KvCodes.ts"
import type {
  KvChangePage,
  KvEntryRow,
  KvHistoryPage,
  KvHistoryQuery,
  KvKeysPage,
  KvKeysQuery
} from "./KvRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

const noBytes = new Uint8Array()

const ENTRY_COLUMNS = "key, revision, operation, type, value, created_at"

const bytesOf = (value: Row[string] | undefined): Uint8Array =>
  // this column has only byte arrays
  value instanceof Uint8Array ? value : noBytes

const toEntry = (row: Row, expiresAt: Row[string] | undefined): KvEntryRow => ({
  key: String(row.key),
  revision: Number(row.revision),
  operation: operationsByCode[Number(row.operation)] ?? "put",
  value: { type: typesByCode[Number(row.type)] ?? "raw", bytes: bytesOf(row.value) },
  createdAt: Number(row.created_at),
  ...(Number(row.operation) !== PUT_CODE || expiresAt === null || expiresAt === undefined
    ? {}
    : { expiresAt: Number(expiresAt) })
})

const FIND_ENTRY = statement(
  "KvRows.findEntry",
  `SELECT revision, type, value, created_at, due_at FROM kv_entries
     WHERE bucket = ? AND key = ? AND operation = ${PUT_CODE} AND (due_at IS NULL OR due_at > ?)`
)

export const readEntry = inEnvironment(
  "readEntry",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    key: string
  ): Program<KvEntryRow, BucketNotFoundError | KeyNotFoundError> {
    const bucket = yield* findBucket(tx, environment, name)
    if (bucket === undefined) return yield* refuse(new BucketNotFoundError(name))
    const row = yield* get(FIND_ENTRY, bucket.key, key, tx.now())
    return row === undefined
      ? yield* refuse(withoutStack(() => new KeyNotFoundError(name, key)))
      : toEntry({ ...row, key, operation: PUT_CODE }, row.due_at)
  },
  (_, bucket) => `read bucket "${bucket}"`
)

/**
 * The size of a page of revisions or changes, in bytes of values. A page ends with the entry that reaches this size, because a page
 * is in memory as a whole.
 */
const PAGE_BYTES = 256 * 1024

const FIND_LAST_OPERATION = statement(
  "KvRows.findLastOperation",
  "SELECT operation FROM kv_entries WHERE bucket = ? AND key = ? AND (due_at IS NULL OR due_at > ?)"
)

const LIST_REVISIONS = statement(
  "KvRows.listRevisions",
  `SELECT ${ENTRY_COLUMNS}, expires_at FROM kv_history
     WHERE bucket = ?1 AND key = ?2 AND revision > ?3 AND (expires_at IS NULL OR expires_at > ?4)
     UNION ALL
     SELECT ${ENTRY_COLUMNS}, due_at FROM kv_entries WHERE bucket = ?1 AND key = ?2 AND revision > ?3
     ORDER BY revision LIMIT ?5`
)

/**
 * The revisions of a key after the revision `after`, oldest first. Refuses a key that never existed, that was purged or has
 * expired, or that was deleted more than a day ago.
 */
export const readHistory = inEnvironment(
  "KvRows.readHistory",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    { after, key, limit }: KvHistoryQuery
  ): Program<KvHistoryPage, BucketNotFoundError | KeyNotFoundError> {
    const bucket = yield* findBucket(tx, environment, name)
    if (bucket === undefined) return yield* refuse(new BucketNotFoundError(name))
    const now = tx.now()
    const last = yield* get(FIND_LAST_OPERATION, bucket.key, key, now)
    if (last === undefined || Number(last.operation) > operationsByCode.indexOf("delete"))
      return yield* refuse(new KeyNotFoundError(name, key))
    const entries: Array<KvEntryRow> = []
    let bytes = 0
    yield* visit(
      LIST_REVISIONS,
      [bucket.key, key, after, now, limit],
      ([
        ,
        revision = null,
        operation = null,
        type = null,
        value = null,
        createdAt = null,
        expiresAt = null
      ]) => {
        entries.push(toEntry({ key, revision, operation, type, value, created_at: createdAt }, expiresAt))
        bytes += bytesOf(value).byteLength
        return bytes < PAGE_BYTES
      }
    )
    const isWhole = bytes < PAGE_BYTES && entries.length < limit
    return { entries, ...(isWhole ? {} : { next: entries.at(-1)!.revision }) }
  },
  (_, bucket) => `read bucket "${bucket}"`
)

const LIST_KEYS = statement(
  "KvRows.listKeys",
  "SELECT key, operation, due_at FROM kv_entries WHERE bucket = ? AND key > ? ORDER BY key LIMIT ?"
)

/** Reads `limit` keys after the key `after`, and returns the keys that have a value, in order. */
export const listKeys = inEnvironment(
  "listKeys",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    { after, limit }: KvKeysQuery
  ): Program<KvKeysPage, BucketNotFoundError> {
    const bucket = yield* findBucket(tx, environment, name)
    if (bucket === undefined) return yield* refuse(new BucketNotFoundError(name))
    const rows = yield* all(LIST_KEYS, bucket.key, after, limit)
    const now = tx.now()
    const keys: Array<string> = []
    for (const row of rows) {
      const isAlive = Number(row.operation) === PUT_CODE && (row.due_at === null || Number(row.due_at) > now)
      if (isAlive) keys.push(String(row.key))
    }
    return { keys, ...(rows.length < limit ? {} : { nextCursor: String(rows.at(-1)?.key) }) }
  },
  (_, bucket) => `list the keys of bucket "${bucket}"`
)

const LIST_CHANGES = statement(
  "KvRows.listChanges",
  `SELECT ${ENTRY_COLUMNS} FROM kv_entries
     WHERE bucket = ?1 AND revision > ?2 AND (operation <> ${PUT_CODE} OR due_at IS NULL OR due_at > ?3)
     UNION ALL
     SELECT ${ENTRY_COLUMNS} FROM kv_history WHERE bucket = ?1 AND revision > ?2 AND (expires_at IS NULL OR expires_at > ?3)
     ORDER BY revision LIMIT ?4`
)

/**
 * The kept changes after the revision `after`, in order: the latest change of each key, and earlier changes from the history. If
 * `after` is `undefined`, returns no changes, and the last revision.
 */
export const readChanges = inEnvironment(
  "readChanges",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    after: number | undefined,
    limit: number
  ): Program<KvChangePage, BucketNotFoundError | RevisionGoneError> {
    const bucket = yield* findBucket(tx, environment, name)
    if (bucket === undefined) return yield* refuse(new BucketNotFoundError(name))
    const { key, revision: lastRevision } = bucket
    if (after === undefined || after >= lastRevision)
      return { bucket: key, changes: [], revision: after ?? lastRevision, atEnd: true }
    // a caller that begins at 0 knows no keys, so it cannot have missed a deletion
    if (after > 0 && after < bucket.droppedRevision) return yield* refuse(new RevisionGoneError(name, after))
    const now = tx.now()
    let bytes = 0
    const rows: Array<Row> = []
    let isCut = false
    yield* visit(
      LIST_CHANGES,
      [key, after, now, limit],
      ([name = null, revision = null, operation = null, type = null, value = null, createdAt = null]) => {
        rows.push({ key: name, revision, operation, type, value, created_at: createdAt })
        bytes += bytesOf(value).byteLength
        isCut = bytes >= PAGE_BYTES
        return !isCut
      }
    )
    const atEnd = !isCut && rows.length < limit
    return {
      bucket: key,
      changes: rows.map((row) => ({ ...toEntry(row, null), bucket: key })),
      revision: atEnd ? lastRevision : Number(rows.at(-1)?.revision ?? lastRevision),
      atEnd
    }
  },
  (_, bucket) => `read bucket "${bucket}"`
)
