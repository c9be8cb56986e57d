/**
 * The key-value store: buckets of keys. Each write gets the next revision of its bucket.
 *
 * {@link KvApi} and {@link KvBucketApi} are declared once, for two kinds: the {@link Kv} service returns
 * Effects, and `client.kv()` returns Promises. Results have the field names of the HTTP API, such as
 * `created_at`.
 */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type * as Stream from "effect/Stream"
import type {
  BucketExistsError,
  BucketNotFoundError,
  KeyNotFoundError,
  KeySchemaError,
  RevisionConflictError,
  RevisionGoneError,
  ValidationError
} from "../Errors.ts"
import type { KVBucketConfig, KVBucketInfo, KVPutResult, KVWriteResult } from "../Protocol/Kv.ts"
import type { KVBucketOptions, KvOperation } from "../KvValue.ts"
import type { AnySchema, SchemaInput, SchemaOutput } from "../StandardSchema.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods, type StreamMethods } from "./Methods.ts"

export type { KVBucketConfig, KVBucketInfo, KVPutResult, KVWriteResult } from "../Protocol/Kv.ts"

/** A key at one revision. */
export interface KVEntry<Value = unknown> {
  /** The key, 1 to 1024 characters. */
  readonly key: string
  /** The value: any JSON value, or a `Uint8Array`. In a bucket with a schema, the decoded value. */
  readonly value: Value
  /** The revision of the bucket that this write got, to pass to `update`. */
  readonly revision: number
  /** When this revision was written, as an ISO string. */
  readonly created_at: string
  /** `put` if the key has a value at this revision, `delete` if it was deleted. */
  readonly operation: "put" | "delete"
  /** When the key expires, as an ISO string; an expired key cannot be read. */
  readonly expires_at?: string
}

/** A revision of a key: a value or a deletion. */
export type KVHistoryEntry<Value = unknown> =
  | (KVEntry<Value> & { /** The key got a value. */ readonly operation: "put" })
  | (KVEntry<undefined> & { readonly operation: "delete" })

/** The keys of a bucket. */
export interface KVListKeysResult {
  /** The keys that have a value and match the filter. */
  readonly keys: Array<string>
  /** Number of keys. */
  readonly count: number
}

/** The buckets of an environment. */
export interface KVListBucketsResult {
  /** The buckets. */
  readonly buckets: Array<KVBucketInfo>
  /** Number of buckets. */
  readonly count: number
}

/** One of the changes of {@link KvBucketApi.write}. */
export type KVWrite<Value = unknown> =
  | {
      /** What to do with the key. */ readonly op: "put"
      /** The key, 1 to 1024 characters. */ readonly key: string
      /** The value: any JSON value, or a `Uint8Array`. */ readonly value: Value
    }
  /** Writes only if the key does not exist. */
  | {
      /** What to do with the key. */ readonly op: "create"
      /** The key, 1 to 1024 characters. */ readonly key: string
      /** The value: any JSON value, or a `Uint8Array`. */ readonly value: Value
    }
  /** Writes only if the key is at this revision. */
  | {
      /** What to do with the key. */ readonly op: "update"
      /** The key, 1 to 1024 characters. */ readonly key: string
      /** The value: any JSON value, or a `Uint8Array`. */ readonly value: Value
      /** The revision that the key must have. */ readonly revision: number
    }
  /** Deletes the key. With `revision`, only if the key is at this revision. */
  | {
      /** What to do with the key. */ readonly op: "delete"
      /** The key, 1 to 1024 characters. */ readonly key: string
      /** The revision that the key must have. */ readonly revision?: number
    }

/** A change of a key: a new value, or its removal. */
export type KVWatchEvent<Value = unknown> = KVPut<Value> | KVRemoval

/** A change in a watch: the key has a new value. */
export interface KVPut<Value = unknown> {
  /** The bucket of the key. */
  readonly bucket: string
  /** The key that has changed. */
  readonly key: string
  /** The value. In a bucket with a schema, the decoded value. */
  readonly value: Value
  /** The revision of the bucket that this change got. */
  readonly revision: number
  /** Always `put`. */
  readonly operation: "put"
}

