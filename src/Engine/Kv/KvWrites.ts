/**
 * Writes keys. Every change of a key takes the next revision of its bucket. So of several writes that expect the same revision of
 * a key, only one succeeds (guarantee G13).
 *
 * Every refusal comes before the first write, so that these programs can be part of larger programs.
 */
import { all, forEach, get, statement, type Program, write, inEnvironment, refuse } from "../Store/Program.ts"
import { BucketNotFoundError, LimitExceededError, RevisionConflictError, withoutStack } from "../../Errors.ts"
import type { KvOperation, StoredValue } from "../../KvValue.ts"
import { type Bucket, findBucket, readExpired, bucketsOf } from "./KvBuckets.ts"
import { operationsByCode, PUT_CODE, typesByCode } from "./KvCodes.ts"
import type { KvWriteRow } from "./KvRecords.ts"
import type { Transaction } from "../Store/Transaction.ts"

/** How long a marker (see `KvRows.ts`) is kept, in milliseconds. A watcher that was away for longer has to begin again. */
const MARKER_MS = 24 * 60 * 60 * 1000

const noBytes = new Uint8Array()

/** The current entry of a key. */
interface CurrentEntry {
  readonly revision: number
  readonly operation: KvOperation
  /** Whether the entry has a value that has not expired. */
  readonly isAlive: boolean
  /** Whether the entry is counted among the values of the bucket: it has a value, even if that has expired. */
  readonly isCounted: boolean
  /** The size of the key and its value; 0 for a marker. */
  readonly bytes: number
}

const FIND_PRESENT_REVISION = statement(
  "KvWrites.findPresentRevision",
  "SELECT revision, operation, length(value) AS bytes, due_at FROM kv_entries WHERE bucket = ? AND key = ?"
)

function* findCurrent(tx: Transaction, bucket: Bucket, key: string): Program<CurrentEntry | undefined> {
  const row = yield* get(FIND_PRESENT_REVISION, bucket.key, key)
  if (row === undefined) return undefined
  const isCounted = Number(row.operation) === PUT_CODE
  return {
    revision: Number(row.revision),
    operation: operationsByCode[Number(row.operation)] ?? "put",
    isAlive: isCounted && (row.due_at === null || Number(row.due_at) > tx.now()),
    isCounted,
    bytes: isCounted ? Buffer.byteLength(key) + Number(row.bytes) : 0
  }
}

/** Changes several different keys: all of them, or none. Returns the new revisions of the keys. */
export const writeEntries = inEnvironment(
  "writeEntries",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    writes: ReadonlyArray<KvWriteRow>
  ): Program<Array<number>, BucketNotFoundError | LimitExceededError | RevisionConflictError> {
    return yield* carryOutPlan(tx, yield* planWrites(tx, environment, name, writes))
  },
  (_, bucket) => `write to bucket "${bucket}"`
)

/** Checked changes of different keys of a bucket. A plan is valid until something else writes to the bucket. */
export interface KvPlan {
  readonly bucket: Bucket
  readonly writes: ReadonlyArray<KvWriteRow>
  readonly currentEntries: ReadonlyArray<CurrentEntry | undefined>
}

/** Checks changes without writing. The plan need not be carried out. */
export function* planWrites(
  tx: Transaction,
  environment: string,
  name: string,
  writes: ReadonlyArray<KvWriteRow>
): Program<KvPlan, BucketNotFoundError | LimitExceededError | RevisionConflictError> {
  const bucket = yield* findBucket(tx, environment, name)
  if (bucket === undefined) return yield* refuse(new BucketNotFoundError(name))

  const currentEntries = yield* forEach(writes, ({ key }) => findCurrent(tx, bucket, key))
  for (const [i, write] of writes.entries()) {
    const refusal = refusalOf(bucket, write, currentEntries[i])
    if (refusal !== undefined) return yield* refuse(refusal)
  }
  yield* checkRoom(tx, bucket, writes, currentEntries)
  return { bucket, writes, currentEntries } satisfies KvPlan
}

/** Carries out a plan. Returns the revisions of the keys. */
export function* carryOutPlan(
  tx: Transaction,
  { bucket, currentEntries, writes }: KvPlan
): Program<Array<number>> {
  bucketsOf(tx).noteChange(bucket)
  return yield* forEach(writes, (write, i) => applyChange(tx, bucket, write, currentEntries[i]))
}

