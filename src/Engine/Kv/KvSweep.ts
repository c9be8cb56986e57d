/** Due work on keys: expired values, old markers, and the keys of deleted buckets. */
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
import { expireKey, forgetHistory } from "./KvWrites.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/**
 * How often to check old markers while the clock may be wrong, in milliseconds. Old markers are kept until the clock is trusted
 * again.
 */
const MARKERS_EVERY_MS = 60 * 60 * 1000

const LIST_DUE_ROWS = statement(
  "KvSweep.listDueRows",
  "SELECT rowid AS key FROM kv_entries WHERE due_at <= ?"
)

const EXPIRED = `SELECT rowid AS entry, bucket, key, revision, operation, length(value) AS bytes FROM kv_entries
  WHERE due_at <= ? AND (operation = ${PUT_CODE} OR due_at <= ?) @sound(key, rowid) ORDER BY due_at LIMIT ?`

const LIST_EXPIRED_IN_ENVIRONMENT = statement(
  "KvSweep.listExpiredInEnvironment",
  `SELECT * FROM (${EXPIRED}) AS expired WHERE (SELECT environment FROM kv_buckets WHERE kv_buckets.key = expired.bucket) = ?`,
  { scans: "a batch of due entries" }
)

const LIST_ENVIRONMENTS_TO_SWEEP = statement(
  "KvSweep.listEnvironmentsToSweep",
  `SELECT environment FROM kv_buckets WHERE key IN (SELECT bucket FROM (${EXPIRED}) AS expired)`
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
 * Turns expired keys into markers, deletes old markers, and deletes the keys of deleted buckets. Handles only the due keys of the
 * environment that are among the first `limit` due keys of all environments. Returns how many keys it has handled; while a
 * deleted bucket is left, a number above 0.
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
      bucketsOf(tx).touch(bucket)
      buckets.set(key, bucket)
    }
    return bucket
  }
  for (const row of rows) {
    yield* isolateRow(tx, "key", Number(row.entry), sweepEntry(tx, yield* bucketOf(Number(row.bucket)), row))
  }
  return rows.length + (yield* dropBuckets(environment, limit - rows.length))
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
  if (bucket.history > 1) bucket.bytes -= yield* forgetHistory(bucket.key, key, 0)
  yield* write(DELETE_ENTRY, bucket.key, key)
  bucket.dropped = Math.max(bucket.dropped, Number(row.revision))
}

const FIND_UNNAMED_BUCKET = statement(
  "KvSweep.findUnnamedBucket",
  "SELECT key FROM kv_buckets WHERE name IS NULL AND environment = ? LIMIT 1"
)

const DELETE_BUCKET = statement("KvSweep.deleteBucket", "DELETE FROM kv_buckets WHERE key = ?")

/**
 * Deletes at most `limit` entries of a deleted bucket (current and earlier revisions), and with the last entries the bucket
 * itself. Returns the number of deleted entries plus one, so that the number is above 0 while the bucket is left. Returns 0 when
 * there is no deleted bucket, or `limit` is 0.
 */
function* dropBuckets(environment: number, limit: number): Program<number> {
  const bucket = (yield* get(FIND_UNNAMED_BUCKET, environment))?.key
  if (bucket === undefined || limit <= 0) return 0
  let dropped = 0
  for (const table of ["kv_history", "kv_entries"]) {
    const rows = yield* all(
      variant("KvSweep.dropBuckets", `SELECT revision FROM ${table} WHERE bucket = ? LIMIT ?`),
      bucket,
      limit - dropped
    )
    for (const row of rows)
      yield* write(
        variant("KvSweep.dropBuckets", `DELETE FROM ${table} WHERE bucket = ? AND revision = ?`),
        bucket,
        row.revision!
      )
    dropped += rows.length
  }
  if (dropped < limit) yield* write(DELETE_BUCKET, bucket)
  return dropped + 1
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
    isSettled ? Number.POSITIVE_INFINITY : now + MARKERS_EVERY_MS
  )
}