/** A change in a watch: the key no longer has a value. */
export interface KVRemoval {
  /** The bucket of the key. */
  readonly bucket: string
  /** The key that has changed. */
  readonly key: string
  /** Always absent. */
  readonly value?: undefined
  /** The revision of the bucket that this change got. */
  readonly revision: number
  /** How the key was removed: deleted, purged, or expired. */
  readonly operation: Exclude<KvOperation, "put">
}

export type { KVBucketOptions } from "../KvValue.ts"

/** Options of `watch`. */
export interface KVWatchOptions {
  /** A key, or a filter as in `listKeys`; all keys by default. */
  readonly key?: string
  /**
   * The watch begins after this revision, and misses no later change. 0 begins with all current values. By
   * default it begins with the first change after the watch is open.
   */
  readonly fromRevision?: number
  /**
   * Called when the watch is open, with the revision after which the watch sees every change. Called again after
   * each reconnection.
   */
  readonly onOpen?: (revision: number) => void
}

/** Options of `delete`. */
export interface DeleteKeyOptions {
  /** Deletes the key only if it is at this revision. */
  readonly revision?: number
}

/** Errors of a call about the keys of a bucket: the bucket does not exist. */
export type KvBucketError = BucketNotFoundError | ClientError

/** Errors of reading a key: the key has no value. */
export type KvReadError = KeyNotFoundError | KvBucketError

/** Errors of a conditional write: the key is at another revision. */
export type KvConflictError = RevisionConflictError | KvBucketError

/**
 * The keys of one bucket, for the API kind `F`. `In` is the type of values to write, and `Out` that of values
 * that are read. `E` is the error when a value does not match the bucket's schema.
 */
export interface KvBucketApi<F extends HKT.TypeLambda, In = unknown, Out = unknown, E = never> {
  /** Reads a key. Fails with `KeyNotFoundError` when the key has no value: never written, deleted, or expired. */
  get(key: string, ...options: CallArgs<F>): Kind<F, KVEntry<Out>, E | KvReadError>
  /**
   * Writes a value unconditionally: any JSON value, or a `Uint8Array`. The write is durable when the call
   * returns. Fails with `LimitExceededError` when the value or the bucket would be too large.
   */
  put(key: string, value: In, ...options: CallArgs<F>): Kind<F, KVPutResult, E | KvBucketError>
  /** Writes the value if the key does not exist. If it exists, fails with `RevisionConflictError`. */
  create(key: string, value: In, ...options: CallArgs<F>): Kind<F, KVPutResult, E | KvConflictError>
  /**
   * Writes the value if the key is at `revision`. If it is not, fails with `RevisionConflictError`.
   *
   * ```ts
   * const { value, revision } = await client.kv().bucket("stock").get("sku-1")
   * await client.kv().bucket("stock").update("sku-1", Number(value) - 1, revision)
   * ```
   */
  update(
    key: string,
    value: In,
    revision: number,
    ...options: CallArgs<F>
  ): Kind<F, KVPutResult, E | KvConflictError>
  /** Deletes the value. The history of the key is kept for a day. Does nothing if the key does not exist. */
  delete(key: string, options?: Options<F, DeleteKeyOptions>): Kind<F, void, KvConflictError>
  /** Deletes the key and its history. */
  purge(key: string, ...options: CallArgs<F>): Kind<F, void, KvBucketError>
  /**
   * Lists the keys that have a value, sorted. `filter` consists of tokens separated by dots. `*` matches one
   * token, or any part of a token (`user-*`); `>` at the end matches one or more tokens.
   */
  listKeys(filter?: string, ...options: CallArgs<F>): Kind<F, Array<string>, KvBucketError>
  /** Returns the stored revisions of a key, oldest first; the bucket's `history` limits their number. */
  history(key: string, ...options: CallArgs<F>): Kind<F, Array<KVHistoryEntry<Out>>, E | KvReadError>
  /** Makes several changes in one transaction: at most 100 keys, each once. */
  write(
    writes: ReadonlyArray<KVWrite<In>>,
    ...options: CallArgs<F>
  ): Kind<F, KVWriteResult, E | KvConflictError>
}

const bucketErrors = { BucketNotFoundError: true } as const
const keyErrors = { ...bucketErrors, KeyNotFoundError: true } as const
const conflictErrors = { ...bucketErrors, RevisionConflictError: true } as const

