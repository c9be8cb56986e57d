/** The key-value store for callers in the engine's process. Each method checks its input, and then runs one program of the store. */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type {
  KVBucketConfig,
  KVBucketInfo,
  KVHistoryEntry,
  KvBucket,
  KVWatchEvent,
  UntypedKv,
  KVWrite
} from "../../Client/Kv.ts"
import { validated } from "../../CheckAsEffect.ts"
import {
  BucketNotFoundError,
  type EngineError,
  LimitExceededError,
  type StoreError,
  ValidationError
} from "../../Errors.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { isObject } from "../../Json.ts"
import { checkBucketName, checkKey, checkRevision, compileFilter } from "../../KvKeys.ts"
import { decodeValue, encodeKeyValue, type StoredValue } from "../../KvValue.ts"
import * as Limits from "../../Limits.ts"
import { show } from "../../Show.ts"
import { KvFeed, type KvFeedService } from "./KvFeed.ts"
import { allPages, type Page, type PageQuery, pageByName } from "../Pages.ts"
import { yieldIfMany } from "../Yielding.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import type { KvBucketRow, KvEntryRow, KvKeysPage, KvWriteRow, NewKvBucket } from "./KvRecords.ts"
import type { KvChange } from "../Store/Changes.ts"
import * as KvBuckets from "./KvBuckets.ts"
import * as KvRows from "./KvRows.ts"
import * as KvWrites from "./KvWrites.ts"

/** Maximum number of keys that are read for one page. */
export const KEYS_PAGE = 1000
/** Maximum number of buckets on a page. It is low, because for each bucket on the page, the expired keys are counted. */
export const BUCKETS_PAGE = 250
/**
 * Limits the work of a filter on one page. Divided by the length of the filter, this is the maximum number of keys that are read for
 * the page: a longer filter takes longer for each key.
 */
const FILTER_WORK = 50_000

export interface KvService {
  /** The key-value store of one environment. */
  readonly in: (environment: string) => Raw<UntypedKv, EngineError>
  /** A page of the buckets of one environment, ordered by name. */
  readonly bucketsPage: (
    environment: string,
    page: PageQuery
  ) => Effect.Effect<Page<KVBucketInfo>, StoreError>
  /** The keys of a bucket with their stored values. */
  readonly storedKeys: (environment: string, bucket: string) => StoredKeys
}

export class Kv extends Context.Service<Kv, KvService>()("@ironflow/node/Engine/Kv") {}

export const layer: Layer.Layer<Kv, never, Store | KvFeed> = Layer.effect(
  Kv,
  Effect.gen(function* () {
    const engine = { store: yield* Store, feed: yield* KvFeed }
    return {
      in: (environment) => make(engine, environment),
      bucketsPage: (environment, page) => listBuckets(engine, environment, page),
      storedKeys: (environment, bucket) => storedKeys(engine, environment, bucket)
    }
  })
)

interface KvEngine {
  readonly store: StoreService
  readonly feed: KvFeedService
}

const make = (engine: KvEngine, environment: string): Raw<UntypedKv, EngineError> => {
  const { store } = engine
  const named = <A>(name: string, use: (name: string) => Effect.Effect<A, EngineError>) =>
    Effect.flatMap(
      validated(() => checkBucketName(name)),
      use
    )
  return {
    createBucket: (config) =>
      Effect.flatMap(
        validated(() => checkBucket(config)),
        (bucket) => Effect.map(store.write(KvBuckets.createBucket(environment, bucket)), toInfo)
      ),
    listBuckets: () => allPages((after) => listBuckets(engine, environment, { after, limit: BUCKETS_PAGE })),
    getBucketInfo: (name) =>
      named(name, (name) => Effect.map(store.read(KvBuckets.readBucket(environment, name)), toInfo)),
    deleteBucket: (name) => named(name, (name) => store.write(KvBuckets.deleteBucket(environment, name))),
    bucket: (name) => makeBucket(engine, environment, name)
  }
}

const listBuckets = (
  { store }: KvEngine,
  environment: string,
  page: PageQuery
): Effect.Effect<Page<KVBucketInfo>, StoreError> =>
  Effect.map(store.read(KvBuckets.listBuckets(environment, page)), (buckets) =>
    pageByName(buckets.map(toInfo), page)
  )

