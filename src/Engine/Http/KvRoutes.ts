/** The key-value store over HTTP: bodies of writes are the values themselves, values that are read are base64. */
import * as Effect from "effect/Effect"
import { isUtf8 } from "node:buffer"
import { type IronflowError, LimitExceededError, ValidationError } from "../../Errors.ts"
import { safeJsonParse } from "../../Json.ts"
import { checkShape, Counted } from "../../JsonShape.ts"
import { checkKey, checkRevision } from "../../KvKeys.ts"
import {
  contentTypes,
  type StoredValue,
  typeOfContent,
  typeOfWritten,
  VALUE_TYPE_HEADER
} from "../../KvValue.ts"
import * as Limits from "../../Limits.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import type { EngineService } from "../Engine.ts"
import { BUCKETS_PAGE, checkDistinct, KEYS_PAGE } from "../EngineKv.ts"
import { allAsJson, readPageQuery } from "../Pages.ts"
import type { KvEntryRow, KvWriteRow } from "../Store/Store.ts"
import { pagedReply, seen } from "./PagedReply.ts"
import { type Call, checked, json, noContent, type Reply, type Route, route, variable } from "./Route.ts"

export const kvRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const kvOf = (call: Call) => engine.kv(call.environment)
  const stored = (call: Call) => engine.storedKeys(call.environment, variable(call, "bucket"))

  return [
    route("createBucket", (call) =>
      Effect.flatMap(
        checked(() => readBucket(call.body)),
        (config) => Effect.map(kvOf(call).createBucket(config), (info) => json(info, 201))
      )
    ),
    route("listBuckets", (call) =>
      pagedReply("buckets", call.query, {
        all: (buckets, count) => `{"buckets":[${buckets}],"count":${count}}`,
        most: BUCKETS_PAGE,
        read: (page) => seen(call, engine.bucketsPage(call.environment, page))
      })
    ),
    route("getBucket", (call) =>
      Effect.map(kvOf(call).getBucketInfo(variable(call, "bucket")), (info) => json(info))
    ),
    route("deleteBucket", (call) => Effect.as(kvOf(call).deleteBucket(variable(call, "bucket")), noContent)),
    route("listKeys", (call) =>
      Effect.flatMap(
        checked(() => readPageQuery(call.query, KEYS_PAGE)),
        (page) => {
          const filter = call.query.get("filter") ?? undefined
          return page === undefined
            ? Effect.map(
                allAsJson(`all keys of bucket "${variable(call, "bucket")}"`, (after) =>
                  Effect.map(
                    stored(call).listKeys(filter, { after, limit: KEYS_PAGE }),
                    ({ keys: items, ...next }) => ({ items, ...next })
                  )
                ),
                ({ count, text }) => ({ status: 200, text: `{"keys":[${text}],"count":${count}}` })
              )
            : Effect.map(stored(call).listKeys(filter, page), ({ keys, ...next }) =>
                json({ keys, count: keys.length, ...next })
              )
        }
      )
    ),
    route("getKey", (call) =>
      Effect.map(stored(call).get(variable(call, "key")), (entry) => json(encodeEntry(entry)))
    ),
    route("keyHistory", (call) =>
      pagedReply("entries", call.query, {
        what: `revisions of key "${variable(call, "key")}"`,
        all: (entries) => `{"entries":[${entries}]}`,
        most: Limits.kvHistory,
        read: (page) =>
          Effect.map(stored(call).history(variable(call, "key"), page), ({ items, ...next }) => ({
            items: items.map(encodeEntry),
            ...next
          }))
      })
    ),
    route(
      "putKey",
      (call) =>
        writing(
          call,
          () => readPut(call),
          ([revision = 0]) => json({ revision })
        ),
      { reads: "bytes" }
    ),
    route("deleteKey", (call) =>
      writing(
        call,
        () => [readDelete(call)],
        () => noContent
      )
    ),
    route("writeKeys", (call) =>
      writing(
        call,
        () => {
          const writes = readWrites(call.body)
          if (writes.some(({ value }) => value === undefined)) {
            call.caller?.check("kv:delete", `bucket:${variable(call, "bucket")}`, call.environment)
          }
          return writes
        },
        (revisions) => json({ revisions })
      )
    )
  ]

  function writing(
    call: Call,
    read: () => Array<KvWriteRow>,
    answer: (revisions: Array<number>) => Reply
  ): Effect.Effect<Reply, IronflowError> {
    return Effect.flatMap(checked(read), (writes) => Effect.map(stored(call).write(writes), answer))
  }
}