/** Names, options and errors of the methods of a bucket. */
export const kvBucketMethods: Methods<KvBucketApi<PromiseKind>, KvBucketApi<EffectKind>> = {
  get: [idArguments, keyErrors],
  put: [[null, null, callKeys], bucketErrors],
  create: [[null, null, callKeys], conflictErrors],
  update: [[null, null, null, callKeys], conflictErrors],
  delete: [[null, { ...callKeys, revision: true }], conflictErrors],
  purge: [idArguments, bucketErrors],
  listKeys: [idArguments, bucketErrors],
  history: [idArguments, keyErrors],
  write: [[[{ op: true, key: true, value: true, revision: true }], callKeys], conflictErrors]
}

/** The buckets of an environment, for the API kind `F`. */
export interface KvApi<F extends HKT.TypeLambda> {
  /** Creates a bucket. Fails with `BucketExistsError` when the name is taken. */
  createBucket(
    config: KVBucketConfig,
    ...options: CallArgs<F>
  ): Kind<F, KVBucketInfo, BucketExistsError | ClientError>
  /** Lists the buckets, sorted by name. */
  listBuckets(...options: CallArgs<F>): Kind<F, Array<KVBucketInfo>, ClientError>
  /** Returns the configuration and size of a bucket. */
  getBucketInfo(name: string, ...options: CallArgs<F>): Kind<F, KVBucketInfo, KvBucketError>
  /** Deletes a bucket and all its keys. */
  deleteBucket(name: string, ...options: CallArgs<F>): Kind<F, void, KvBucketError>
}

/** Names, options and errors of the methods. */
export const kvMethods: Methods<KvApi<PromiseKind>, KvApi<EffectKind>> = {
  createBucket: [
    [
      {
        name: true,
        description: true,
        ttlSeconds: true,
        maxValueSize: true,
        maxBytes: true,
        history: true
      },
      callKeys
    ],
    { BucketExistsError: true }
  ],
  listBuckets: [[callKeys]],
  getBucketInfo: [idArguments, bucketErrors],
  deleteBucket: [idArguments, bucketErrors]
}

/** The keys of one bucket, as Effects. */
export interface KvBucket<In = unknown, Out = unknown, E = never> extends KvBucketApi<
  EffectKind,
  In,
  Out,
  E
> {
  /** The name of the bucket. */
  readonly name: string
  /**
   * Streams every change of the keys that match `options.key`, in the order of revisions. Over HTTP the
   * stream continues after a reconnection. A consumer that falls far behind gets the latest change of each
   * key, and earlier ones only as far as the bucket's history keeps them. Fails with `RevisionGoneError` when
   * deletions after `fromRevision` are no longer recorded (after a day), and with `BucketNotFoundError` when
   * the bucket is deleted. A value that does not match the schema ends the watch too: the error's `revision`
   * is the `fromRevision` for a new watch.
   */
  watch(
    options?: KVWatchOptions
  ): Stream.Stream<KVWatchEvent<Out>, E | ValidationError | RevisionGoneError | KvBucketError>
}

/** Name, options and errors of `watch`. */
export const kvBucketWatch: StreamMethods<Pick<KvBucket, "watch">> = {
  watch: [[{ key: true, fromRevision: true, onOpen: true }], { ...bucketErrors, RevisionGoneError: true }]
}

/** The buckets of an environment, as Effects. */
export interface KvService extends KvApi<EffectKind> {
  /**
   * Returns a handle for the keys of a bucket. This makes no request: if the bucket does not exist, the calls
   * of the handle fail. With a schema, values are typed, encoded and decoded; calls fail with
   * `KeySchemaError` when a value does not match.
   */
  bucket<S extends AnySchema | undefined = undefined>(
    name: string,
    options?: KVBucketOptions<S>
  ): KvBucket<SchemaInput<S>, SchemaOutput<S>, S extends undefined ? never : KeySchemaError>
}

/** The key-value store without schemas. `typedKv` adds them, and so makes a {@link KvService}. */
export interface UntypedKv extends KvApi<EffectKind> {
  /**
   * Returns a handle for the keys of a bucket. This makes no request: if the bucket does not exist, the calls
   * of the handle fail.
   */
  bucket(name: string): KvBucket
}

/** The key-value store as an Effect service. */
export class Kv extends Context.Service<Kv, KvService>()("@ironflow/node/Kv") {}