const makeBucket = (engine: KvEngine, environment: string, name: string): Raw<KvBucket, EngineError> => {
  const stored = storedKeys(engine, environment, name)

  const writeOne = (check: () => KvWriteRow) =>
    Effect.flatMap(validated(check), (write) =>
      Effect.map(stored.write([write]), ([revision = 0]) => ({ revision }))
    )

  return {
    name,
    get: (key) => Effect.map(stored.get(key), toKVEntry),
    put: (key, value) => writeOne(() => toWrite({ op: "put", key, value })),
    create: (key, value) => writeOne(() => toWrite({ op: "create", key, value })),
    update: (key, value, revision) => writeOne(() => toWrite({ op: "update", key, value, revision })),
    delete: (key, options) =>
      Effect.asVoid(
        writeOne(() =>
          toWrite(
            options?.revision === undefined
              ? { op: "delete", key }
              : { op: "delete", key, revision: options.revision }
          )
        )
      ),
    purge: (key) => Effect.asVoid(writeOne(() => ({ key: checkKey(key), purge: true }))),
    listKeys: (filter) =>
      allPages((after) =>
        Effect.map(stored.listKeys(filter, { after, limit: KEYS_PAGE }), ({ keys, ...next }) => ({
          items: keys,
          ...next
        }))
      ),
    history: (key) =>
      allPages((after) =>
        Effect.map(stored.history(key, { after, limit: Limits.kvHistory }), ({ items, ...next }) => ({
          items: items.map(toKVEntry),
          ...next
        }))
      ),
    write: (writes) =>
      Effect.flatMap(
        validated(() => checkWrites(writes)),
        (rows) => Effect.map(stored.write(rows), (revisions) => ({ revisions }))
      ),
    watch: (options = {}) =>
      Stream.map(
        stored.watch({ filter: options.key, from: options.fromRevision, onOpen: options.onOpen }),
        (change) => toWatchEvent(name, change)
      )
  }
}

/** The keys of a bucket with their values as they are stored. The server sends these values on without decoding them. */
interface StoredKeys {
  readonly get: (key: string) => Effect.Effect<KvEntryRow, EngineError>
  /** The revisions of a key, oldest first. The cursor is a revision. */
  readonly history: (key: string, page: PageQuery) => Effect.Effect<Page<KvEntryRow>, EngineError>
  readonly listKeys: (filter: string | undefined, page: PageQuery) => Effect.Effect<KvKeysPage, EngineError>
  readonly write: (writes: ReadonlyArray<KvWriteRow>) => Effect.Effect<Array<number>, EngineError>
  readonly watch: (options: {
    readonly filter: string | undefined
    readonly from: number | undefined
    readonly onOpen: ((revision: number) => void) | undefined
  }) => Stream.Stream<KvChange, EngineError>
}

const storedKeys = ({ store, feed }: KvEngine, environment: string, name: string): StoredKeys => ({
  get: (key) =>
    Effect.flatMap(
      validated(() => [checkBucketName(name), checkKey(key)] as const),
      ([bucket, key]) => yieldIfMany(store.read(KvRows.readEntry(environment, bucket, key)))
    ),
  history: (key, { after, limit }) =>
    Effect.flatMap(
      validated(() => ({ bucket: checkBucketName(name), key: checkKey(key), after: readCursor(after) })),
      ({ bucket, ...query }) =>
        Effect.map(
          store.read(KvRows.readHistory(environment, bucket, { ...query, limit })),
          ({ entries, next }) => ({
            items: entries,
            ...(next === undefined ? {} : { nextCursor: String(next) })
          })
        )
    ),
  listKeys: (filter, page) =>
    Effect.flatMap(
      validated(() => ({ bucket: checkBucketName(name), accepts: compileFilter(filter) })),
      ({ accepts, bucket }) =>
        Effect.map(
          store.read(
            KvRows.listKeys(environment, bucket, {
              after: page.after,
              limit: Math.min(page.limit, Math.ceil(FILTER_WORK / (filter?.length ?? 1)))
            })
          ),
          ({ keys, ...next }) => ({ keys: keys.filter(accepts), ...next })
        )
    ),
  write: (writes) =>
    Effect.flatMap(
      validated(() => checkBucketName(name)),
      (bucket) => store.write(KvWrites.writeEntries(environment, bucket, writes))
    ),
  watch: ({ filter, from: startAfter, onOpen }) =>
    Stream.unwrap(
      Effect.map(
        validated(() => {
          checkBucketName(name)
          if (startAfter !== undefined) checkRevision(startAfter, 0)
          return compileFilter(filter)
        }),
        (accepts) =>
          feed.watch<EngineError>({
            read: (after, limit) => store.read(KvRows.readChanges(environment, name, after, limit)),
            startAfter,
            accepts,
            onOpen: onOpen ?? (() => undefined),
            deletedError: () => new BucketNotFoundError(name)
          })
      )
    )
})

// ---------------------------------------------------------------------------------------------------------------------
// Input
// ---------------------------------------------------------------------------------------------------------------------

const readCursor = (after: string): number => {
  if (after === "") return 0
  if (/^\d{1,15}$/.test(after)) return Number(after)
  throw new ValidationError(
    `The cursor of a history must be the one that the previous page returned, got ${JSON.stringify(after.slice(0, 64))}`
  )
}

