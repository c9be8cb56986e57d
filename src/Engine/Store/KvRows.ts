/**
 * Buckets and keys as the database keeps them.
 *
 * `kv_entries` has one row a key: its value, or a marker of how it went away, which watchers are told and which is dropped
 * after a day. `kv_history` has earlier revisions, as many as the bucket keeps. Whatever changes a key takes the next
 * revision of its bucket, so that a revision has one winner (guarantee G13).
 *
 * What is refused comes back as an error and not thrown, before anything has been written: these functions can be part of
 * a larger transaction. An expired key is told from a live one by its time, whether or not it has been swept.
 */
import {
  BucketExistsError,
  BucketNotFoundError,
  IronflowError,
  KeyNotFoundError,
  LimitExceededError,
  RevisionConflictError,
  RevisionGoneError,
  withoutStack
} from "../../Errors.ts"
import type { StoredValue, ValueType } from "../../KvValue.ts"
import type { KvBucketRow, KvChangePage, KvEntryRow, KvOperation, KvWriteRow, NewKvBucket } from "./Store.ts"
import type { Row, Transaction } from "./Transaction.ts"

/** How operations and types are stored; the order is part of the database. */
const operations = ["put", "delete", "purge", "expire"] as const satisfies ReadonlyArray<KvOperation>
const types = ["json", "text", "bytes", "raw"] as const satisfies ReadonlyArray<ValueType>

const PUT = operations.indexOf("put")

/** How long a marker is kept, milliseconds: a watcher that was away for longer has to begin again. */
export const MARKER_MS = 24 * 60 * 60 * 1000

/** The highest revision of any bucket that was deleted: one made anew goes on after it, so that no old revision fits. */
const FLOOR = "kv_revision"

const nothing = new Uint8Array()

// ---------------------------------------------------------------------------------------------------------------------
// Buckets
// ---------------------------------------------------------------------------------------------------------------------

interface Bucket {
  readonly key: number
  readonly name: string
  readonly ttlMs: number | undefined
  readonly maxValueBytes: number
  readonly maxBytes: number | undefined
  readonly history: number
  revision: number
  bytes: number
  values: number
}

const optionalNumber = (value: Row[string] | undefined): number | undefined =>
  value === null || value === undefined ? undefined : Number(value)

const toBucket = (row: Row): Bucket => ({
  key: Number(row.key),
  name: String(row.name),
  ttlMs: optionalNumber(row.ttl_ms),
  maxValueBytes: Number(row.max_value_bytes),
  maxBytes: optionalNumber(row.max_bytes),
  history: Number(row.history),
  revision: Number(row.revision),
  bytes: Number(row.bytes),
  values: Number(row.value_count)
})

const findBucket = (tx: Transaction, environment: string, name: string): Row | undefined => {
  const key = tx.findEnvironment(environment)
  return key === undefined
    ? // it may have come into being in this very transaction
      tx.get(
        `SELECT * FROM kv_buckets
         WHERE environment = (SELECT key FROM environments WHERE name = ?) AND name = ?`,
        environment,
        name
      )
    : tx.get("SELECT * FROM kv_buckets WHERE environment = ? AND name = ?", key, name)
}

export const createBucket = (
  tx: Transaction,
  environment: string,
  bucket: NewKvBucket
): KvBucketRow | BucketExistsError => {
  const created = tx.run(
    `INSERT INTO kv_buckets (environment, name, description, ttl_ms, max_value_bytes, max_bytes, history, revision, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, coalesce((SELECT value FROM meta WHERE name = '${FLOOR}'), 0), ?)
     ON CONFLICT DO NOTHING`,
    tx.environment(environment),
    bucket.name,
    bucket.description ?? null,
    bucket.ttlMs ?? null,
    bucket.maxValueBytes,
    bucket.maxBytes ?? null,
    bucket.history,
    tx.now()
  )
  if (created === 0) return new BucketExistsError(bucket.name)
  return toBucketRow(
    tx,
    tx.get(
      "SELECT * FROM kv_buckets WHERE environment = ? AND name = ?",
      tx.environment(environment),
      bucket.name
    )!
  )
}

/** Those whose name a user can give, by name. */
export const listBuckets = (tx: Transaction, environment: string): Array<KvBucketRow> => {
  const key = tx.findEnvironment(environment)
  if (key === undefined) return []
  return tx
    .all("SELECT * FROM kv_buckets WHERE environment = ? AND name NOT LIKE '$%' ORDER BY name", key)
    .map((row) => toBucketRow(tx, row))
}