const refusalOf = (
  bucket: Bucket,
  write: KvWriteRow,
  current: CurrentEntry | undefined
): RevisionConflictError | LimitExceededError | undefined => {
  const actual = current?.isAlive === true ? current.revision : 0
  if (write.expected !== undefined && write.expected !== actual) {
    const { expected } = write
    return withoutStack(() => new RevisionConflictError(bucket.name, write.key, expected, actual))
  }
  const size = write.value?.bytes.byteLength ?? 0
  return size > bucket.maxValueBytes
    ? new LimitExceededError(
        `The value of key "${write.key}" in bucket "${bucket.name}"`,
        size,
        bucket.maxValueBytes,
        "bytes"
      )
    : undefined
}

function* checkRoom(
  tx: Transaction,
  bucket: Bucket,
  writes: ReadonlyArray<KvWriteRow>,
  current: ReadonlyArray<CurrentEntry | undefined>
): Program<void, LimitExceededError> {
  if (bucket.maxBytes === undefined || !writes.some(({ value }) => value !== undefined)) return
  let bytesAfter = bucket.bytes
  for (const [i, { key, value }] of writes.entries()) {
    if (value !== undefined) bytesAfter += Buffer.byteLength(key) + value.bytes.byteLength
    // without a history, the replaced value is deleted; with a history, the replaced value may be kept, and an older value be
    // deleted instead
    if (bucket.history === 1) bytesAfter -= current[i]?.bytes ?? 0
    else bytesAfter -= yield* prunedBytes(bucket, key, current[i])
  }
  if (bytesAfter <= bucket.maxBytes) return
  if (bytesAfter - (yield* readExpired(tx, bucket)).bytes <= bucket.maxBytes) return
  return yield* refuse(
    new LimitExceededError(`Bucket "${bucket.name}" with this write`, bytesAfter, bucket.maxBytes, "bytes")
  )
}

const SUM_PRUNED_BYTES = statement(
  "KvWrites.sumPrunedBytes",
  `SELECT coalesce(sum(bytes), 0) AS bytes FROM (
       SELECT length(value) + CASE WHEN operation = ${PUT_CODE} THEN octet_length(key) ELSE 0 END AS bytes FROM kv_history
       WHERE bucket = ? AND key = ? ORDER BY revision DESC LIMIT -1 OFFSET ?)`
)

/** How many bytes a write of the key will delete from its history. */
function* prunedBytes(bucket: Bucket, key: string, current: CurrentEntry | undefined): Program<number> {
  if (current === undefined) return 0
  const row = yield* get(SUM_PRUNED_BYTES, bucket.key, key, bucket.history - 2)
  return Number(row?.bytes)
}

/** Makes one checked change. Returns the new revision of the key; for a deletion that changes nothing, the current revision. */
function* applyChange(
  tx: Transaction,
  bucket: Bucket,
  write: KvWriteRow,
  found: CurrentEntry | undefined
): Program<number> {
  const { key, value } = write
  // if the key has expired and was not swept yet, writes the marker now, so that watchers get the expiry before the new value
  const current =
    value !== undefined && found?.isCounted === true && !found.isAlive
      ? yield* expireKey(tx, bucket, key, found)
      : found
  // a deletion of a missing key changes nothing
  if (value === undefined && (write.purge === true ? current === undefined : current?.isAlive !== true))
    return current?.revision ?? 0
  if (value === undefined && write.purge === true)
    return yield* leaveMarker(tx, bucket, key, current, "purge")
  if (value === undefined && bucket.history === 1)
    return yield* leaveMarker(tx, bucket, key, current, "delete")

  if (current !== undefined && bucket.history > 1 && isInHistory(current.operation))
    yield* moveToHistory(bucket, key, current)
  else bucket.bytes -= current?.bytes ?? 0
  if (current?.isCounted === true) bucket.values--
  const now = tx.now()
  const revision = ++bucket.revision
  if (value !== undefined) {
    bucket.values++
    bucket.bytes += Buffer.byteLength(key) + value.bytes.byteLength
  }
  const dueAt = value === undefined ? now + MARKER_MS : bucket.ttlMs === undefined ? null : now + bucket.ttlMs
  yield* storeEntry(tx, bucket.key, key, revision, value === undefined ? "delete" : "put", value, dueAt)
  return revision
}