const checkBucket = (config: KVBucketConfig): NewKvBucket => {
  if (!isObject(config))
    throw new ValidationError(
      `The configuration of a bucket must be an object such as { name: "settings" }, got ${show(config)}`
    )
  const name = checkBucketName(config.name)
  const { description } = config
  if (description !== undefined && (typeof description !== "string" || description.length > 4096)) {
    throw new ValidationError(
      `The description of bucket "${name}" must be a string of at most 4096 characters, got ${typeof description === "string" ? `${description.length} characters` : show(description)}`
    )
  }
  const readNumber = (field: "ttlSeconds" | "maxValueSize" | "maxBytes" | "history", most: number) => {
    const value = config[field]
    if (value === undefined || value === 0) return undefined
    const isWhole = field === "ttlSeconds" || Number.isSafeInteger(value)
    if (typeof value !== "number" || !isWhole || !(value > 0 && value <= most)) {
      throw new ValidationError(
        `\`${field}\` of bucket "${name}" must be ${field === "ttlSeconds" ? "a number" : "an integer"} from 0 to ${most}, got ${show(value)}`
      )
    }
    return value
  }
  const ttlSeconds = readNumber("ttlSeconds", MAX_TTL_SECONDS)
  const maxBytes = readNumber("maxBytes", Number.MAX_SAFE_INTEGER)
  return {
    name,
    ...(description === undefined || description === "" ? {} : { description }),
    ...(ttlSeconds === undefined ? {} : { ttlMs: Math.max(1, Math.round(ttlSeconds * 1000)) }),
    maxValueBytes: readNumber("maxValueSize", Limits.kvValueBytes) ?? Limits.kvValueBytes,
    ...(maxBytes === undefined ? {} : { maxBytes }),
    history: readNumber("history", Limits.kvHistory) ?? 1
  }
}

/** The longest time to live, in seconds: a hundred years. */
const MAX_TTL_SECONDS = 100 * 365 * 24 * 3600

const checkWrites = (writes: ReadonlyArray<KVWrite>): Array<KvWriteRow> => {
  if (!Array.isArray(writes) || writes.length === 0) {
    throw new ValidationError(
      `An atomic write needs a list of changes with at least one, got ${show(writes)}`
    )
  }
  if (writes.length > Limits.kvWrites) {
    throw new LimitExceededError("The atomic write", writes.length, Limits.kvWrites, "changes")
  }
  return checkDistinct(writes.map(toWrite))
}

/** Rejects a write with two changes of the same key, because it would be unclear which of the two is to remain. */
export const checkDistinct = (rows: Array<KvWriteRow>): Array<KvWriteRow> => {
  const seen = new Set<string>()
  for (const { key } of rows) {
    if (seen.has(key))
      throw new ValidationError(`Key "${key}" occurs twice in one atomic write: make one change of each key`)
    seen.add(key)
  }
  return rows
}

const toWrite = (write: KVWrite): KvWriteRow => {
  const key = checkKey(write?.key)
  switch (write.op) {
    case "put":
      return { key, value: checkValue(key, write.value) }
    case "create":
      return { key, value: checkValue(key, write.value), expected: 0 }
    case "update":
      return { key, value: checkValue(key, write.value), expected: checkRevision(write.revision) }
    case "delete":
      return write.revision === undefined ? { key } : { key, expected: checkRevision(write.revision) }
    default:
      throw new ValidationError(
        `The \`op\` of a change of key "${key}" must be put, create, update or delete, got ${show(Object(write).op)}`
      )
  }
}

const checkValue = (key: string, value: unknown): StoredValue => {
  const stored = encodeKeyValue(key, value)
  // copies the bytes, because the caller may later change the array
  return stored.type === "bytes" ? { type: "bytes", bytes: Uint8Array.from(stored.bytes) } : stored
}

// ---------------------------------------------------------------------------------------------------------------------
// Output
// ---------------------------------------------------------------------------------------------------------------------

const toInfo = (row: KvBucketRow): KVBucketInfo => ({
  name: row.name,
  ...(row.description === undefined ? {} : { description: row.description }),
  ...(row.ttlMs === undefined ? {} : { ttl_seconds: row.ttlMs / 1000 }),
  max_value_size: row.maxValueBytes,
  ...(row.maxBytes === undefined ? {} : { max_bytes: row.maxBytes }),
  values: row.values,
  bytes: row.bytes,
  history: row.history,
  revision: row.revision,
  created_at: new Date(row.createdAt).toISOString()
})

const toKVEntry = (row: KvEntryRow): KVHistoryEntry => ({
  key: row.key,
  ...(row.operation === "put"
    ? { value: decodeValue(row.value), operation: "put" }
    : { value: undefined, operation: "delete" }),
  revision: row.revision,
  created_at: new Date(row.createdAt).toISOString(),
  ...(row.expiresAt === undefined ? {} : { expires_at: new Date(row.expiresAt).toISOString() })
})

const toWatchEvent = (bucket: string, change: KvChange): KVWatchEvent => ({
  bucket,
  key: change.key,
  ...(change.operation === "put"
    ? { value: decodeValue(change.value), operation: change.operation }
    : { operation: change.operation }),
  revision: change.revision
})
