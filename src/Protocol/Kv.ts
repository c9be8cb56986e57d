/**
 * The key-value store: its messages and calls. The body of a write of one key is the value itself; everywhere else values are
 * base64.
 */
import { BucketExistsError, BucketNotFoundError, KeyNotFoundError, RevisionConflictError } from "../Errors.ts"
import {
  onlyLegacyMayLack,
  anyOf,
  fields,
  nonEmptyText,
  integer,
  json,
  lenientList,
  list,
  nonZero,
  number,
  oneOf,
  optional,
  orElse,
  struct,
  text,
  withWireName
} from "./Codec.ts"
import { each, inBody, inPath, operation, callSpec } from "./CallSpec.ts"

// ---------------------------------------------------------------------------------------------------------------------
// What travels
// ---------------------------------------------------------------------------------------------------------------------

/** A bucket to create. */
export interface KVBucketConfig {
  /** Letters, digits and `_ - . :`, at most 256, beginning with a letter or digit. */
  readonly name: string
  /** Description for people; none by default. */
  readonly description?: string
  /** Seconds from the last write of a key until it expires. By default, and with 0, keys do not expire. */
  readonly ttlSeconds?: number
  /** Maximum size of one value in bytes; 1 MiB by default and at most. */
  readonly maxValueSize?: number
  /** Maximum total size of all keys and values in bytes, earlier revisions included. By default, and with 0, there is no limit. */
  readonly maxBytes?: number
  /** Number of revisions to keep of each key, including the current one; 1 by default, 64 at most. */
  readonly history?: number
}

/** A bucket: its configuration and size. */
export interface KVBucketInfo {
  /** Name of the bucket. */
  readonly name: string
  /** Description for people. */
  readonly description?: string
  /** Seconds from the last write of a key until it expires; absent when keys never expire. */
  readonly ttl_seconds?: number
  /** Maximum size of one value in bytes. */
  readonly max_value_size?: number
  /** Maximum total size of all keys and values in bytes; absent when there is no limit. */
  readonly max_bytes?: number
  /** Number of keys that have a value. */
  readonly values: number
  /** Total size of all keys and values in bytes. */
  readonly bytes: number
  /** Number of revisions kept of each key. */
  readonly history: number
  /** Revision of the last write. Absent from servers that do not report it. */
  readonly revision?: number
  /** When it was created, as an ISO string. */
  readonly created_at: string
}

/** The result of a write. */
export interface KVPutResult {
  /** The new revision, for a later `update`. */
  readonly revision: number
}

/** The result of `write`, which changes several keys. */
export interface KVWriteResult {
  /** One revision for each change, in order. */
  readonly revisions: Array<number>
}

/** A revision of a key, as it is sent. */
export interface StoredEntry {
  readonly key: string
  /** The value in base64. */
  readonly value?: unknown
  /** Content type of the value, as it was written. */
  readonly contentType?: string
  readonly revision: number
  readonly created_at: string
  /** `put` or `delete`. */
  readonly operation: string
  readonly expires_at?: string
}

const count = orElse(number, 0)
const textOrEmpty = orElse(text, "")
/** Legacy servers may send other values than base64. */
const value = anyOf(text, json)