const readBucket = lenient(Schemas.CreateBucketRequest, "Bucket")
const readWriteKeys = lenient(Schemas.WriteKeysRequest, "Write")

const readPut = (call: Call): Array<KvWriteRow> => {
  const key = checkKey(variable(call, "key"))
  const bytes = call.body instanceof Uint8Array ? call.body : new Uint8Array()
  const expected = readPrecondition(call)
  const { headers } = call.request
  return [
    {
      key,
      value: checkValue(key, {
        type: typeOfWritten(headers["content-type"], headers[VALUE_TYPE_HEADER]),
        bytes
      }),
      ...(expected === undefined ? {} : { expected })
    }
  ]
}

const readDelete = (call: Call): KvWriteRow => {
  const key = checkKey(variable(call, "key"))
  if (call.query.get("purge") === "true") return { key, purge: true }
  const expected = readPrecondition(call)
  return expected === undefined ? { key } : { key, expected }
}

/** The revision that the key must have, 0 for none. */
const readPrecondition = ({ request }: Call): number | undefined => {
  const none = request.headers["if-none-match"]
  const match = request.headers["if-match"]
  if (none !== undefined && match !== undefined) {
    throw new ValidationError("If-Match and If-None-Match contradict each other: send one of them")
  }
  if (none !== undefined) {
    if (none.trim() === "*") return 0
    throw new ValidationError(`If-None-Match can only be *, got ${JSON.stringify(none.slice(0, 64))}`)
  }
  if (match === undefined) return undefined
  const digits = /^\s*"?(\d{1,16})"?\s*$/.exec(match)?.[1]
  if (digits !== undefined) return checkRevision(Number(digits))
  throw new ValidationError(
    `If-Match must be a revision in plain digits, got ${JSON.stringify(match.slice(0, 64))}`
  )
}

const readWrites = (body: unknown): Array<KvWriteRow> => {
  const { writes } = readWriteKeys(body)
  if (writes.length === 0) throw new ValidationError("An atomic write needs a list of at least one change")
  if (writes.length > Limits.kvWrites) {
    throw new LimitExceededError("The atomic write", writes.length, Limits.kvWrites, "changes")
  }
  const counted = new Counted()
  return checkDistinct(
    writes.map(({ op, revision, value, contentType, ...write }): KvWriteRow => {
      const key = checkKey(write.key)
      const expected =
        op === "create"
          ? { expected: 0 }
          : op === "update" || (op === "delete" && revision !== undefined)
            ? { expected: checkRevision(revision) }
            : {}
      if (op === "delete") return { key, ...expected }
      if (value === undefined) throw new ValidationError(`The write of key "${key}" has no value`)
      const bytes = Buffer.from(value, "base64")
      return {
        key,
        value: checkValue(key, { type: typeOfContent(contentType), bytes }, counted),
        ...expected
      }
    })
  )
}

const checkValue = (key: string, value: StoredValue, counted = new Counted()): StoredValue => {
  const what = `The value of key "${key}"`
  if (value.bytes.byteLength > Limits.kvValueBytes) {
    throw new LimitExceededError(what, value.bytes.byteLength, Limits.kvValueBytes, "bytes")
  }
  if (value.type === "json") {
    const text = Buffer.from(value.bytes).toString()
    checkShape(what, text, Limits.jsonDepth, counted)
    if (!isUtf8(value.bytes) || safeJsonParse(text, notJson) === notJson) {
      throw new ValidationError(`${what} is announced as JSON and is none`)
    }
  }
  return value.type === "text" && !isUtf8(value.bytes) ? { type: "raw", bytes: value.bytes } : value
}

const notJson: unknown = Symbol("not JSON")

const encodeEntry = (entry: KvEntryRow) => ({
  key: entry.key,
  value: base64(entry.value.bytes),
  content_type: contentTypes[entry.value.type],
  revision: entry.revision,
  created_at: new Date(entry.createdAt).toISOString(),
  operation: entry.operation === "put" ? "put" : "delete",
  ...(entry.expiresAt === undefined ? {} : { expires_at: new Date(entry.expiresAt).toISOString() })
})

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")