/** Whether the history keeps an operation. It does not keep that a key has expired or was purged: only watchers are told of that. */
const isInHistory = (operation: KvOperation): boolean => operation === "put" || operation === "delete"

export function* expireKey(
  tx: Transaction,
  bucket: Bucket,
  key: string,
  current: CurrentEntry
): Program<CurrentEntry> {
  return {
    revision: yield* leaveMarker(tx, bucket, key, current, "expire"),
    operation: "expire",
    isAlive: false,
    isCounted: false,
    bytes: 0
  }
}

const PUT_ENTRY = statement(
  "KvWrites.putEntry",
  `INSERT INTO kv_entries (bucket, key, revision, operation, type, value, created_at, due_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (bucket, key) DO UPDATE SET revision = excluded.revision, operation = excluded.operation,
       type = excluded.type, value = excluded.value, created_at = excluded.created_at, due_at = excluded.due_at`
)

function* storeEntry(
  tx: Transaction,
  bucket: number,
  key: string,
  revision: number,
  operation: KvOperation,
  value: StoredValue | undefined,
  dueAt: number | null
): Program<void> {
  const now = tx.now()
  yield* write(
    PUT_ENTRY,
    bucket,
    key,
    revision,
    operationsByCode.indexOf(operation),
    value === undefined ? 0 : typesByCode.indexOf(value.type),
    value?.bytes ?? noBytes,
    now,
    dueAt
  )
  if (dueAt !== null) tx.markDue(dueAt)
  tx.changes.kv.push({
    bucket,
    key,
    revision,
    operation,
    value: value ?? { type: "raw", bytes: noBytes },
    createdAt: now
  })
}

const INSERT_REVISION = statement(
  "KvWrites.insertRevision",
  `INSERT INTO kv_history (bucket, key, revision, operation, type, value, created_at, expires_at)
     SELECT bucket, key, revision, operation, type, value, created_at, CASE WHEN operation = ${PUT_CODE} THEN due_at END
     FROM kv_entries WHERE bucket = ? AND key = ? AND revision = ?`
)

/** Moves the current entry of a key into the history, and deletes entries of the history beyond the bucket's limit. */
function* moveToHistory(bucket: Bucket, key: string, current: CurrentEntry): Program<void> {
  yield* write(INSERT_REVISION, bucket.key, key, current.revision)
  bucket.bytes -= yield* pruneHistory(bucket.key, key, bucket.history - 1)
}

const LIST_OLD_REVISIONS = statement(
  "KvWrites.listOldRevisions",
  `SELECT revision, operation, length(value) AS bytes FROM kv_history
     WHERE bucket = ? AND key = ? ORDER BY revision DESC LIMIT -1 OFFSET ?`
)

const DELETE_REVISION = statement(
  "KvWrites.deleteRevision",
  "DELETE FROM kv_history WHERE bucket = ? AND key = ? AND revision = ?"
)

/** Deletes the history of a key except for its newest `keep` entries. Returns the bytes of the deleted entries. */
export function* pruneHistory(bucket: number, key: string, keep: number): Program<number> {
  const rows = yield* all(LIST_OLD_REVISIONS, bucket, key, keep)
  let bytes = 0
  for (const row of rows) {
    yield* write(DELETE_REVISION, bucket, key, row.revision!)
    if (Number(row.operation) === PUT_CODE) bytes += Buffer.byteLength(key) + Number(row.bytes)
  }
  return bytes
}

/** Replaces a key and its history by a marker, which says how the key was deleted. */
function* leaveMarker(
  tx: Transaction,
  bucket: Bucket,
  key: string,
  current: CurrentEntry | undefined,
  operation: "delete" | "purge" | "expire"
): Program<number> {
  bucket.bytes -= current?.bytes ?? 0
  if (bucket.history > 1) bucket.bytes -= yield* pruneHistory(bucket.key, key, 0)
  if (current?.isCounted === true) bucket.values--
  const revision = ++bucket.revision
  yield* storeEntry(tx, bucket.key, key, revision, operation, undefined, tx.now() + MARKER_MS)
  return revision
}
