/** What is due of keys: values that expire, markers that are forgotten, and the keys of deleted buckets. */
import { type Bucket, bucketOfKey } from "./KvBuckets.ts"
import { PUT } from "./KvOperations.ts"
import { expire, forget } from "./KvWrites.ts"
import type { Row, Transaction } from "./Transaction.ts"

/** How often markers are looked at while the clock is not trusted with them, milliseconds. */
const MARKERS_EVERY_MS = 60 * 60 * 1000

/** Turns expired keys into markers, drops old markers, and deletes the keys of deleted buckets; at most `limit`. */
export const sweep = (tx: Transaction, limit: number): number => {
  const now = tx.now()
  const rows = tx.among(
    "key",
    ["SELECT rowid AS key FROM kv_entries WHERE due_at <= ?", now],
    `SELECT rowid AS entry, bucket, key, revision, operation, length(value) AS bytes FROM kv_entries
     WHERE due_at <= ? AND (operation = ${PUT} OR due_at <= ?)${tx.damage.except("key", "rowid")} ORDER BY due_at LIMIT ?`,
    now,
    // a value that has expired is gone; its marker and its history stay until that is sure
    tx.settledNow(),
    limit
  )
  const buckets = new Map<number, Bucket>()
  const bucketOf = (key: number): Bucket => {
    let bucket = buckets.get(key)
    if (bucket === undefined) {
      bucket = bucketOfKey(tx, key)
      tx.buckets.touch(bucket)
      buckets.set(key, bucket)
    }
    return bucket
  }
  for (const row of rows) {
    tx.apart("key", Number(row.entry), () => sweepEntry(tx, bucketOf(Number(row.bucket)), row))
  }
  return rows.length + dropBuckets(tx, limit - rows.length)
}

const sweepEntry = (tx: Transaction, bucket: Bucket, row: Row): void => {
  const key = String(row.key)
  if (Number(row.operation) === PUT) {
    expire(tx, bucket, key, {
      revision: Number(row.revision),
      operation: "put",
      alive: false,
      counted: true,
      bytes: Buffer.byteLength(key) + Number(row.bytes)
    })
    return
  }
  if (bucket.history > 1) bucket.bytes -= forget(tx, bucket.key, key, 0)
  tx.run("DELETE FROM kv_entries WHERE bucket = ? AND key = ?", bucket.key, key)
  bucket.dropped = Math.max(bucket.dropped, Number(row.revision))
}

const dropBuckets = (tx: Transaction, limit: number): number => {
  const bucket = tx.get("SELECT key FROM kv_buckets WHERE name IS NULL LIMIT 1")?.key
  if (bucket === undefined || limit <= 0) return 0
  let dropped = 0
  for (const table of ["kv_history", "kv_entries"]) {
    const rows = tx.all(`SELECT revision FROM ${table} WHERE bucket = ? LIMIT ?`, bucket, limit - dropped)
    for (const row of rows)
      tx.run(`DELETE FROM ${table} WHERE bucket = ? AND revision = ?`, bucket, row.revision!)
    dropped += rows.length
  }
  if (dropped < limit) tx.run("DELETE FROM kv_buckets WHERE key = ?", bucket)
  return dropped + 1
}

/** When the next key expires, a marker is dropped, or a deleted bucket has keys left. */
export const nextSweepAt = (tx: Transaction): number => {
  const now = tx.now()
  const isSettled = tx.settledNow() === now
  const row = tx.get(
    `SELECT (SELECT due_at FROM kv_entries WHERE due_at IS NOT NULL${isSettled ? "" : ` AND operation = ${PUT}`}${tx.damage.except("key", "rowid")} ORDER BY due_at LIMIT 1) AS entry,
       (SELECT 1 FROM kv_buckets WHERE name IS NULL LIMIT 1) AS bucket`
  )
  if (row?.bucket !== null && row?.bucket !== undefined) return now
  return Math.min(
    row?.entry == null ? Number.POSITIVE_INFINITY : Number(row.entry),
    // for the markers that are kept meanwhile
    isSettled ? Number.POSITIVE_INFINITY : now + MARKERS_EVERY_MS
  )
}
