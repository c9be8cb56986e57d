/** The key-value store: how it travels, and the calls about it. Bodies of writes are the values themselves, values that are read are base64. */
import { BucketExistsError, BucketNotFoundError, KeyNotFoundError, RevisionConflictError } from "../Errors.ts"
import {
  anyOf,
  as,
  fields,
  filled,
  integer,
  json,
  list,
  nonZero,
  number,
  oneOf,
  optional,
  orElse,
  ours,
  some,
  struct,
  text
} from "./Codec.ts"
import { each, inBody, inPath, operation, row } from "./Row.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** A bucket that is to be made. */
export interface KVBucketConfig {
  /** Letters, digits and `_ - . :`, at most 256, beginning with a letter or digit. */
  readonly name: string
  /** What it is for, for people; none by default. */
  readonly description?: string
  /** Seconds after its last write when a key expires; it never does without, or with 0. */
  readonly ttlSeconds?: number
  /** Bytes of one value; 1 MiB by default, which is also the most. */
  readonly maxValueSize?: number
  /** Bytes of all keys and values that are kept, history included; no limit by default, or with 0. */
  readonly maxBytes?: number
  /** Revisions that are kept of each key, the present one included; 1 by default, 64 at most. */
  readonly history?: number
}

/** A bucket: what it was made with, and what it holds. */
export interface KVBucketInfo {
  /** Name of the bucket. */
  readonly name: string
  /** What it is for. */
  readonly description?: string
  /** Seconds after its last write when a key expires; absent when it never does. */
  readonly ttl_seconds?: number
  /** Bytes that one value may have. */
  readonly max_value_size?: number
  /** Bytes that all keys and values may have; absent when there is no limit. */
  readonly max_bytes?: number
  /** Keys that have a value. */
  readonly values: number
  /** Bytes of all keys and values that are kept. */
  readonly bytes: number
  /** Revisions that are kept of each key. */
  readonly history: number
  /** Of the last write. Absent from servers that do not tell. */
  readonly revision?: number
  /** ISO string. */
  readonly created_at: string
}

/** What a write answers. */
export interface KVPutResult {
  /** For a later `update`. */
  readonly revision: number
}

/** What `write` answers. */
export interface KVWriteResult {
  /** One for each change, in their order. */
  readonly revisions: Array<number>
}

/** A revision of a key as it travels. */
export interface StoredEntry {
  readonly key: string
  /** Base64. */
  readonly value?: unknown
  /** What was said of the value when it was put. */
  readonly contentType?: string
  readonly revision: number
  readonly created_at: string
  /** `put` or `delete`. */
  readonly operation: string
  readonly expires_at?: string
}

const count = orElse(number, 0)
const said = orElse(text, "")
/** Legacy servers may say something else than base64. */
const value = anyOf(text, json)

const Bucket = fields<KVBucketInfo>({
  name: text,
  description: optional(filled),
  ttl_seconds: optional(nonZero),
  max_value_size: optional(nonZero),
  max_bytes: optional(nonZero),
  values: count,
  bytes: count,
  history: orElse(nonZero, 1),
  revision: ours(number),
  created_at: said
})
const Buckets = struct({
  buckets: orElse(some(Bucket), []),
  count: optional(integer),
  nextCursor: optional(text)
})
const CreateBucket = fields<KVBucketConfig>({
  name: text,
  description: optional(text),
  ttlSeconds: optional(number),
  maxValueSize: optional(number),
  maxBytes: optional(number),
  history: optional(number)
})
/** What clients send of it: every server knows these names, and takes what is absent for the default. */
export const bucketBody = (config: KVBucketConfig) => ({
  name: config.name,
  description: config.description || undefined,
  ttl_seconds: config.ttlSeconds || undefined,
  max_value_size: config.maxValueSize || undefined,
  max_bytes: config.maxBytes || undefined,
  history: config.history || undefined
})

const Keys = struct({
  keys: orElse(some(text), []),
  count,
  nextCursor: optional(text)
})
const Entry = fields<StoredEntry>({
  key: text,
  value: ours(value),
  contentType: as("content_type", ours(text)),
  revision: count,
  created_at: said,
  operation: orElse(text, "put"),
  expires_at: optional(text)
})
const Entries = struct({
  entries: some(Entry),
  nextCursor: optional(text)
})
const Revision = fields<KVPutResult>({ revision: number })
const Revisions = fields<KVWriteResult>({ revisions: list(number) })