export const readBucket = (
  tx: Transaction,
  environment: string,
  name: string
): KvBucketRow | BucketNotFoundError => {
  const row = findBucket(tx, environment, name)
  return row === undefined ? new BucketNotFoundError(name) : toBucketRow(tx, row)
}

/** Keys that have expired and are still there do not count. */
const toBucketRow = (tx: Transaction, row: Row): KvBucketRow => {
  const bucket = toBucket(row)
  const expired = tx.get(
    `SELECT count(*) AS keys, coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0) AS bytes FROM kv_entries
     WHERE due_at <= ? AND bucket = ? AND operation = ${PUT}`,
    tx.now(),
    bucket.key
  )
  return {
    name: bucket.name,
    ...(row.description === null ? {} : { description: String(row.description) }),
    ...(bucket.ttlMs === undefined ? {} : { ttlMs: bucket.ttlMs }),
    maxValueBytes: bucket.maxValueBytes,
    ...(bucket.maxBytes === undefined ? {} : { maxBytes: bucket.maxBytes }),
    history: bucket.history,
    revision: bucket.revision,
    values: bucket.values - Number(expired?.keys),
    bytes: bucket.bytes - Number(expired?.bytes),
    createdAt: Number(row.created_at)
  }
}

/** The name is free at once; the keys go in small batches, as what is due. */
export const deleteBucket = (
  tx: Transaction,
  environment: string,
  name: string
): BucketNotFoundError | undefined => {
  const row = findBucket(tx, environment, name)
  if (row === undefined) return new BucketNotFoundError(name)
  const bucket = Number(row.key)
  tx.run("UPDATE kv_buckets SET name = NULL WHERE key = ?", bucket)
  tx.run(
    `INSERT INTO meta (name, value) VALUES ('${FLOOR}', ?) ON CONFLICT DO UPDATE SET value = max(value, excluded.value)`,
    Number(row.revision)
  )
  tx.changes.kvDeleted.push(bucket)
  tx.markDue(tx.now())
  return undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading
// ---------------------------------------------------------------------------------------------------------------------

const ENTRY = "key, revision, operation, type, value, created_at"

const bytesOf = (value: Row[string] | undefined): Uint8Array =>
  // the column holds nothing else
  value instanceof Uint8Array ? value : nothing

const toEntry = (row: Row, expiresAt: Row[string] | undefined): KvEntryRow => ({
  key: String(row.key),
  revision: Number(row.revision),
  operation: operations[Number(row.operation)] ?? "put",
  value: { type: types[Number(row.type)] ?? "raw", bytes: bytesOf(row.value) },
  createdAt: Number(row.created_at),
  ...(Number(row.operation) !== PUT || expiresAt === null || expiresAt === undefined
    ? {}
    : { expiresAt: Number(expiresAt) })
})

export const readEntry = (
  tx: Transaction,
  environment: string,
  name: string,
  key: string
): KvEntryRow | BucketNotFoundError | KeyNotFoundError => {
  const bucket = findBucket(tx, environment, name)
  if (bucket === undefined) return new BucketNotFoundError(name)
  const row = tx.get(
    `SELECT ${ENTRY}, due_at FROM kv_entries
     WHERE bucket = ? AND key = ? AND operation = ${PUT} AND (due_at IS NULL OR due_at > ?)`,
    bucket.key!,
    key,
    tx.now()
  )
  return row === undefined ? new KeyNotFoundError(name, key) : toEntry(row, row.due_at)
}

/** Oldest first. Nothing of an expired key can be read. */
export const readHistory = (
  tx: Transaction,
  environment: string,
  name: string,
  key: string
): Array<KvEntryRow> | BucketNotFoundError | KeyNotFoundError => {
  const bucket = findBucket(tx, environment, name)
  if (bucket === undefined) return new BucketNotFoundError(name)
  const now = tx.now()
  const last = tx.get(
    `SELECT ${ENTRY}, due_at FROM kv_entries WHERE bucket = ? AND key = ? AND (due_at IS NULL OR due_at > ?)`,
    bucket.key!,
    key,
    now
  )
  if (last === undefined || Number(last.operation) > operations.indexOf("delete"))
    return new KeyNotFoundError(name, key)
  const earlier = tx.all(
    `SELECT ${ENTRY}, expires_at FROM kv_history
     WHERE bucket = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?) ORDER BY revision`,
    bucket.key!,
    key,
    now
  )
  return [...earlier.map((row) => toEntry(row, row.expires_at)), toEntry(last, last.due_at)]
}

/** The keys that have a value, in order. */
export const listKeys = (
  tx: Transaction,
  environment: string,
  name: string,
  accepts: (key: string) => boolean
): Array<string> | BucketNotFoundError => {
  const bucket = findBucket(tx, environment, name)
  if (bucket === undefined) return new BucketNotFoundError(name)
  return tx
    .all(
      `SELECT key FROM kv_entries WHERE bucket = ? AND operation = ${PUT} AND (due_at IS NULL OR due_at > ?) ORDER BY key`,
      bucket.key!,
      tx.now()
    )
    .map((row) => String(row.key))
    .filter(accepts)
}

/**
 * What is kept of the changes after a revision, in order: the latest of each key, and earlier ones in the history. `after`
 * is `undefined` for the end.
 */
export const readChanges = (
  tx: Transaction,
  environment: string,
  name: string,
  after: number | undefined,
  limit: number
): KvChangePage | BucketNotFoundError | RevisionGoneError => {
  const bucket = findBucket(tx, environment, name)
  if (bucket === undefined) return new BucketNotFoundError(name)
  const key = Number(bucket.key)
  const end = Number(bucket.revision)
  if (after === undefined || after >= end)
    return { bucket: key, changes: [], revision: after ?? end, atEnd: true }
  // whoever begins at 0 knows of no keys that could have gone
  if (after > 0 && after < Number(bucket.dropped)) return new RevisionGoneError(name, after)
  const now = tx.now()
  const rows = tx.all(
    `SELECT ${ENTRY} FROM kv_entries
     WHERE bucket = ?1 AND revision > ?2 AND (operation <> ${PUT} OR due_at IS NULL OR due_at > ?3)
     UNION ALL
     SELECT ${ENTRY} FROM kv_history WHERE bucket = ?1 AND revision > ?2 AND (expires_at IS NULL OR expires_at > ?3)
     ORDER BY revision LIMIT ?4`,
    key,
    after,
    now,
    limit
  )
  const atEnd = rows.length < limit
  return {
    bucket: key,
    changes: rows.map((row) => ({ ...toEntry(row, null), bucket: key })),
    revision: atEnd ? end : Number(rows.at(-1)?.revision ?? end),
    atEnd
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing
// ---------------------------------------------------------------------------------------------------------------------

/** What is at a key now. */
interface Present {
  readonly revision: number
  readonly operation: KvOperation
  /** Whether it can be read. */
  readonly alive: boolean
  /** Whether it is counted among the values of the bucket. */
  readonly counted: boolean
  readonly bytes: number
}

const findPresent = (tx: Transaction, bucket: Bucket, key: string): Present | undefined => {
  const row = tx.get(
    "SELECT revision, operation, length(value) AS bytes, due_at FROM kv_entries WHERE bucket = ? AND key = ?",
    bucket.key,
    key
  )
  if (row === undefined) return undefined
  const counted = Number(row.operation) === PUT
  return {
    revision: Number(row.revision),
    operation: operations[Number(row.operation)] ?? "put",
    alive: counted && (row.due_at === null || Number(row.due_at) > tx.now()),
    counted,
    bytes: counted ? Buffer.byteLength(key) + Number(row.bytes) : 0
  }
}

export type KvRefusal = BucketNotFoundError | RevisionConflictError | LimitExceededError

/**
 * Makes changes of different keys, all or none, and returns their revisions; what refuses them comes back before anything
 * is written.
 */
export const writeEntries = (
  tx: Transaction,
  environment: string,
  name: string,
  writes: ReadonlyArray<KvWriteRow>
): Array<number> | KvRefusal => {
  const plan = planWrites(tx, environment, name, writes)
  return plan instanceof IronflowError ? plan : carryOutPlan(tx, plan)
}

/** Changes of different keys of a bucket that nothing speaks against, as long as nothing else writes to the bucket. */
export interface KvPlan {
  readonly bucket: Bucket
  readonly writes: ReadonlyArray<KvWriteRow>
  readonly present: ReadonlyArray<Present | undefined>
}

/** Looks at what changes would meet, and writes nothing. */
export const planWrites = (
  tx: Transaction,
  environment: string,
  name: string,
  writes: ReadonlyArray<KvWriteRow>
): KvPlan | KvRefusal => {
  const row = findBucket(tx, environment, name)
  if (row === undefined) return new BucketNotFoundError(name)
  const bucket = toBucket(row)

  const present = writes.map(({ key }) => findPresent(tx, bucket, key))
  for (const [i, write] of writes.entries()) {
    const refusal = refuse(bucket, write, present[i])
    if (refusal !== undefined) return refusal
  }
  const full = checkRoom(tx, bucket, writes, present)
  return full ?? { bucket, writes, present }
}

/** Returns the revisions of the keys. */
export const carryOutPlan = (tx: Transaction, { bucket, present, writes }: KvPlan): Array<number> => {
  const revisions = writes.map((write, i) => apply(tx, bucket, write, present[i]))
  saveBucket(tx, bucket)
  return revisions
}

const refuse = (bucket: Bucket, write: KvWriteRow, present: Present | undefined): KvRefusal | undefined => {
  const actual = present?.alive === true ? present.revision : 0
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

const checkRoom = (
  tx: Transaction,
  bucket: Bucket,
  writes: ReadonlyArray<KvWriteRow>,
  present: ReadonlyArray<Present | undefined>
): LimitExceededError | undefined => {
  if (bucket.maxBytes === undefined || !writes.some(({ value }) => value !== undefined)) return undefined
  let after = bucket.bytes
  for (const [i, { key, value }] of writes.entries()) {
    if (value !== undefined) after += Buffer.byteLength(key) + value.bytes.byteLength
    // what is replaced goes where no history is kept; where one is, it may stay or make something older go
    if (bucket.history === 1) after -= present[i]?.bytes ?? 0
    else after -= prunedBytes(tx, bucket, key, present[i])
  }
  if (after <= bucket.maxBytes) return undefined
  // keys that have expired and wait to be swept take no room
  const expired = tx.get(
    `SELECT coalesce(sum(length(CAST(key AS BLOB)) + length(value)), 0) AS bytes FROM kv_entries
     WHERE due_at <= ? AND bucket = ? AND operation = ${PUT}`,
    tx.now(),
    bucket.key
  )
  if (after - Number(expired?.bytes) <= bucket.maxBytes) return undefined
  return new LimitExceededError(`Bucket "${bucket.name}" with this write`, after, bucket.maxBytes, "bytes")
}

/** Bytes of the history that a write of the key will drop. */
const prunedBytes = (tx: Transaction, bucket: Bucket, key: string, present: Present | undefined): number => {
  if (present === undefined) return 0
  const row = tx.get(
    `SELECT coalesce(sum(bytes), 0) AS bytes FROM (
       SELECT length(value) + length(CAST(key AS BLOB)) * (operation = ${PUT}) AS bytes FROM kv_history
       WHERE bucket = ? AND key = ? ORDER BY revision DESC LIMIT -1 OFFSET ?)`,
    bucket.key,
    key,
    bucket.history - 2
  )
  return Number(row?.bytes)
}

/** Makes one change that nothing speaks against; returns its revision. */
const apply = (tx: Transaction, bucket: Bucket, write: KvWriteRow, found: Present | undefined): number => {
  const { key, value } = write
  // it has expired and was not swept yet: those who watch hear of both
  const present =
    value !== undefined && found?.counted === true && !found.alive ? expire(tx, bucket, key, found) : found
  // deleting what is not there changes nothing
  if (value === undefined && (write.purge === true ? present === undefined : present?.alive !== true))
    return present?.revision ?? 0
  if (value === undefined && write.purge === true) return leaveMarker(tx, bucket, key, present, "purge")
  if (value === undefined && bucket.history === 1) return leaveMarker(tx, bucket, key, present, "delete")

  if (present !== undefined && bucket.history > 1 && isKept(present.operation))
    remember(tx, bucket, key, present)
  else bucket.bytes -= present?.bytes ?? 0
  if (present?.counted === true) bucket.values--
  const now = tx.now()
  const revision = ++bucket.revision
  if (value !== undefined) {
    bucket.values++
    bucket.bytes += Buffer.byteLength(key) + value.bytes.byteLength
  }
  const dueAt = value === undefined ? now + MARKER_MS : bucket.ttlMs === undefined ? null : now + bucket.ttlMs
  store(tx, bucket.key, key, revision, value === undefined ? "delete" : "put", value, dueAt)
  return revision
}

/** How a key expired or was purged is told to those who watch, and is no part of its history. */
const isKept = (operation: KvOperation): boolean => operation === "put" || operation === "delete"

const expire = (tx: Transaction, bucket: Bucket, key: string, present: Present): Present => ({
  revision: leaveMarker(tx, bucket, key, present, "expire"),
  operation: "expire",
  alive: false,
  counted: false,
  bytes: 0
})

const store = (
  tx: Transaction,
  bucket: number,
  key: string,
  revision: number,
  operation: KvOperation,
  value: StoredValue | undefined,
  dueAt: number | null
): void => {
  const now = tx.now()
  tx.run(
    `INSERT INTO kv_entries (bucket, key, revision, operation, type, value, created_at, due_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (bucket, key) DO UPDATE SET revision = excluded.revision, operation = excluded.operation,
       type = excluded.type, value = excluded.value, created_at = excluded.created_at, due_at = excluded.due_at`,
    bucket,
    key,
    revision,
    operations.indexOf(operation),
    value === undefined ? 0 : types.indexOf(value.type),
    value?.bytes ?? nothing,
    now,
    dueAt
  )
  if (dueAt !== null) tx.markDue(dueAt)
  tx.changes.kv.push({
    bucket,
    key,
    revision,
    operation,
    value: value ?? { type: "raw", bytes: nothing },
    createdAt: now
  })
}

/** Moves what is at a key into its history, and drops what is older than the bucket keeps. */
const remember = (tx: Transaction, bucket: Bucket, key: string, present: Present): void => {
  tx.run(
    `INSERT INTO kv_history (bucket, key, revision, operation, type, value, created_at, expires_at)
     SELECT bucket, key, revision, operation, type, value, created_at, iif(operation = ${PUT}, due_at, NULL)
     FROM kv_entries WHERE bucket = ? AND key = ? AND revision = ?`,
    bucket.key,
    key,
    present.revision
  )
  bucket.bytes -= forget(tx, bucket.key, key, bucket.history - 1)
}

/** Drops the history of a key but for its newest `keep` entries; returns the bytes that they had. */
const forget = (tx: Transaction, bucket: number, key: string, keep: number): number => {
  const rows = tx.all(
    `SELECT revision, operation, length(value) AS bytes FROM kv_history
     WHERE bucket = ? AND key = ? ORDER BY revision DESC LIMIT -1 OFFSET ?`,
    bucket,
    key,
    keep
  )
  let bytes = 0
  for (const row of rows) {
    tx.run("DELETE FROM kv_history WHERE bucket = ? AND key = ? AND revision = ?", bucket, key, row.revision!)
    if (Number(row.operation) === PUT) bytes += Buffer.byteLength(key) + Number(row.bytes)
  }
  return bytes
}

/** Replaces a key with all its history by a marker of how it went away. */
const leaveMarker = (
  tx: Transaction,
  bucket: Bucket,
  key: string,
  present: Present | undefined,
  operation: "delete" | "purge" | "expire"
): number => {
  bucket.bytes -= present?.bytes ?? 0
  if (bucket.history > 1) bucket.bytes -= forget(tx, bucket.key, key, 0)
  if (present?.counted === true) bucket.values--
  const revision = ++bucket.revision
  store(tx, bucket.key, key, revision, operation, undefined, tx.now() + MARKER_MS)
  return revision
}

const saveBucket = (tx: Transaction, bucket: Bucket): void =>
  void tx.run(
    "UPDATE kv_buckets SET revision = ?, bytes = ?, value_count = ? WHERE key = ?",
    bucket.revision,
    bucket.bytes,
    bucket.values,
    bucket.key
  )

// ---------------------------------------------------------------------------------------------------------------------
// What is due
// ---------------------------------------------------------------------------------------------------------------------

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
      bucket = toBucket(tx.get("SELECT * FROM kv_buckets WHERE key = ?", key)!)
      buckets.set(key, bucket)
    }
    sweepEntry(tx, bucket, row)
  }
  for (const bucket of buckets.values()) saveBucket(tx, bucket)
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
  tx.run("UPDATE kv_buckets SET dropped = max(dropped, ?) WHERE key = ?", row.revision!, bucket.key)
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
