/**
 * Rows of buckets, and their cache.
 *
 * Every call on keys names a bucket, and every write advances the revision of the bucket. So rows that were read stay in memory.
 * Rows that a transaction has changed are written once, before it commits. After a rollback, these rows are removed from the
 * cache.
 */
import { defineCache } from "../Store/Cache.ts"
import {
  all,
  forEach,
  get,
  insert,
  statement,
  type Program,
  write,
  inEnvironment,
  refuse
} from "../Store/Program.ts"
import { BucketExistsError, BucketNotFoundError } from "../../Errors.ts"
import { PUT_CODE } from "./KvCodes.ts"
import { ALL, type ListPage } from "../Pages.ts"
import type { KvBucketRow, NewKvBucket } from "./KvRecords.ts"
import type { Row, Transaction } from "../Store/Transaction.ts"

/**
 * The name of the row in `meta` with the highest revision of any deleted bucket. The revisions of a new bucket begin after this
 * one, so that a revision of a deleted bucket never matches a key of the new bucket.
 */
const REVISION_FLOOR = "kv_revision"

/** How many buckets are cached. While changed buckets wait to be saved, more may be cached. */
const MAX_CACHED_BUCKETS = 10_000

export interface Bucket {
  readonly key: number
  readonly environment: number
  /** The name; empty once the bucket is deleted. */
  readonly name: string
  readonly description: string | undefined
  readonly ttlMs: number | undefined
  readonly maxValueBytes: number
  readonly maxBytes: number | undefined
  readonly history: number
  readonly createdAt: number
  revision: number
  /** The highest revision of all markers (see `KvRows.ts`) that were deleted. */
  droppedRevision: number
  bytes: number
  values: number
}

const optionalNumber = (value: Row[string] | undefined): number | undefined =>
  value === null || value === undefined ? undefined : Number(value)

const toBucket = (row: Row): Bucket => ({
  key: Number(row.key),
  environment: Number(row.environment),
  name: String(row.name ?? ""),
  description: row.description === null ? undefined : String(row.description),
  ttlMs: optionalNumber(row.ttl_ms),
  maxValueBytes: Number(row.max_value_bytes),
  maxBytes: optionalNumber(row.max_bytes),
  history: Number(row.history),
  createdAt: Number(row.created_at),
  revision: Number(row.revision),
  droppedRevision: Number(row.dropped),
  bytes: Number(row.bytes),
  values: Number(row.value_count)
})

const UPDATE_BUCKET = statement(
  "KvBuckets.updateBucket",
  "UPDATE kv_buckets SET revision = ?, dropped = ?, bytes = ?, value_count = ? WHERE key = ?"
)

/** The cached buckets. */
class Buckets {
  readonly #cached = new Map<string, Bucket>()
  readonly #changed = new Set<Bucket>()

  get(environment: number, name: string): Bucket | undefined {
    return this.#cached.get(`${environment} ${name}`)
  }

