/** Typed buckets: a schema encodes values before they are written, and decodes them after they were read. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { keyFormat } from "../DataCodec.ts"
import { KeySchemaError, type ValidationError } from "../Errors.ts"
import { bucketOptionKeys } from "../KvValue.ts"
import { checkKeys } from "../OptionKeys.ts"
import type { AnySchema } from "../StandardSchema.ts"
import { clientCodec } from "./ClientCodec.ts"
import type { KvBucket, KVBucketOptions, KVEntry, KvService, KVWatchEvent, KVWrite, UntypedKv } from "./Kv.ts"

/** Makes the key-value store whose buckets may have schemas. */
export const typedKv = (kv: UntypedKv): KvService => {
  const bucket = (name: string, options?: KVBucketOptions<AnySchema | undefined>): KvBucket => {
    checkKeys(options, bucketOptionKeys, "kv.bucket()")
    const untyped = kv.bucket(name)
    return options?.schema === undefined ? untyped : typedBucket(untyped, options.schema)
  }
  // at run time there is one function; its type in `KvService` depends on the schema
  return { ...kv, bucket: bucket as KvService["bucket"] }
}

const typedBucket = (bucket: KvBucket, schema: AnySchema): KvBucket => {
  const { name } = bucket
  const codec = clientCodec(schema, keyFormat, `\`schema\` of bucket "${name}"`)
  const encode = (key: string, value: unknown) =>
    codec.encode(
      value,
      `The value of key "${key}"`,
      (problems, cause) => new KeySchemaError(name, key, undefined, problems, { cause })
    )
  const decode = (key: string, revision: number, value: unknown) =>
    codec.decode(value, (problems, cause) => new KeySchemaError(name, key, revision, problems, { cause }))

  const decodeEntry = <E extends KVEntry>(entry: E) =>
    entry.operation === "put"
      ? Effect.map(decode(entry.key, entry.revision, entry.value), (value): E => ({ ...entry, value }))
      : Effect.succeed(entry)
  const encodeWrite = (write: KVWrite) =>
    // untyped callers may pass anything, so `write` may be no object
    write?.op === "put" || write?.op === "create" || write?.op === "update"
      ? Effect.map(encode(write.key, write.value), (value): KVWrite => ({ ...write, value }))
      : Effect.succeed(write)

  return {
    ...bucket,
    get: (...args) => Effect.flatMap(bucket.get(...args), decodeEntry),
    put: (key, value, ...more) =>
      Effect.flatMap(encode(key, value), (encoded) => bucket.put(key, encoded, ...more)),
    create: (key, value, ...more) =>
      Effect.flatMap(encode(key, value), (encoded) => bucket.create(key, encoded, ...more)),
    update: (key, value, ...more) =>
      Effect.flatMap(encode(key, value), (encoded) => bucket.update(key, encoded, ...more)),
    history: (...args) =>
      Effect.flatMap(bucket.history(...args), (entries) => Effect.forEach(entries, decodeEntry)),
    write: (writes, ...more) =>
      Array.isArray(writes)
        ? Effect.flatMap(Effect.forEach(writes, encodeWrite), (encoded) => bucket.write(encoded, ...more))
        : bucket.write(writes, ...more),
    watch: (options) =>
      Stream.mapEffect(bucket.watch(options), (event): Effect.Effect<KVWatchEvent, ValidationError> =>
        event.operation === "put"
          ? Effect.map(decode(event.key, event.revision, event.value), (value) => ({ ...event, value }))
          : Effect.succeed(event)
      )
  }
}
