/** The key-value store in the Promise API. */
import * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type { EffectKind, PromiseKind } from "../Client/Client.ts"
import { serverKeys, type ServerOptions } from "../Client/HttpOptions.ts"
import {
  Kv,
  type KvApi,
  type KvBucket,
  type KvBucketApi,
  type KVBucketOptions,
  kvBucketMethods,
  kvMethods,
  type KVWatchEvent,
  type KVWatchOptions
} from "../Client/Kv.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ValidationError } from "../Errors.ts"
import { checkKeys, type Keys } from "../OptionKeys.ts"
import { pathOf } from "../Protocol/Http/CallAddress.ts"
import * as operations from "../Protocol/Kv.ts"
import { type AnySchema, checkSchema, type SchemaInput, type SchemaOutput } from "../StandardSchema.ts"
import { type OnError, openRuntime, withErrorCallback } from "./AreaClient.ts"
import { namesOf } from "../Client/Methods.ts"
import { promisify, type RuntimeHandle } from "./Promisify.ts"
import { type KVWatchCallbacks, type KVWatcher, startWatch } from "./Watcher.ts"

/** Options of a client for the key-value store. */
export interface KVClientConfig extends ServerOptions {
  /**
   * Called with the error of each failed call. Once `onError` is done, the failed call rejects with the error. Errors
   * in `onError` are ignored. A watch has an `onError` of its own.
   */
  readonly onError?: OnError
}

const kvClientKeys = { ...serverKeys, onError: true } satisfies Keys<KVClientConfig>

const bucketOptionKeys = { schema: true } satisfies Keys<KVBucketOptions>

type ClientRuntimeHandle = RuntimeHandle<ClientServices, ValidationError>

/** The buckets of an environment: what `client.kv()` returns. */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the constructor assigns all methods
export interface KVClient extends KvApi<PromiseKind> {}

export class KVClient implements AsyncDisposable {
  readonly #handle: ClientRuntimeHandle
  readonly #onError: OnError | undefined
  readonly #isShared: boolean

