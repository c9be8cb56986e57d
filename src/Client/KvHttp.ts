/**
 * The key-value store of a server elsewhere. Values travel as existing servers know them, with a header that says what octets
 * were: the engine of this package keeps that, so that values come back as they went in. From other servers they come as base64
 * and are taken for JSON, else for text, else for bytes.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import {
  BucketExistsError,
  BucketNotFoundError,
  type IronflowError,
  KeyNotFoundError,
  RevisionConflictError,
  ValidationError
} from "../Errors.ts"
import { isObject, numberOf, textOf } from "../Json.ts"
import { checkBucketName, checkKey, checkRevision, compileFilter } from "../KvKeys.ts"
import { contentTypes, decodeValue, encodeValue, typeOfContent, writtenAs } from "../KvValue.ts"
import { type Endpoint, endpoints, pathOf, sockets } from "../Protocol/Http/Endpoints.ts"
import { show } from "../Show.ts"
import { type Call, checked, done, makeCalls, quote } from "./HttpCalls.ts"
import type { Raw } from "./Named.ts"
import type { Connection } from "./HttpConnection.ts"
import { callPages } from "./HttpPages.ts"
import { type Frame, watch } from "./HttpWatch.ts"
import type {
  KVBucketConfig,
  KVBucketInfo,
  KvBucket,
  KVHistoryEntry,
  KVWatchEvent,
  KVWrite,
  UntypedKv
} from "./Kv.ts"

export const make = (connection: Connection): Raw<UntypedKv> => {
  const calls = makeCalls(connection)
  const { call } = calls
  const named = <A>(name: string, use: (name: string) => Effect.Effect<A, IronflowError>) =>
    Effect.flatMap(
      checked(() => checkBucketName(name)),
      use
    )
  return {
    createBucket: (config) =>
      Effect.flatMap(
        checked(() => encodeBucket(config)),
        ({ body, name }) =>
          call<KVBucketInfo>({
            endpoint: endpoints.createBucket,
            body,
            what: `createBucket(${quote(name)})`,
            repeatable: false,
            conflict: () => new BucketExistsError(name),
            read: (answer) => readInfo(answer, name)
          })
      ),
    listBuckets: () =>
      callPages<KVBucketInfo>(calls, {
        endpoint: endpoints.listBuckets,
        what: "listBuckets()",
        repeatable: true,
        read: (answer) =>
          isObject(answer)
            ? (Array.isArray(answer.buckets) ? answer.buckets : []).flatMap((info) => readInfo(info) ?? [])
            : undefined
      }),
    getBucketInfo: (name) =>
      named(name, (bucket) =>
        call<KVBucketInfo>({
          endpoint: endpoints.getBucket,
          variables: { bucket },
          what: `getBucketInfo(${quote(name)})`,
          repeatable: true,
          notFound: () => new BucketNotFoundError(name),
          read: (answer) => readInfo(answer, name)
        })
      ),
    deleteBucket: (name) =>
      named(name, (bucket) =>
        Effect.asVoid(
          call({
            endpoint: endpoints.deleteBucket,
            variables: { bucket },
            what: `deleteBucket(${quote(name)})`,
            repeatable: false,
            notFound: () => new BucketNotFoundError(name),
            read: () => done
          })
        )
      ),
    bucket: (name) => makeBucket(connection, name)
  }
}

const makeBucket = (connection: Connection, name: string): Raw<KvBucket> => {
  const calls = makeCalls(connection)
  const { call, withoutEndpoint } = calls

  /** A call about one key. */
  const onKey = <A>(
    endpoint: Endpoint,
    method: string,
    key: string,
    more: Pick<Call<A>, "read" | "repeatable"> & Partial<Call<A>>
  ): Effect.Effect<A, IronflowError> =>
    Effect.flatMap(
      checked(() => ({ bucket: checkBucketName(name), key: checkKey(key) })),
      (variables) =>
        call<A>({
          endpoint,
          variables,
          what: `${method}(${quote(key)}) in bucket ${quote(name)}`,
          notFound: () => new KeyNotFoundError(name, key),
          ...more
        })
    )

  const putKey = (method: string, key: string, value: unknown, expected?: number) =>
    Effect.flatMap(
      checked(() => {
        const { bytes, type } = encodeValue(value, `The value of key ${quote(key)}`)
        return { bytes, written: writtenAs(type) }
      }),
      ({ bytes, written }) =>
        onKey<{ readonly revision: number }>(endpoints.putKey, method, key, {
          body: bytes,
          contentType: written.contentType,
          headers: { ...written.headers, ...precondition(expected) },
          repeatable: false,
          // a key that is not there can be put: it is the bucket that is missing
          notFound: () => new BucketNotFoundError(name),
          refused: (text) => conflict(name, key, expected ?? 0, text),
          // some servers answer so when a key exists
          ...(expected === undefined ? {} : { conflict: () => conflict(name, key, expected, "") }),
          read: readRevision
        })
    )

  return {
    name,
    get: (key) =>
      onKey(endpoints.getKey, "get", key, { repeatable: true, read: (answer) => readEntry(answer, key) }),
    put: (key, value) => putKey("put", key, value),
    create: (key, value) => putKey("create", key, value, 0),
    update: (key, value, revision) =>
      Effect.flatMap(
        checked(() => checkRevision(revision)),
        (expected) => putKey("update", key, value, expected)
      ),
    delete: (key, { revision } = {}) =>
      Effect.flatMap(
        checked(() => (revision === undefined ? undefined : checkRevision(revision))),
        (expected) =>
          Effect.asVoid(
            onKey(endpoints.deleteKey, "delete", key, {
              headers: precondition(expected),
              repeatable: false,
              notFound: () => new BucketNotFoundError(name),
              refused: (text) => conflict(name, key, expected ?? 0, text),
              read: () => done
            })
          )
      ),
    purge: (key) =>
      Effect.asVoid(
        onKey(endpoints.deleteKey, "purge", key, {
          query: "?purge=true",
          repeatable: false,
          notFound: () => new BucketNotFoundError(name),
          read: () => done
        })
      ),
    listKeys: (filter) =>
      Effect.flatMap(
        checked(() => {
          const accepts = compileFilter(filter)
          return { accepts, bucket: checkBucketName(name) }
        }),
        ({ accepts, bucket }) =>
          callPages<string>(calls, {
            endpoint: endpoints.listKeys,
            variables: { bucket },
            query: filter === undefined || filter === "" ? {} : { filter },
            what: `listKeys(${filter === undefined ? "" : quote(filter)}) of bucket ${quote(name)}`,
            repeatable: true,
            notFound: () => new BucketNotFoundError(name),
            read: (answer) =>
              isObject(answer)
                ? // a server that knows no wildcards within a token may send more than was asked for
                  (Array.isArray(answer.keys) ? answer.keys : []).filter(
                    (key): key is string => typeof key === "string" && accepts(key)
                  )
                : undefined
          })
      ),
    history: (key) =>
      Effect.flatMap(
        checked(() => ({ bucket: checkBucketName(name), key: checkKey(key) })),
        (variables) =>
          callPages<KVHistoryEntry>(calls, {
            endpoint: endpoints.keyHistory,
            variables,
            what: `history(${quote(key)}) in bucket ${quote(name)}`,
            repeatable: true,
            ours: true,
            notFound: () => new KeyNotFoundError(name, key),
            orElse: withoutEndpoint(`history(${quote(key)})`, "Read the key itself with `get`"),
            read: (answer) =>
              isObject(answer) && Array.isArray(answer.entries)
                ? answer.entries.flatMap((entry) => readEntry(entry, key) ?? [])
                : undefined
          })
      ),
    write: (writes) =>
      Effect.flatMap(
        checked(() => ({ bucket: checkBucketName(name), body: encodeWrites(writes) })),
        ({ body, bucket }) =>
          call({
            endpoint: endpoints.writeKeys,
            variables: { bucket },
            body,
            what: `write() in bucket ${quote(name)}`,
            repeatable: false,
            ours: true,
            notFound: () => new BucketNotFoundError(name),
            orElse: withoutEndpoint(`write() in bucket ${quote(name)}`, "Write the keys one by one"),
            read: (answer) =>
              isObject(answer) && Array.isArray(answer.revisions)
                ? { revisions: answer.revisions.map(Number) }
                : undefined
          })
      ),
    watch: (options = {}) =>
      Stream.unwrap(
        Effect.map(
          checked(() => {
            compileFilter(options.key)
            if (options.fromRevision !== undefined) checkRevision(options.fromRevision, 0)
            return pathOf({ path: sockets.watchKeys }, { bucket: checkBucketName(name) })
          }),
          (path) =>
            watch<KVWatchEvent>(connection, {
              path,
              query: { key: options.key },
              what: `watch() of bucket ${quote(name)}`,
              from: options.fromRevision,
              onOpen: options.onOpen,
              notFound: () => new BucketNotFoundError(name),
              read: (frame) => readFrame(frame, name)
            })
        )
      )
  }
}

