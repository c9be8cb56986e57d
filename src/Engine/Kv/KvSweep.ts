/** Does what is due in buckets: turns expired keys into markers, and deletes old markers and the keys of deleted buckets. */
import {
  all,
  allIsolatingDamage,
  isolateRow,
  get,
  statement,
  type Program,
  variant,
  write
} from "../Store/Program.ts"
import { type Bucket, bucketOfKey, bucketsOf } from "./KvBuckets.ts"
import { PUT_CODE } from "./KvCodes.ts"
import { expireKey, pruneHistory } from "./KvWrites.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/** While the clock may be wrong, old markers are kept, and checked again after this many milliseconds. */
const RECHECK_MARKERS_MS = 60 * 60 * 1000

const LIST_DUE_ROWS = statement(
  "KvSweep.listDueRows",
  "SELECT rowid AS key FROM kv_entries WHERE due_at <= ?"
)

const SELECT_EXPIRED = `SELECT rowid AS entry, bucket, key, revision, operation, length(value) AS bytes FROM kv_entries
  WHERE due_at <= ? AND (operation = ${PUT_CODE} OR due_at <= ?) @sound(key, rowid) ORDER BY due_at LIMIT ?`

const LIST_EXPIRED_IN_ENVIRONMENT = statement(
  "KvSweep.listExpiredInEnvironment",
  `SELECT * FROM (${SELECT_EXPIRED}) AS expired WHERE (SELECT environment FROM kv_buckets WHERE kv_buckets.key = expired.bucket) = ?`,
  { scans: "a batch of due entries" }
)

const LIST_ENVIRONMENTS_TO_SWEEP = statement(
  "KvSweep.listEnvironmentsToSweep",
  `SELECT environment FROM kv_buckets WHERE key IN (SELECT bucket FROM (${SELECT_EXPIRED}) AS expired)`
)

const LIST_ENVIRONMENTS_TO_DROP = statement(
  "KvSweep.listEnvironmentsToDrop",
  "SELECT environment FROM kv_buckets WHERE name IS NULL LIMIT ?",
  { scans: "buckets without a name, by their index" }
)

/** The environments of the first `limit` due keys, and of the first `limit` deleted buckets. */
export function* environmentsToSweep(tx: Transaction, limit: number): Program<ReadonlyArray<Row>> {
  const now = tx.now()
  const expired = yield* allIsolatingDamage(
    tx,
    "key",
    [LIST_DUE_ROWS, now],
    LIST_ENVIRONMENTS_TO_SWEEP,
    now,
    tx.settledNow(),
    limit
  )
  return [...expired, ...(yield* all(LIST_ENVIRONMENTS_TO_DROP, limit))]
}

/**
 * Turns expired keys into markers, deletes old markers, and deletes the keys of deleted buckets. Among the first `limit` due keys
 * of all environments, handles those of this environment. Returns how many keys it has handled; as long as a deleted bucket is
 * left, this number is above 0.
 */
export function* sweep(tx: Transaction, environment: number, limit: number): Program<number> {
  const now = tx.now()
  const rows = yield* allIsolatingDamage(
    tx,
    "key",
    [LIST_DUE_ROWS, now],
    LIST_EXPIRED_IN_ENVIRONMENT,
    now,
    tx.settledNow(),
    limit,
    environment
  )
  const buckets = new Map<number, Bucket>()
  function* bucketOf(key: number): Program<Bucket> {
    let bucket = buckets.get(key)
    if (bucket === undefined) {
      bucket = yield* bucketOfKey(tx, key)
      bucketsOf(tx).noteChange(bucket)
      buckets.set(key, bucket)
    }
    return bucket
  }
  for (const row of rows) {
    yield* isolateRow(tx, "key", Number(row.entry), sweepEntry(tx, yield* bucketOf(Number(row.bucket)), row))
  }
  return rows.length + (yield* sweepDeletedBucket(environment, limit - rows.length))
}

const DELETE_ENTRY = statement("KvSweep.deleteEntry", "DELETE FROM kv_entries WHERE bucket = ? AND key = ?")

function* sweepEntry(tx: Transaction, bucket: Bucket, row: Row): Program<void> {
  const key = String(row.key)
  if (Number(row.operation) === PUT_CODE) {
    yield* expireKey(tx, bucket, key, {
      revision: Number(row.revision),
      operation: "put",
      isAlive: false,
      isCounted: true,
      bytes: Buffer.byteLength(key) + Number(row.bytes)
    })
    return
  }
  if (bucket.history > 1) bucket.bytes -= yield* pruneHistory(bucket.key, key, 0)
  yield* write(DELETE_ENTRY, bucket.key, key)
  bucket.droppedRevision = Math.max(bucket.droppedRevision, Number(row.revision))
}

const FIND_UNNAMED_BUCKET = statement(
  "KvSweep.findUnnamedBucket",
  "SELECT key FROM kv_buckets WHERE name IS NULL AND environment = ? LIMIT 1"
)

const DELETE_BUCKET = statement("KvSweep.deleteBucket", "DELETE FROM kv_buckets WHERE key = ?")

/**
 * Deletes at most `limit` entries of one deleted bucket (current and earlier revisions), and together with the last entries the
 * bucket itself. Returns the number of deleted entries plus one, which is above 0 as long as the bucket is left. Returns 0 when
 * there is no deleted bucket, or `limit` is 0.
 */
function* sweepDeletedBucket(environment: number, limit: number): Program<number> {
  const bucket = (yield* get(FIND_UNNAMED_BUCKET, environment))?.key
  if (bucket === undefined || limit <= 0) return 0
  let deleted = 0
  for (const table of ["kv_history", "kv_entries"]) {
    const rows = yield* all(
      variant("KvSweep.dropBuckets", `SELECT revision FROM ${table} WHERE bucket = ? LIMIT ?`),
      bucket,
      limit - deleted
    )
    for (const row of rows)
      yield* write(
        variant("KvSweep.dropBuckets", `DELETE FROM ${table} WHERE bucket = ? AND revision = ?`),
        bucket,
        row.revision!
      )
    deleted += rows.length
  }
  if (deleted < limit) yield* write(DELETE_BUCKET, bucket)
  return deleted + 1
}

/**
 * When the next key expires or the next marker is to be deleted, in epoch milliseconds. While a deleted bucket is left, this is
 * now.
 */
export function* nextSweepAt(tx: Transaction): Program<number> {
  const now = tx.now()
  const isSettled = tx.settledNow() === now
  const row = yield* get(
    variant(
      "KvSweep.nextSweepAt",
      `SELECT (SELECT due_at FROM kv_entries WHERE due_at IS NOT NULL${isSettled ? "" : ` AND operation = ${PUT_CODE}`} @sound(key, rowid) ORDER BY due_at LIMIT 1) AS entry,
       (SELECT 1 FROM kv_buckets WHERE name IS NULL LIMIT 1) AS bucket`
    )
  )
  if (row?.bucket !== null && row?.bucket !== undefined) return now
  return Math.min(
    row?.entry == null ? Number.POSITIVE_INFINITY : Number(row.entry),
    // while the clock may be wrong, old markers are kept, and checked again later
    isSettled ? Number.POSITIVE_INFINITY : now + RECHECK_MARKERS_MS
  )
}