  remember(bucket: Bucket): Bucket {
    // the cache is not cleared while changed buckets wait to be saved
    if (this.#cached.size >= MAX_CACHED_BUCKETS && this.#changed.size === 0) this.#cached.clear()
    this.#cached.set(`${bucket.environment} ${bucket.name}`, bucket)
    return bucket
  }

  forget(bucket: Bucket): void {
    this.#cached.delete(`${bucket.environment} ${bucket.name}`)
  }

  /** Notes that the bucket changes in this transaction. */
  noteChange(bucket: Bucket): void {
    this.#changed.add(bucket)
  }

  /** Writes the buckets that the transaction has changed. Called before the commit. */
  *save(): Program<void> {
    for (const bucket of this.#changed) {
      yield* write(
        UPDATE_BUCKET,
        bucket.revision,
        bucket.droppedRevision,
        bucket.bytes,
        bucket.values,
        bucket.key
      )
    }
  }

  committed(): void {
    this.#changed.clear()
  }

  /** Clears the cache. Called when other engines have written. */
  clear(): void {
    this.#cached.clear()
  }

  rolledBack(): void {
    for (const bucket of this.#changed) this.forget(bucket)
    this.#changed.clear()
  }
}

export const bucketsOf = defineCache<Buckets>({
  make: () => new Buckets(),
  invalidate: (buckets) => buckets.clear(),
  save: (buckets) => buckets.save(),
  committed: (buckets) => buckets.committed(),
  rolledBack: (buckets) => buckets.rolledBack()
})

const FIND_ENVIRONMENT = statement("KvBuckets.findEnvironment", "SELECT key FROM environments WHERE name = ?")

const FIND_BUCKET = statement(
  "KvBuckets.findBucket",
  "SELECT * FROM kv_buckets WHERE environment = ? AND name = ?"
)

export function* findBucket(tx: Transaction, environment: string, name: string): Program<Bucket | undefined> {
  const key =
    tx.findEnvironment(environment) ??
    // this transaction may have created the environment, and `findEnvironment` does not know it until the commit
    (yield* get(FIND_ENVIRONMENT, environment))?.key
  if (key === undefined) return undefined
  const known = bucketsOf(tx).get(Number(key), name)
  if (known !== undefined) return known
  const row = yield* get(FIND_BUCKET, key, name)
  return row === undefined ? undefined : bucketsOf(tx).remember(toBucket(row))
}

const FIND_BUCKET_OF_KEY = statement("KvBuckets.findBucketOfKey", "SELECT * FROM kv_buckets WHERE key = ?")

/** The bucket with this key of the table. The row of a deleted bucket exists until its last entry is deleted. */
export function* bucketOfKey(tx: Transaction, key: number): Program<Bucket> {
  const bucket = toBucket((yield* get(FIND_BUCKET_OF_KEY, key))!)
  if (bucket.name === "") return bucket
  return bucketsOf(tx).get(bucket.environment, bucket.name) ?? bucketsOf(tx).remember(bucket)
}

const READ_REVISION_FLOOR = statement(
  "KvBuckets.readRevisionFloor",
  `SELECT value FROM meta WHERE name = '${REVISION_FLOOR}'`
)

const INSERT_BUCKET = statement(
  "KvBuckets.insertBucket",
  `INSERT INTO kv_buckets (environment, name, description, ttl_ms, max_value_bytes, max_bytes, history, revision, created_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`
)

const FIND_NEW_BUCKET = statement("KvBuckets.findNewBucket", "SELECT * FROM kv_buckets WHERE key = ?")

/** The bucket with this name, which is created if it does not exist. */
export function* ensureBucket(tx: Transaction, environment: string, bucket: NewKvBucket): Program<Bucket> {
  const found = yield* findBucket(tx, environment, bucket.name)
  if (found !== undefined) return found
  const floor = (yield* get(READ_REVISION_FLOOR))?.value ?? 0
  const key = yield* insert(
    INSERT_BUCKET,
    tx.environment(environment),
    bucket.name,
    bucket.description ?? null,
    bucket.ttlMs ?? null,
    bucket.maxValueBytes,
    bucket.maxBytes ?? null,
    bucket.history,
    floor,
    tx.now()
  )
  const created = bucketsOf(tx).remember(toBucket((yield* get(FIND_NEW_BUCKET, key))!))
  bucketsOf(tx).noteChange(created)
  return created
}

export const createBucket = inEnvironment(
  "createBucket",
  function* (
    tx: Transaction,
    environment: string,
    bucket: NewKvBucket
  ): Program<KvBucketRow, BucketExistsError> {
    return (yield* findBucket(tx, environment, bucket.name)) === undefined
      ? yield* toBucketRow(tx, yield* ensureBucket(tx, environment, bucket))
      : yield* refuse(new BucketExistsError(bucket.name))
  },
  (_, bucket) => `create bucket "${bucket.name}"`
)

const LIST_BUCKETS = statement(
  "KvBuckets.listBuckets",
  "SELECT * FROM kv_buckets WHERE environment = ? AND name > ? AND name NOT LIKE '$%' ORDER BY name LIMIT ?"
)

/** The buckets of users, ordered by name, without the engine's own buckets. */
export const listBuckets = inEnvironment(
  "listBuckets",
  function* (
    tx: Transaction,
    environment: string,
    { after, limit }: ListPage = ALL
  ): Program<Array<KvBucketRow>> {
    const key = tx.findEnvironment(environment)
    if (key === undefined) return []
    return yield* forEach(yield* all(LIST_BUCKETS, key, after, limit), (row) =>
      toBucketRow(tx, toBucket(row))
    )
  },
  () => "list buckets"
)

export const readBucket = inEnvironment(
  "readBucket",
  function* (tx: Transaction, environment: string, name: string): Program<KvBucketRow, BucketNotFoundError> {
    const bucket = yield* findBucket(tx, environment, name)
    if (bucket === undefined) return yield* refuse(new BucketNotFoundError(name))
    return yield* toBucketRow(tx, bucket)
  },
  (_, name) => `read bucket "${name}"`
)

/** The bucket as clients see it. Expired keys do not count, even if they were not swept yet. */
function* toBucketRow(tx: Transaction, bucket: Bucket): Program<KvBucketRow> {
  const expired = yield* readExpired(tx, bucket)
  return {
    name: bucket.name,
    ...(bucket.description === undefined ? {} : { description: bucket.description }),
    ...(bucket.ttlMs === undefined ? {} : { ttlMs: bucket.ttlMs }),
    maxValueBytes: bucket.maxValueBytes,
    ...(bucket.maxBytes === undefined ? {} : { maxBytes: bucket.maxBytes }),
    history: bucket.history,
    revision: bucket.revision,
    values: bucket.values - expired.values,
    bytes: bucket.bytes - expired.bytes,
    createdAt: bucket.createdAt
  }
}

const COUNT_EXPIRED_ENTRIES = statement(
  "KvBuckets.countExpiredEntries",
  `SELECT count(*) AS keys, coalesce(sum(octet_length(key) + length(value)), 0) AS bytes FROM kv_entries
     WHERE due_at <= ? AND bucket = ? AND operation = ${PUT_CODE}`
)

/** Counts those expired keys of a bucket that were not swept yet, and their bytes. */
export function* readExpired(
  tx: Transaction,
  bucket: Bucket
): Program<{ readonly values: number; readonly bytes: number }> {
  if (bucket.ttlMs === undefined) return { values: 0, bytes: 0 }
  const row = yield* get(COUNT_EXPIRED_ENTRIES, tx.now(), bucket.key)
  return { values: Number(row?.keys), bytes: Number(row?.bytes) }
}

const REMOVE_BUCKET_NAME = statement(
  "KvBuckets.removeBucketName",
  "UPDATE kv_buckets SET name = NULL, revision = ? WHERE key = ?"
)

const RAISE_REVISION_FLOOR = statement(
  "KvBuckets.raiseRevisionFloor",
  `INSERT INTO meta (name, value) VALUES ('${REVISION_FLOOR}', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE CAST(excluded.value AS BIGINT) > CAST(meta.value AS BIGINT)`
)

/** Deletes a bucket. The name of the bucket is free at once; the keys are deleted later, in small batches. */
export const deleteBucket = inEnvironment(
  "deleteBucket",
  function* (tx: Transaction, environment: string, name: string): Program<undefined, BucketNotFoundError> {
    const bucket = yield* findBucket(tx, environment, name)
    if (bucket === undefined) return yield* refuse(new BucketNotFoundError(name))
    // stores the revision too, because this transaction may not have saved it yet. Keys that expire before their deletion take
    // the next revisions, and `KvSweep.ts` deletes entries by revision
    yield* write(REMOVE_BUCKET_NAME, bucket.revision, bucket.key)
    yield* write(RAISE_REVISION_FLOOR, bucket.revision)
    bucketsOf(tx).forget(bucket)
    tx.changes.deletedBuckets.push(bucket.key)
    tx.markDue(tx.now())
    return undefined
  },
  (_, name) => `delete bucket "${name}"`
)