const precondition = (expected: number | undefined): { readonly [name: string]: string } =>
  expected === undefined ? {} : expected === 0 ? { "if-none-match": "*" } : { "if-match": String(expected) }

/** Some servers say the revision that there is, in words. */
const conflict = (bucket: string, key: string, expected: number, text: string): RevisionConflictError => {
  const said = /(?:sequence|revision|actual|current)\D{0,16}(\d+)/i.exec(text)?.[1]
  return new RevisionConflictError(bucket, key, expected, said === undefined ? undefined : Number(said))
}

const encodeBucket = (config: KVBucketConfig): { readonly name: string; readonly body: string } => {
  if (!isObject(config)) throw new ValidationError("A bucket needs a configuration with a `name`")
  const name = checkBucketName(config.name)
  for (const field of ["ttlSeconds", "maxValueSize", "maxBytes", "history"] as const) {
    const value = config[field]
    if (value !== undefined && !(typeof value === "number" && Number.isFinite(value) && value >= 0)) {
      throw new ValidationError(
        `\`${field}\` of bucket "${name}" must be a number from 0 up, got ${show(value)}`
      )
    }
  }
  // what is empty or zero means the default, and is left out
  const body = JSON.stringify({
    name,
    description: config.description || undefined,
    ttl_seconds: config.ttlSeconds || undefined,
    max_value_size: config.maxValueSize || undefined,
    max_bytes: config.maxBytes || undefined,
    history: config.history || undefined
  })
  return { name, body }
}

