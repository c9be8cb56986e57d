/**
 * Configurations as the database keeps them: keys of a bucket that users cannot name, so that revisions, watches and
 * limits are those of keys.
 */
import { all, statement, type Program } from "./Program.ts"
import {
  BucketNotFoundError,
  ConfigNotFoundError,
  LimitExceededError,
  type RevisionGoneError
} from "../../Errors.ts"
import { kvValueBytes } from "../../Limits.ts"
import { ensureBucket, findBucket } from "./KvBuckets.ts"
import { PUT } from "./KvOperations.ts"
import { readChanges, readEntry } from "./KvRows.ts"
import { type KvRefusal, writeEntries } from "./KvWrites.ts"
import type { ConfigRow, KvChangePage, KvEntryRow } from "./Store.ts"
import type { Transaction } from "./Transaction.ts"
import { parseStored } from "./StoredJson.ts"

/** Stands for the bucket while there is none. */
const NO_BUCKET = 0

/** Bucket names of users begin with a letter or a digit. */
const CONFIG_BUCKET = "$config"

export function* setConfig(
  tx: Transaction,
  environment: string,
  name: string,
  data: string
): Program<number | LimitExceededError> {
  yield* ensureBucket(tx, environment, { name: CONFIG_BUCKET, maxValueBytes: kvValueBytes, history: 1 })
  const bytes = Buffer.from(data)
  if (bytes.byteLength > kvValueBytes) {
    return new LimitExceededError(`Configuration "${name}"`, bytes.byteLength, kvValueBytes, "bytes")
  }
  return revisionOf(
    yield* telling(
      tx,
      environment,
      writeEntries(tx, environment, CONFIG_BUCKET, [{ key: name, value: { type: "json", bytes } }])
    )
  )
}

/** Replaces the members that `patch`, JSON text of an object, has. */
export function* patchConfig(
  tx: Transaction,
  environment: string,
  name: string,
  patch: string
): Program<number | LimitExceededError | ConfigNotFoundError> {
  const config = yield* readConfig(tx, environment, name)
  if (!("data" in config)) return config
  // JSON.parse makes `__proto__` a member like any other, and so does a Map
  const members = new Map([...Object.entries(parseStored(config.data)), ...Object.entries(JSON.parse(patch))])
  return yield* setConfig(tx, environment, name, JSON.stringify(Object.fromEntries(members)))
}

export function* readConfig(
  tx: Transaction,
  environment: string,
  name: string
): Program<ConfigRow | ConfigNotFoundError> {
  const entry = yield* readEntry(tx, environment, CONFIG_BUCKET, name)
  return "value" in entry ? toConfig(entry) : new ConfigNotFoundError(name)
}

const LIST_CONFIGS = statement(
  "ConfigRows.listConfigs",
  `SELECT key, revision, value, created_at FROM kv_entries
       WHERE bucket = ? AND key > ? AND operation = ${PUT} ORDER BY key LIMIT ?`
)

/** At most `limit` after a name, by name. */
export function* listConfigs(
  tx: Transaction,
  environment: string,
  after: string,
  limit: number
): Program<Array<ConfigRow>> {
  const bucket = yield* findBucket(tx, environment, CONFIG_BUCKET)
  if (bucket === undefined) return []
  return (yield* all(LIST_CONFIGS, bucket.key, after, limit)).map((row) => ({
    name: String(row.key),
    data: Buffer.from(row.value as Uint8Array).toString(),
    revision: Number(row.revision),
    updatedAt: Number(row.created_at)
  }))
}

/** Deleting what is not there does nothing. */
export function* deleteConfig(tx: Transaction, environment: string, name: string): Program<void> {
  // without the bucket there is nothing to delete, and nothing else refuses to
  yield* telling(tx, environment, writeEntries(tx, environment, CONFIG_BUCKET, [{ key: name }]))
}

/** Tells of the configurations that `write` changes. */
function* telling<A>(tx: Transaction, environment: string, write: Program<A>): Program<A> {
  const before = tx.changes.kv.length
  const written = yield* write
  for (const { createdAt, key, operation, revision, value } of tx.changes.kv.slice(before)) {
    tx.changes.configs.push({
      environment,
      name: key,
      ...(operation === "put" ? { data: Buffer.from(value.bytes).toString() } : {}),
      revision,
      updatedAt: createdAt
    })
  }
  return written
}

const revisionOf = (written: Array<number> | KvRefusal): number => {
  if (Array.isArray(written)) return written[0] ?? 0
  // the bucket is there, has no limit that was not checked, and no revision was expected
  throw written
}

/** A watch may stand before there is any configuration. */
export function* readConfigChanges(
  tx: Transaction,
  environment: string,
  after: number | undefined,
  limit: number
): Program<KvChangePage | RevisionGoneError> {
  const page = yield* readChanges(tx, environment, CONFIG_BUCKET, after, limit)
  if (!(page instanceof BucketNotFoundError)) return page
  return { bucket: NO_BUCKET, changes: [], revision: after ?? 0, atEnd: true }
}

const toConfig = (entry: KvEntryRow): ConfigRow => ({
  name: entry.key,
  data: Buffer.from(entry.value.bytes).toString(),
  revision: entry.revision,
  updatedAt: entry.createdAt
})
