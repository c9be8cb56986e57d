/**
 * The key-value store over HTTP. Values are sent with the content types that legacy servers know. For a value that is
 * sent as `octet-stream`, a further header names its type. The engine of this package stores this type, so values come
 * back unchanged. Legacy servers return base64, which is decoded as JSON if that is possible, or else as a string, or
 * else as bytes.
 */
import * as Effect from "effect/Effect"
import { BucketExistsError, KeyNotFoundError, RevisionConflictError, ValidationError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { checkBucketName, checkKey, checkRevision, compileFilter } from "../KvKeys.ts"
import { contentTypes, decodeValue, encodeValue, typeOfContent, headersOfWrite } from "../KvValue.ts"
import { snakeKeys } from "../Protocol/Codec.ts"
import * as calls from "../Protocol/Kv.ts"
import type { Operation } from "../Protocol/CallSpec.ts"
import { show } from "../Show.ts"
import { quote } from "./HttpCalls.ts"
import { validated } from "../CheckAsEffect.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { Connection } from "./HttpConnection.ts"
import { watchOf } from "./HttpWatch.ts"
import type { KVBucketConfig, KvBucket, KVHistoryEntry, KVWatchEvent, KVWrite, UntypedKv } from "./Kv.ts"
import { type Input, makeOperationCalls } from "./OperationCalls.ts"

export const make = (connection: Connection): Raw<UntypedKv> => {
  const { ask, listInPages } = makeOperationCalls(connection)
  /** Makes a method that takes the name of a bucket and makes a call about this bucket. */
  const bucketMethod =
    <A>(operation: Operation<A>, method: string) =>
    (name: string) =>
      Effect.flatMap(
        validated(() => checkBucketName(name)),
        (bucket) => ask(operation, method, { variables: { bucket }, requestMembers: { name } })
      )
  return {
    createBucket: (config) =>
      Effect.flatMap(
        validated(() => encodeBucket(config)),
        (body) =>
          ask(calls.createBucket, "createBucket", {
            body,
            subject: body.name,
            conflict: () => new BucketExistsError(body.name),
            requestMembers: { name: body.name }
          })
      ),
    listBuckets: () => listInPages(calls.listBuckets, "listBuckets", {}, ({ buckets }) => buckets),
    getBucketInfo: bucketMethod(calls.getBucket, "getBucketInfo"),
    deleteBucket: bucketMethod(calls.deleteBucket, "deleteBucket"),
    bucket: (name) => makeBucket(connection, name)
  }
}

const makeBucket = (connection: Connection, name: string): Raw<KvBucket> => {
  const { ask, listInPages, failUnsupported } = makeOperationCalls(connection)
  const inBucket = `in bucket ${quote(name)}`

  /** Makes a call about one key. */
  const askAboutKey = <A>(operation: Operation<A>, method: string, key: string, more: Input<A> = {}) =>
    Effect.flatMap(
      validated(() => ({ bucket: checkBucketName(name), key: checkKey(key) })),
      (variables) =>
        ask(operation, method, {
          variables,
          subject: name,
          what: `${method}(${quote(key)}) ${inBucket}`,
          requestMembers: { key },
          ...more
        })
    )

  const putKey = (method: string, key: string, value: unknown, expectedRevision?: number) =>
    Effect.flatMap(
      validated(() => {
        const { bytes, type } = encodeValue(value, `The value of key ${quote(key)}`)
        return { bytes, written: headersOfWrite(type) }
      }),
      ({ bytes, written }) =>
        askAboutKey(calls.putKey, method, key, {
          body: bytes,
          contentType: written.contentType,
          headers: { ...written.headers, ...precondition(expectedRevision) },
          preconditionFailed: (text) => conflict(name, key, expectedRevision ?? 0, text),
          // some servers answer 409 when a key exists
          ...(expectedRevision === undefined
            ? {}
            : { conflict: () => conflict(name, key, expectedRevision, "") })
        })
    )

  return {
    name,
    get: (key) =>
      Effect.map(
        askAboutKey(calls.getKey, "get", key, { notFound: () => new KeyNotFoundError(name, key) }),
        toEntry
      ),
    put: (key, value) => putKey("put", key, value),
    create: (key, value) => putKey("create", key, value, 0),
    update: (key, value, revision) =>
      Effect.flatMap(
        validated(() => checkRevision(revision)),
        (expectedRevision) => putKey("update", key, value, expectedRevision)
      ),
    delete: (key, { revision } = {}) =>
      Effect.flatMap(
        validated(() => (revision === undefined ? undefined : checkRevision(revision))),
        (expectedRevision) =>
          askAboutKey(calls.deleteKey, "delete", key, {
            headers: precondition(expectedRevision),
            preconditionFailed: (text) => conflict(name, key, expectedRevision ?? 0, text)
          })
      ),
    purge: (key) => askAboutKey(calls.deleteKey, "purge", key, { query: "?purge=true" }),
    listKeys: (filter) =>
      Effect.flatMap(
        validated(() => ({ matches: compileFilter(filter), bucket: checkBucketName(name) })),
        ({ matches, bucket }) =>
          listInPages(
            calls.listKeys,
            "listKeys",
            {
              variables: { bucket },
              ...(filter === undefined || filter === "" ? {} : { query: { filter } }),
              what: `listKeys(${filter === undefined ? "" : quote(filter)}) of bucket ${quote(name)}`
            },
            // a legacy server may ignore wildcards inside of tokens, and send keys that do not match
            ({ keys }) => keys.filter(matches)
          )
      ),
    history: (key) =>
      Effect.flatMap(
        validated(() => ({ bucket: checkBucketName(name), key: checkKey(key) })),
        (variables) =>
          listInPages(
            calls.keyHistory,
            "history",
            {
              variables,
              what: `history(${quote(key)}) ${inBucket}`,
              requestMembers: { key },
              notFound: () => new KeyNotFoundError(name, key),
              whenUnsupported: failUnsupported(`history(${quote(key)})`, "Read the key itself with `get`")
            },
            ({ entries }) => entries.map(toEntry)
          )
      ),
    write: (writes) =>
      Effect.flatMap(
        validated(() => ({ bucket: checkBucketName(name), body: { writes: encodeWrites(writes) } })),
        ({ body, bucket }) =>
          ask(calls.writeKeys, "write", {
            variables: { bucket },
            body,
            what: `write() ${inBucket}`,
            whenUnsupported: failUnsupported(`write() ${inBucket}`, "Write the keys one by one")
          })
      ),
    watch: ({ key, ...options } = {}) =>
      watchOf(connection, calls.watchKeys, {
        ...options,
        variables: () => {
          compileFilter(key)
          return { bucket: checkBucketName(name) }
        },
        query: { key },
        what: `watch() of bucket ${quote(name)}`,
        subject: name,
        requestMembers: { bucket: name },
        change: toChange
      })
  }
}

const precondition = (expectedRevision: number | undefined): { readonly [name: string]: string } =>
  expectedRevision === undefined
    ? {}
    : expectedRevision === 0
      ? { "if-none-match": "*" }
      : { "if-match": String(expectedRevision) }

/** The error of a conditional write. Some servers name the current revision in their message, `text`. */
const conflict = (
  bucket: string,
  key: string,
  expectedRevision: number,
  text: string
): RevisionConflictError => {
  const actual = /(?:sequence|revision|actual|current)\D{0,16}(\d+)/i.exec(text)?.[1]
  return new RevisionConflictError(
    bucket,
    key,
    expectedRevision,
    actual === undefined ? undefined : Number(actual)
  )
}

/** The body of the request that creates a bucket. Settings that are empty or zero are left out: they mean the default. */
const encodeBucket = (config: KVBucketConfig): { readonly name: string } => {
  if (!isObject(config))
    throw new ValidationError(
      `The configuration of a bucket must be an object such as { name: "settings" }, got ${show(config)}`
    )
  const name = checkBucketName(config.name)
  for (const field of ["ttlSeconds", "maxValueSize", "maxBytes", "history"] as const) {
    const value = config[field]
    if (value !== undefined && !(typeof value === "number" && Number.isFinite(value) && value >= 0)) {
      throw new ValidationError(
        `\`${field}\` of bucket "${name}" must be a number, at least 0, got ${show(value)}`
      )
    }
  }
  return calls.bucketBody({ ...config, name })
}

const encodeWrites = (writes: ReadonlyArray<KVWrite>): ReadonlyArray<object> => {
  if (!Array.isArray(writes))
    throw new ValidationError(
      `An atomic write needs a list of changes with at least one, got ${show(writes)}`
    )
  return (writes as ReadonlyArray<KVWrite>).map((write) => {
    const key = checkKey(write?.key)
    const revision = "revision" in write ? { revision: write.revision } : {}
    if (!("value" in write)) return { op: write.op, key, ...revision }
    const { bytes, type } = encodeValue(write.value, `The value of key ${quote(key)}`)
    return {
      op: write.op,
      key,
      value: Buffer.from(bytes).toString("base64"),
      ...snakeKeys({ contentType: contentTypes[type] }),
      ...revision
    }
  })
}

const toEntry = ({ contentType, operation, value, ...entry }: calls.StoredEntry): KVHistoryEntry => ({
  ...entry,
  ...(/^put$/i.test(operation)
    ? { value: readValue(value, contentType), operation: "put" }
    : { value: undefined, operation: "delete" })
})

const base64Pattern = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

const readValue = (value: unknown, type: string | undefined): unknown =>
  typeof value !== "string" || !base64Pattern.test(value)
    ? value
    : decodeValue({ type: typeOfContent(type), bytes: Buffer.from(value, "base64") })

const operations: ReadonlyMap<string, KVWatchEvent["operation"]> = new Map([
  ["put", "put"],
  ["delete", "delete"],
  ["del", "delete"],
  ["purge", "purge"],
  ["expire", "expire"]
])

const toChange = ({ bucket, contentType, key, revision, value, ...frame }: calls.KeyChange): KVWatchEvent => {
  const operation = operations.get(frame.operation.toLowerCase()) ?? "put"
  return {
    bucket,
    key,
    ...(operation === "put" ? { value: readValue(value, contentType), operation } : { operation }),
    revision
  }
}
