/**
 * The key-value store: buckets of keys, each write of which has a revision that grows with every write in its bucket.
 *
 * {@link KvApi} and {@link KvBucketApi} are written once and read twice: as Effects by the {@link Kv} service, as Promises by
 * `client.kv()`. Field names of what a server answers (`created_at`) are those of the protocol.
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
import { byId, call, type Methods, type StreamMethods } from "./Methods.ts"

export type { KVBucketConfig, KVBucketInfo, KVPutResult, KVWriteResult } from "../Protocol/Kv.ts"

/** A key as one of its writes left it. */
export interface KVEntry<Value = unknown> {
  /** The key, 1 to 1024 characters. */
  readonly key: string
  /** What was put: any JSON value, or a `Uint8Array`. In a bucket with a schema: as the schema reads it. */
  readonly value: Value
  /** The revision of the bucket that the write made; what `update` takes. */
  readonly revision: number
  /** When this revision was written, ISO string. */
  readonly created_at: string
  /** Whether the key has a value. */
  readonly operation: "put" | "delete"
  /** From when on the key cannot be read, ISO string. */
  readonly expires_at?: string
}

/** A revision of a key: a value, or that it was deleted. */
export type KVHistoryEntry<Value = unknown> =
  | (KVEntry<Value> & { /** It has a value. */ readonly operation: "put" })
  | (KVEntry<undefined> & { readonly operation: "delete" })

/** The keys of a bucket. */
export interface KVListKeysResult {
  /** The keys that have a value, and that fit the pattern. */
  readonly keys: Array<string>
  /** How many there are. */
  readonly count: number
}

/** The buckets of an environment. */
export interface KVListBucketsResult {
  /** The buckets. */
  readonly buckets: Array<KVBucketInfo>
  /** How many there are. */
  readonly count: number
}

/** One of the changes of {@link KvBucketApi.write}. */
export type KVWrite<Value = unknown> =
  | {
      /** What to do with the key. */ readonly op: "put"
      /** The key, 1 to 1024 characters. */ readonly key: string
      /** The value to store, of JSON. */ readonly value: Value
    }
  /** Only if the key does not exist. */
  | {
      /** What to do with the key. */ readonly op: "create"
      /** The key, 1 to 1024 characters. */ readonly key: string
      /** The value to store, of JSON. */ readonly value: Value
    }
  /** Only if the key is at this revision. */
  | {
      /** What to do with the key. */ readonly op: "update"
      /** The key, 1 to 1024 characters. */ readonly key: string
      /** The value to store, of JSON. */ readonly value: Value
      /** The revision that the key must have. */ readonly revision: number
    }
  /** Only if the key is at this revision, when one is given. */
  | {
      /** What to do with the key. */ readonly op: "delete"
      /** The key, 1 to 1024 characters. */ readonly key: string
      /** The revision that the key must have. */ readonly revision?: number
    }

/** A change of a key: a value that was put, or how it went away. */
export type KVWatchEvent<Value = unknown> = KVPut<Value> | KVRemoval

/** A change that a watch brings: the key has another value. */
export interface KVPut<Value = unknown> {
  /** The bucket of the key. */
  readonly bucket: string
  /** The key that has changed. */
  readonly key: string
  /** In a bucket with a schema: as the schema reads it. */
  readonly value: Value
  /** The revision of the bucket that the change made. */
  readonly revision: number
  /** It has been written. */
  readonly operation: "put"
}

/** A change that a watch brings: the key has no value any more. */
export interface KVRemoval {
  /** The bucket of the key. */
  readonly bucket: string
  /** The key that has changed. */
  readonly key: string
  /** There is none. */
  readonly value?: undefined
  /** The revision of the bucket that the change made. */
  readonly revision: number
  /** How it went: it was deleted or purged, or has expired. */
  readonly operation: Exclude<KvOperation, "put">
}

export type { KVBucketOptions } from "../KvValue.ts"

/** Options of `watch`. */
export interface KVWatchOptions {
  /** A key or a filter as `listKeys` takes it; all keys by default. */
  readonly key?: string
  /**
   * Begins after this revision: a watch misses no change from there on. With 0 it begins with every value that there is. By
   * default it begins with the first change after it stands.
   */
  readonly fromRevision?: number
  /** Called when the watch stands, with the revision after which it sees every change; again after each reconnection. */
  readonly onOpen?: (revision: number) => void
}

/** Options of `delete`. */
export interface DeleteKeyOptions {
  /** Deletes the key only if it is at this revision. */
  readonly revision?: number
}

/** What may go wrong with the keys of a bucket: there is no such bucket. */
export type KvBucketError = BucketNotFoundError | ClientError

/** What may go wrong when a key is read: it has no value. */
export type KvReadError = KeyNotFoundError | KvBucketError

/** What may go wrong when a key is written under a condition: it is at another revision. */
export type KvConflictError = RevisionConflictError | KvBucketError

/**
 * The keys of one bucket, in the reading `F`. `In` is what is written, `Out` what is read, and `E` what fails when one of
 * them does not fit the bucket's schema.
 */
