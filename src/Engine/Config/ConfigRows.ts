/**
 * Rows of configurations. Each environment has a bucket with a reserved name, in which every configuration is a key. So revisions,
 * watches and limits of configurations work like those of other keys.
 */
import { attempt, all, statement, type Program, inEnvironment, refuse } from "../Store/Program.ts"
import {
  BucketNotFoundError,
  ConfigNotFoundError,
  LimitExceededError,
  RevisionGoneError,
  type RevisionConflictError
} from "../../Errors.ts"
import { kvValueBytes } from "../../Limits.ts"
import { ensureBucket, findBucket } from "../Kv/KvBuckets.ts"
import { PUT_CODE } from "../Kv/KvCodes.ts"
import { readChanges, readEntry } from "../Kv/KvRows.ts"
import { writeEntries } from "../Kv/KvWrites.ts"
import type { KvChangePage, KvEntryRow } from "../Kv/KvRecords.ts"
import type { Transaction } from "../Store/Transaction.ts"
import { parseStored } from "../Store/StoredJson.ts"
import type { JsonText } from "../../Json.ts"

/** For a watch, the number of the bucket as long as the bucket does not exist. */
const NO_BUCKET = 0

/** The name of the bucket. No user can create this bucket, because names that users give begin with a letter or a digit. */
const CONFIG_BUCKET = "$config"

/** Creates or replaces a configuration; `data` is the JSON text of an object. Returns the new revision of the configuration. */
export const setConfig = inEnvironment(
  "setConfig",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    data: string
  ): Program<number, BucketNotFoundError | LimitExceededError | RevisionConflictError> {
    yield* ensureBucket(tx, environment, { name: CONFIG_BUCKET, maxValueBytes: kvValueBytes, history: 1 })
    const bytes = Buffer.from(data)
    if (bytes.byteLength > kvValueBytes) {
      return yield* refuse(
        new LimitExceededError(`Configuration "${name}"`, bytes.byteLength, kvValueBytes, "bytes")
      )
    }
    // this write cannot be refused: the bucket exists, its limits were checked, and the write expects no revision
    const [revision = 0] = yield* notingChanges(
      tx,
      environment,
      writeEntries.in(tx, environment, CONFIG_BUCKET, [{ key: name, value: { type: "json", bytes } }])
    )
    return revision
  },
  (_, name) => `store configuration "${name}"`
)

/**
 * Sets the members of an existing configuration that are in `patch`, the JSON text of an object. The other members stay. Returns
 * the new revision of the configuration.
 */
export const patchConfig = inEnvironment(
  "patchConfig",
  function* (
    tx: Transaction,
    environment: string,
    name: string,
    patch: string
  ): Program<number, BucketNotFoundError | ConfigNotFoundError | LimitExceededError | RevisionConflictError> {
    const config = yield* readConfig.in(tx, environment, name)
    // a Map, in which `__proto__` is an ordinary member, as it is for JSON.parse
    const members = new Map([
      ...Object.entries(parseStored(config.data)),
      ...Object.entries(JSON.parse(patch))
    ])
    return yield* setConfig.in(tx, environment, name, JSON.stringify(Object.fromEntries(members)))
  },
  (_, name) => `store configuration "${name}"`
)

export const readConfig = inEnvironment(
  "readConfig",
  function* (tx: Transaction, environment: string, name: string): Program<ConfigRow, ConfigNotFoundError> {
    const entry = yield* attempt(readEntry.in(tx, environment, CONFIG_BUCKET, name))
    return "value" in entry ? toConfig(entry) : yield* refuse(new ConfigNotFoundError(name))
  },
  (_, name) => `read configuration "${name}"`
)

const LIST_CONFIGS = statement(
  "ConfigRows.listConfigs",
  `SELECT key, revision, value, created_at FROM kv_entries
       WHERE bucket = ? AND key > ? AND operation = ${PUT_CODE} ORDER BY key LIMIT ?`
)

/** At most `limit` configurations whose names come after `after`, ordered by name. */
export const listConfigs = inEnvironment(
  "listConfigs",
  function* (tx: Transaction, environment: string, after: string, limit: number): Program<Array<ConfigRow>> {
    const bucket = yield* findBucket(tx, environment, CONFIG_BUCKET)
    if (bucket === undefined) return []
    return (yield* all(LIST_CONFIGS, bucket.key, after, limit)).map((row) => ({
      name: String(row.key),
      data: Buffer.from(row.value as Uint8Array).toString(),
      revision: Number(row.revision),
      updatedAt: Number(row.created_at)
    }))
  },
  () => "list configurations"
)

/** Deletes a configuration. Does nothing when the configuration does not exist. */
export const deleteConfig = inEnvironment(
  "deleteConfig",
  function* (tx: Transaction, environment: string, name: string): Program<void> {
    // the write is refused only when the bucket does not exist, and then there is nothing to delete
    yield* attempt(
      notingChanges(tx, environment, writeEntries.in(tx, environment, CONFIG_BUCKET, [{ key: name }]))
    )
  },
  (_, name) => `delete configuration "${name}"`
)

/** Runs `write`, and adds the configurations that it has written or deleted to the changes of the commit. */
function* notingChanges<A, E>(tx: Transaction, environment: string, write: Program<A, E>): Program<A, E> {
  const countBefore = tx.changes.kv.length
  const written = yield* write
  for (const { createdAt, key, operation, revision, value } of tx.changes.kv.slice(countBefore)) {
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

/**
 * Reads changes for a watch. A watch may begin before the first configuration is written: then there is no bucket, and there are no
 * changes.
 */
export const readConfigChanges = inEnvironment(
  "readConfigChanges",
  function* (
    tx: Transaction,
    environment: string,
    after: number | undefined,
    limit: number
  ): Program<KvChangePage, RevisionGoneError> {
    const page = yield* attempt(readChanges.in(tx, environment, CONFIG_BUCKET, after, limit))
    if (page instanceof RevisionGoneError) return yield* refuse(page)
    if (!(page instanceof BucketNotFoundError)) return page
    return { bucket: NO_BUCKET, changes: [], revision: after ?? 0, atEnd: true }
  },
  () => "read configurations"
)

const toConfig = (entry: KvEntryRow): ConfigRow => ({
  name: entry.key,
  data: Buffer.from(entry.value.bytes).toString(),
  revision: entry.revision,
  updatedAt: entry.createdAt
})

/** A configuration. `data` is the JSON text of an object. */
export interface ConfigRow {
  readonly name: string
  readonly data: JsonText
  readonly revision: number
  /** Epoch milliseconds. */
  readonly updatedAt: number
}