const op = oneOf("put", "create", "update", "delete")
/** A change of several. */
export interface KeyWrite {
  readonly op: NonNullable<(typeof op)["type"]>
  readonly key: string
  /** Base64. */
  readonly value?: string
  readonly contentType?: string
  readonly revision?: number
}
const WriteKeys = struct({
  writes: list(
    fields<KeyWrite>({
      op,
      key: text,
      value: optional(text),
      contentType: optional(text),
      revision: optional(integer)
    })
  )
})

/** A change of a key, in a frame of a watch. */
export interface KeyChange extends Omit<StoredEntry, "created_at" | "expires_at"> {
  readonly type: "kv_update"
  readonly bucket: string
  readonly created_at?: string
}
const KeyUpdate = fields<KeyChange>({
  type: oneOf("kv_update"),
  key: text,
  value: ours(value),
  revision: count,
  operation: orElse(text, "put"),
  bucket: text,
  contentType: as("content_type", optional(text)),
  created_at: ours(text)
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const createBucket = operation("POST /api/v1/kv/buckets", { answer: Bucket })
export const listBuckets = operation("GET /api/v1/kv/buckets", { answer: Buckets, page: "buckets" })
export const getBucket = operation("GET /api/v1/kv/buckets/:bucket", {
  answer: Bucket,
  missing: BucketNotFoundError
})
export const deleteBucket = operation("DELETE /api/v1/kv/buckets/:bucket", { missing: BucketNotFoundError })

export const listKeys = operation("GET /api/v1/kv/buckets/:bucket/keys", {
  answer: Keys,
  page: "keys",
  missing: BucketNotFoundError
})
export const getKey = operation("GET /api/v1/kv/buckets/:bucket/keys/:key*", { answer: Entry })
// a key that is not there can be put: it is the bucket that is missing
export const putKey = operation("PUT /api/v1/kv/buckets/:bucket/keys/:key*", {
  answer: Revision,
  missing: BucketNotFoundError
})
export const deleteKey = operation("DELETE /api/v1/kv/buckets/:bucket/keys/:key*", {
  missing: BucketNotFoundError
})
export const keyHistory = operation("GET /api/v1/kv/buckets/:bucket/history/:key*", {
  answer: Entries,
  page: "entries",
  ours: true
})
export const writeKeys = operation("POST /api/v1/kv/buckets/:bucket/write", {
  answer: Revisions,
  ours: true,
  missing: BucketNotFoundError
})
export const watchKeys = operation("GET /api/v1/kv/buckets/:bucket/watch", {
  answer: KeyUpdate,
  missing: BucketNotFoundError
})

const conditions = ["if-match", "if-none-match"]

export const rows = {
  /** Makes a bucket, or says what it is when it is there with the same settings. */
  createBucket: row(createBucket, inBody("kv:write", "bucket", "name"), {
    body: CreateBucket,
    status: 201,
    errors: { 409: BucketExistsError }
  }),
  /** The buckets, by name. */
  listBuckets: row(listBuckets, each("kv:read", "bucket")),
  /** One bucket. */
  getBucket: row(getBucket, inPath("kv:read", "bucket", "bucket")),
  /** Deletes a bucket and its keys. */
  deleteBucket: row(deleteBucket, inPath("kv:delete", "bucket", "bucket")),

  /** The keys of a bucket, or those that fit a `filter`. */
  listKeys: row(listKeys, inPath("kv:read", "bucket", "bucket"), { query: ["filter"] }),
  /** The value of a key. */
  getKey: row(getKey, inPath("kv:read", "bucket", "bucket"), { errors: { 404: KeyNotFoundError } }),
  /** Puts a value, which is the body. `If-None-Match: *` creates, `If-Match: <revision>` updates. */
  putKey: row(putKey, inPath("kv:write", "bucket", "bucket"), {
    headers: conditions,
    body: json,
    errors: { 412: RevisionConflictError }
  }),
  /** Deletes a key; with `purge=true` its history goes too. */
  deleteKey: row(deleteKey, inPath("kv:delete", "bucket", "bucket"), {
    query: ["purge"],
    headers: conditions,
    errors: { 412: RevisionConflictError }
  }),
  /** The revisions of a key that are kept, oldest first. */
  keyHistory: row(keyHistory, inPath("kv:read", "bucket", "bucket"), { errors: { 404: KeyNotFoundError } }),
  /** Several changes, all or none. */
  writeKeys: row(writeKeys, inPath("kv:write", "bucket", "bucket"), {
    respects: { action: "kv:delete", kind: "bucket" },
    body: WriteKeys,
    errors: { 412: RevisionConflictError }
  })
}

export const watches = {
  /** The changes of the keys of a bucket, or of those that fit `key`. */
  watchKeys: row(watchKeys, inPath("kv:read", "bucket", "bucket"), { query: ["revision", "key"] })
}