const Bucket = fields<KVBucketInfo>({
  name: text,
  description: optional(nonEmptyText),
  ttl_seconds: optional(nonZero),
  max_value_size: optional(nonZero),
  max_bytes: optional(nonZero),
  values: count,
  bytes: count,
  history: orElse(nonZero, 1),
  revision: onlyLegacyMayLack(number),
  created_at: textOrEmpty
})
const Buckets = struct({
  buckets: orElse(lenientList(Bucket), []),
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
/** The bucket settings that clients send: every server knows these names, and uses defaults for absent ones. */
export const bucketBody = (config: KVBucketConfig) => ({
  name: config.name,
  description: config.description || undefined,
  ttl_seconds: config.ttlSeconds || undefined,
  max_value_size: config.maxValueSize || undefined,
  max_bytes: config.maxBytes || undefined,
  history: config.history || undefined
})

const Keys = struct({
  keys: orElse(lenientList(text), []),
  count,
  nextCursor: optional(text)
})
const Entry = fields<StoredEntry>({
  key: text,
  value: onlyLegacyMayLack(value),
  contentType: withWireName("content_type", onlyLegacyMayLack(text)),
  revision: count,
  created_at: textOrEmpty,
  operation: orElse(text, "put"),
  expires_at: optional(text)
})
const Entries = struct({
  entries: lenientList(Entry),
  nextCursor: optional(text)
})
const Revision = fields<KVPutResult>({ revision: number })
const Revisions = fields<KVWriteResult>({ revisions: list(number) })

const op = oneOf("put", "create", "update", "delete")
/** A change in a write of several keys. */
export interface KeyWrite {
  readonly op: NonNullable<(typeof op)["type"]>
  readonly key: string
  /** The value in base64. */
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
  value: onlyLegacyMayLack(value),
  revision: count,
  operation: orElse(text, "put"),
  bucket: text,
  contentType: withWireName("content_type", optional(text)),
  created_at: onlyLegacyMayLack(text)
})

// ---------------------------------------------------------------------------------------------------------------------
// Calls
// ---------------------------------------------------------------------------------------------------------------------

export const createBucket = operation("POST /api/v1/kv/buckets", { answer: Bucket })
export const listBuckets = operation("GET /api/v1/kv/buckets", { answer: Buckets, page: "buckets" })
export const getBucket = operation("GET /api/v1/kv/buckets/:bucket", {
  answer: Bucket,
  notFoundError: BucketNotFoundError
})
export const deleteBucket = operation("DELETE /api/v1/kv/buckets/:bucket", {
  notFoundError: BucketNotFoundError
})

export const listKeys = operation("GET /api/v1/kv/buckets/:bucket/keys", {
  answer: Keys,
  page: "keys",
  notFoundError: BucketNotFoundError
})
export const getKey = operation("GET /api/v1/kv/buckets/:bucket/keys/:key*", { answer: Entry })
// a missing key can be written, so a 404 means that the bucket is missing
export const putKey = operation("PUT /api/v1/kv/buckets/:bucket/keys/:key*", {
  answer: Revision,
  notFoundError: BucketNotFoundError
})
export const deleteKey = operation("DELETE /api/v1/kv/buckets/:bucket/keys/:key*", {
  notFoundError: BucketNotFoundError
})
export const keyHistory = operation("GET /api/v1/kv/buckets/:bucket/history/:key*", {
  answer: Entries,
  page: "entries",
  onlyOurEngine: true
})
export const writeKeys = operation("POST /api/v1/kv/buckets/:bucket/write", {
  answer: Revisions,
  onlyOurEngine: true,
  notFoundError: BucketNotFoundError
})
export const watchKeys = operation("GET /api/v1/kv/buckets/:bucket/watch", {
  answer: KeyUpdate,
  notFoundError: BucketNotFoundError
})

const conditionHeaders = ["if-match", "if-none-match"]

export const callSpecs = {
  /** Creates a bucket. Fails when the name is taken. */
  createBucket: callSpec(createBucket, inBody("kv:write", "bucket", "name"), {
    body: CreateBucket,
    status: 201,
    errors: { 409: BucketExistsError }
  }),
  /** Lists the buckets, sorted by name. */
  listBuckets: callSpec(listBuckets, each("kv:read", "bucket")),
  /** Returns a bucket. */
  getBucket: callSpec(getBucket, inPath("kv:read", "bucket", "bucket")),
  /** Deletes a bucket and all its keys. */
  deleteBucket: callSpec(deleteBucket, inPath("kv:delete", "bucket", "bucket")),

  /** Lists the keys of a bucket, or those that match a `filter`. */
  listKeys: callSpec(listKeys, inPath("kv:read", "bucket", "bucket"), { query: ["filter"] }),
  /** Returns the value of a key. */
  getKey: callSpec(getKey, inPath("kv:read", "bucket", "bucket"), { errors: { 404: KeyNotFoundError } }),
  /** Writes the value in the body. `If-None-Match: *` only creates, `If-Match: <revision>` only updates. */
  putKey: callSpec(putKey, inPath("kv:write", "bucket", "bucket"), {
    headers: conditionHeaders,
    body: json,
    errors: { 412: RevisionConflictError }
  }),
  /** Deletes a key; with `purge=true` also its history. */
  deleteKey: callSpec(deleteKey, inPath("kv:delete", "bucket", "bucket"), {
    query: ["purge"],
    headers: conditionHeaders,
    errors: { 412: RevisionConflictError }
  }),
  /** Lists the stored revisions of a key, oldest first. */
  keyHistory: callSpec(keyHistory, inPath("kv:read", "bucket", "bucket"), {
    errors: { 404: KeyNotFoundError }
  }),
  /** Writes and deletes several keys of a bucket in one transaction. */
  writeKeys: callSpec(writeKeys, inPath("kv:write", "bucket", "bucket"), {
    secondAction: { action: "kv:delete", kind: "bucket" },
    body: WriteKeys,
    errors: { 412: RevisionConflictError }
  })
}

export const watches = {
  /** Watches the changes of the keys of a bucket, or of those that match `key`. */
  watchKeys: callSpec(watchKeys, inPath("kv:read", "bucket", "bucket"), { query: ["revision", "key"] })
}
