/** What is due of keys: values that expire, markers that are forgotten, and the keys of deleted buckets. */
import { type Bucket, bucketOfKey } from "./KvBuckets.ts"
import { PUT } from "./KvOperations.ts"
import { expire, forget } from "./KvWrites.ts"
import type { Row, Transaction } from "./Transaction.ts"

/** Turns expired keys into markers, drops old markers, and deletes the keys of deleted buckets; at most `limit`. */
export const sweep = (tx: Transaction, limit: number): number => {
  const rows = tx.all(
    "SELECT bucket, key, revision, operation, length(value) AS bytes FROM kv_entries WHERE due_at <= ? ORDER BY due_at LIMIT ?",
    tx.now(),
    limit
  )
  const buckets = new Map<number, Bucket>()
  for (const row of rows) {
    const key = Number(row.bucket)
    let bucket = buckets.get(key)
    if (bucket === undefined) {
      bucket = bucketOfKey(tx, key)
      tx.buckets.touch(bucket)
      buckets.set(key, bucket)
    }
    sweepEntry(tx, bucket, row)
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
  const row = tx.get(
    `SELECT (SELECT min(due_at) FROM kv_entries WHERE due_at IS NOT NULL) AS entry,
       (SELECT 1 FROM kv_buckets WHERE name IS NULL LIMIT 1) AS bucket`
  )
  if (row?.bucket !== null && row?.bucket !== undefined) return tx.now()
  return row?.entry == null ? Number.POSITIVE_INFINITY : Number(row.entry)
}