export interface KvBucketApi<F extends HKT.TypeLambda, In = unknown, Out = unknown, E = never> {
  /** Fails with `KeyNotFoundError` when the key has no value: never put, deleted, or expired. */
  get(key: string, ...options: CallArgs<F>): Kind<F, KVEntry<Out>, E | KvReadError>
  /**
   * Writes a value whatever is there: any JSON value, or a `Uint8Array`. Durable when it returns. Fails with
   * `LimitExceededError` when the value or the bucket would be too large.
   */
  put(key: string, value: In, ...options: CallArgs<F>): Kind<F, KVPutResult, E | KvBucketError>
  /** Writes only if the key does not exist, else fails with `RevisionConflictError`. */
  create(key: string, value: In, ...options: CallArgs<F>): Kind<F, KVPutResult, E | KvConflictError>
  /**
   * Writes only if the key is at `revision`, else fails with `RevisionConflictError`.
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
  /** Deletes the value; its history stays for a day. Deleting what is not there does nothing. */
  delete(key: string, options?: Options<F, DeleteKeyOptions>): Kind<F, void, KvConflictError>
  /** Deletes the key and its history. */
  purge(key: string, ...options: CallArgs<F>): Kind<F, void, KvBucketError>
  /**
   * The keys that have a value, in order. In `filter` tokens are separated by dots: `*` stands for one token or, inside a
   * token, for any part of it (`user-*`), `>` at the end for one or more tokens.
   */
  listKeys(filter?: string, ...options: CallArgs<F>): Kind<F, Array<string>, KvBucketError>
  /** The revisions of a key that are kept, oldest first; as many as the bucket's `history` says. */
  history(key: string, ...options: CallArgs<F>): Kind<F, Array<KVHistoryEntry<Out>>, E | KvReadError>
  /** Makes several changes, of up to 100 different keys, all or none. */
  write(
    writes: ReadonlyArray<KVWrite<In>>,
    ...options: CallArgs<F>
  ): Kind<F, KVWriteResult, E | KvConflictError>
}

const inBucket = { BucketNotFoundError: true } as const
const ofKey = { ...inBucket, KeyNotFoundError: true } as const
const conditional = { ...inBucket, RevisionConflictError: true } as const

/** What each method of a bucket is called by, and takes. */
export const kvBucketMethods: Methods<KvBucketApi<PromiseKind>, KvBucketApi<EffectKind>> = {
  get: [byId, ofKey],
  put: [[null, null, call], inBucket],
  create: [[null, null, call], conditional],
  update: [[null, null, null, call], conditional],
  delete: [[null, { ...call, revision: true }], conditional],
  purge: [byId, inBucket],
  listKeys: [byId, inBucket],
  history: [byId, ofKey],
  write: [[[{ op: true, key: true, value: true, revision: true }], call], conditional]
}

/** The buckets of an environment, in the reading `F`. */
export interface KvApi<F extends HKT.TypeLambda> {
  /** Fails with `BucketExistsError` when there is one of this name. */
  createBucket(
    config: KVBucketConfig,
    ...options: CallArgs<F>
  ): Kind<F, KVBucketInfo, BucketExistsError | ClientError>
  /** By name. */
  listBuckets(...options: CallArgs<F>): Kind<F, Array<KVBucketInfo>, ClientError>
  /** A bucket by its name: what it was made with, and what it holds. */
  getBucketInfo(name: string, ...options: CallArgs<F>): Kind<F, KVBucketInfo, KvBucketError>
  /** Deletes a bucket with all its keys. */
  deleteBucket(name: string, ...options: CallArgs<F>): Kind<F, void, KvBucketError>
}

/** What each method is called by, and takes. */
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
      call
    ],
    { BucketExistsError: true }
  ],
  listBuckets: [[call]],
  getBucketInfo: [byId, inBucket],
  deleteBucket: [byId, inBucket]
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
   * Every change of the keys that fit `options.key`, in the order of their revisions. Over HTTP it goes on after a lost
   * connection where it was. Whoever falls far behind sees the latest change of each key, and earlier ones as far as the
   * bucket's history keeps them. Fails with `RevisionGoneError` when deletions after `fromRevision` are forgotten (after a
   * day), and with `BucketNotFoundError` when the bucket is deleted. A value that does not fit the schema ends it, too: the
   * error's `revision` is where another watch goes on.
   */
  watch(
    options?: KVWatchOptions
  ): Stream.Stream<KVWatchEvent<Out>, E | ValidationError | RevisionGoneError | KvBucketError>
}

/** How a watch is called. */
export const kvBucketWatch: StreamMethods<Pick<KvBucket, "watch">> = {
  watch: [[{ key: true, fromRevision: true, onOpen: true }], { ...inBucket, RevisionGoneError: true }]
}

/** The buckets of an environment, as Effects. */
export interface KvService extends KvApi<EffectKind> {
  /**
   * The keys of a bucket. Says nothing about whether it exists: calls do. With a schema its values are typed, encoded and
   * decoded, and calls fail with `KeySchemaError` when one does not fit.
   */
  bucket<S extends AnySchema | undefined = undefined>(
    name: string,
    options?: KVBucketOptions<S>
  ): KvBucket<SchemaInput<S>, SchemaOutput<S>, S extends undefined ? never : KeySchemaError>
}

/** The key-value store where nothing is known of values: what `typedKv` makes the service of. */
export interface UntypedKv extends KvApi<EffectKind> {
  /** The keys of a bucket. Asks nothing of the server: a bucket that is not there fails the first call. */
  bucket(name: string): KvBucket
}

/** The key-value store as an Effect service. */
export class Kv extends Context.Service<Kv, KvService>()("@ironflow/node/Kv") {}