const encodeWrites = (writes: ReadonlyArray<KVWrite>): string => {
  if (!Array.isArray(writes)) throw new ValidationError("An atomic write needs a list of at least one change")
  return JSON.stringify({
    writes: (writes as ReadonlyArray<KVWrite>).map((write) => {
      const key = checkKey(write?.key)
      const revision = "revision" in write ? { revision: write.revision } : {}
      if (!("value" in write)) return { op: write.op, key, ...revision }
      const { bytes, type } = encodeValue(write.value, `The value of key ${quote(key)}`)
      return {
        op: write.op,
        key,
        value: Buffer.from(bytes).toString("base64"),
        content_type: contentTypes[type],
        ...revision
      }
    })
  })
}

const readInfo = (answer: unknown, name?: string): KVBucketInfo | undefined => {
  if (!isObject(answer)) return undefined
  const number = (field: string): number => numberOf(answer[field]) || 0
  const optional = (field: string) => (number(field) === 0 ? {} : { [field]: number(field) })
  const said = typeof answer.name === "string" ? answer.name : name
  if (said === undefined) return undefined
  return {
    name: said,
    ...(typeof answer.description === "string" && answer.description !== ""
      ? { description: answer.description }
      : {}),
    ...optional("ttl_seconds"),
    ...optional("max_value_size"),
    ...optional("max_bytes"),
    values: number("values"),
    bytes: number("bytes"),
    history: number("history") || 1,
    ...(answer.revision === undefined ? {} : { revision: number("revision") }),
    created_at: textOf(answer.created_at)
  }
}

const readRevision = (answer: unknown): { readonly revision: number } | undefined =>
  isObject(answer) && Number.isFinite(numberOf(answer.revision, Number.NaN))
    ? { revision: numberOf(answer.revision) }
    : undefined

const readEntry = (answer: unknown, key: string): KVHistoryEntry | undefined => {
  if (!isObject(answer)) return undefined
  return {
    key: typeof answer.key === "string" ? answer.key : key,
    ...(/^put$/i.test(textOf(answer.operation, "put"))
      ? { value: readValue(answer), operation: "put" }
      : { value: undefined, operation: "delete" }),
    revision: numberOf(answer.revision),
    created_at: textOf(answer.created_at),
    ...(typeof answer.expires_at === "string" ? { expires_at: answer.expires_at } : {})
  }
}

const base64Pattern = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

const readValue = ({ content_type, value }: Frame): unknown => {
  if (typeof value !== "string" || !base64Pattern.test(value)) return value
  return decodeValue({
    type: typeOfContent(typeof content_type === "string" ? content_type : undefined),
    bytes: Buffer.from(value, "base64")
  })
}

const operations: ReadonlyMap<string, KVWatchEvent["operation"]> = new Map([
  ["put", "put"],
  ["delete", "delete"],
  ["del", "delete"],
  ["purge", "purge"],
  ["expire", "expire"]
])

const readFrame = (frame: Frame, bucket: string) => {
  if (frame.type !== "kv_update" || typeof frame.key !== "string") return undefined
  const operation = operations.get(textOf(frame.operation, "put").toLowerCase()) ?? "put"
  const revision = numberOf(frame.revision)
  const change: KVWatchEvent = {
    bucket: typeof frame.bucket === "string" ? frame.bucket : bucket,
    key: frame.key,
    ...(operation === "put" ? { value: readValue(frame), operation } : { operation }),
    revision
  }
  return { revision, change }
}