  /**
   * Creates a client of the configured server. `client.kv()` passes a `handle`, so that closing `client` also
   * closes this client. Throws `ValidationError` when the configuration is invalid.
   */
  constructor(config: KVClientConfig = {}, handle?: ClientRuntimeHandle) {
    checkKeys(config, kvClientKeys, "KVClient")
    this.#handle = handle ?? openRuntime(config, "KVClient", "key-value client")
    this.#isShared = handle !== undefined
    this.#onError = config.onError
    const methods = promisify<KvApi<PromiseKind>, KvApi<EffectKind>, ClientServices, ValidationError>(
      this.#handle,
      Kv,
      namesOf(kvMethods)
    )
    const paths: Record<string, Parameters<typeof pathOf>[0]> = {
      createBucket: operations.createBucket,
      listBuckets: operations.listBuckets,
      getBucketInfo: operations.getBucket,
      deleteBucket: operations.deleteBucket
    }
    Object.assign(
      this,
      withErrorCallback(methods, namesOf(kvMethods), this.#onError, (method, [bucket]) => ({
        method: `kv.${method}`,
        endpoint: pathOf(paths[method] ?? operations.listBuckets, { bucket: String(bucket) })
      }))
    )
  }

  /**
   * Returns a handle for the keys of a bucket. Whether the bucket exists is not checked. With a `schema`
   * (Zod, Valibot, ArkType, Effect) values are typed, and each value is checked when it is read or written:
   * methods reject with `KeySchemaError` when a value does not fit. Throws `ValidationError` when `schema` is
   * not a schema.
   */
  bucket<S extends AnySchema | undefined = undefined>(
    name: string,
    options?: KVBucketOptions<S>
  ): KVBucketHandle<SchemaInput<S>, SchemaOutput<S>> {
    checkKeys(options, bucketOptionKeys, "kv.bucket()")
    return new KVBucketHandle<SchemaInput<S>, SchemaOutput<S>>(
      name,
      this.#onError === undefined ? {} : { onError: this.#onError },
      this.#handle,
      options?.schema
    )
  }

  /**
   * Rejects the calls in flight and all later calls. Does nothing for a client from `client.kv()`, which closes
   * together with `client`.
   */
  async close(): Promise<void> {
    if (this.#isShared) return
    this.#handle.isClosed = true
    await this.#handle.runtime.dispose()
  }

  /** Closes the client, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** The keys of a bucket. `In` is the type of the values that are written, and `Out` the type of the values that are read. */
// oxlint-disable-next-line typescript/no-unsafe-declaration-merging -- the constructor assigns all methods
export interface KVBucketHandle<In = unknown, Out = unknown> extends KvBucketApi<PromiseKind, In, Out> {}

export class KVBucketHandle<In = unknown, Out = unknown> implements AsyncDisposable {
  /** Name of the bucket. */
  readonly name: string
  readonly #options: KVBucketOptions | undefined
  readonly #handle: ClientRuntimeHandle
  readonly #isShared: boolean

  /**
   * Creates a handle for a bucket on the configured server. Throws `ValidationError` when the configuration
   * is invalid. For values with a schema use `KVClient.bucket`.
   */
  constructor(
    bucketName: string,
    config: KVClientConfig = {},
    handle?: ClientRuntimeHandle,
    schema?: AnySchema
  ) {
    this.name = bucketName
    checkKeys(config, kvClientKeys, "KVBucketHandle")
    this.#options =
      schema === undefined
        ? undefined
        : { schema: checkSchema(schema, `\`schema\` of bucket "${bucketName}"`) }
    this.#handle = handle ?? openRuntime(config, "KVBucketHandle", "key-value client")
    this.#isShared = handle !== undefined
    let cached: KvBucket | undefined
    // the bucket is made once, since the runtime always has the same service
    const bucket = Effect.map(Kv, (kv) => (cached ??= kv.bucket(bucketName, this.#options) as KvBucket))
    const methods = promisify<
      KvBucketApi<PromiseKind, In, Out>,
      KvBucketApi<EffectKind>,
      ClientServices,
      ValidationError
    >(this.#handle, bucket, namesOf(kvBucketMethods))
    Object.assign(
      this,
      withErrorCallback(methods, namesOf(kvBucketMethods), config.onError, (method, [key]) => ({
        method: `kv.bucket.${method}`,
        endpoint:
          method === "listKeys" || method === "write"
            ? pathOf(method === "write" ? operations.writeKeys : operations.listKeys, { bucket: bucketName })
            : pathOf(method === "history" ? operations.keyHistory : operations.getKey, {
                bucket: bucketName,
                key: String(key)
              })
      }))
    )
  }

  /**
   * Watches the keys that match `filter`, as an async iterable. The watch is active once `ready` has resolved. When
   * callbacks are given in place of `filter`, they receive the changes, and `options.key` is the filter.
   */
  watch(filter?: string, options?: KVWatchOptions): KVWatcher<Out>
  watch(callbacks: KVWatchCallbacks<Out>, options?: KVWatchOptions): KVWatcher<Out>
  watch(first?: string | KVWatchCallbacks<Out>, options: KVWatchOptions = {}): KVWatcher<Out> {
    const key = typeof first === "string" ? first : options.key
    return startWatch<KVWatchEvent<Out>, Error, ClientServices, ValidationError>(
      this.#handle,
      (onOpen) =>
        Effect.map(
          Kv,
          (kv) =>
            kv.bucket(this.name, this.#options).watch({
              ...options,
              ...(key === undefined ? {} : { key }),
              onOpen: (revision) => {
                onOpen()
                options.onOpen?.(revision)
              }
              // the cast: `Out` is the type of the values as the schema in the options decodes them
            }) as Stream.Stream<KVWatchEvent<Out>, Error>
        ),
      typeof first === "string" ? undefined : first
    )
  }

  /**
   * Rejects the calls in flight and all later calls. Does nothing for a handle from {@link KVClient.bucket}, which
   * closes together with its client.
   */
  async close(): Promise<void> {
    if (this.#isShared) return
    this.#handle.isClosed = true
    await this.#handle.runtime.dispose()
  }

  /** Closes the handle, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
