/** The key-value store over HTTP: the body of a write of one key is the value itself; everywhere else values are in base64. */
import * as Effect from "effect/Effect"
import { isUtf8 } from "node:buffer"
import { LimitExceededError, ValidationError } from "../../Errors.ts"
import { safeJsonParse } from "../../Json.ts"
import { checkShape, ShapeCounts } from "../../JsonLimits.ts"
import { checkKey, checkRevision } from "../../KvKeys.ts"
import {
  contentTypes,
  type StoredValue,
  typeOfContent,
  typeOfWrite,
  VALUE_TYPE_HEADER
} from "../../KvValue.ts"
import * as Limits from "../../Limits.ts"
import { type KeyWrite, callSpecs, type StoredEntry } from "../../Protocol/Kv.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { BUCKETS_PAGE, checkDistinct, KEYS_PAGE } from "../../Engine/Kv/Kv.ts"
import { allAsJson } from "../../Engine/Pages.ts"
import { readPageQuery, visibleItems } from "../Http/PagedReply.ts"
import type { KvEntryRow, KvWriteRow } from "../../Engine/Kv/KvRecords.ts"
import { type Call, json, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answerRoute, pageRoute, bodyRoute, replyRoute } from "./CallRoute.ts"
import { show } from "../../Show.ts"

export const kvRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const kvOf = (call: Call) => engine.kv.in(call.environment)
  const bucket = (call: Call): string => variable(call, "bucket")
  const keysOf = (call: Call) => engine.kv.storedKeys(call.environment, bucket(call))
  const writeKeys = (call: Call, readRows: () => Array<KvWriteRow>) =>
    Effect.flatMap(checked(readRows), (writes) => keysOf(call).write(writes))

  return [
    bodyRoute(callSpecs.createBucket, "Bucket", (config, call) => kvOf(call).createBucket(config)),
    pageRoute(
      callSpecs.listBuckets,
      (call, page) => visibleItems(call, engine.kv.bucketsPage(call.environment, page)),
      () => ({
        encodeAll: (buckets, count) => `{"buckets":[${buckets}],"count":${count}}`,
        maxItems: BUCKETS_PAGE
      })
    ),
    answerRoute(callSpecs.getBucket, (call) => kvOf(call).getBucketInfo(bucket(call))),
    answerRoute(callSpecs.deleteBucket, (call) => kvOf(call).deleteBucket(bucket(call))),
    replyRoute(callSpecs.listKeys, (call) => {
      const filter = call.query.get("filter") ?? undefined
      return Effect.flatMap(
        checked(() => readPageQuery(call.query, KEYS_PAGE)),
        (page) =>
          page === undefined
            ? Effect.map(
                allAsJson(`all keys of bucket "${bucket(call)}"`, (after) =>
                  Effect.map(
                    keysOf(call).listKeys(filter, { after, limit: KEYS_PAGE }),
                    ({ keys: items, ...next }) => ({ items, ...next })
                  )
                ),
                ({ count, text }) => ({ status: 200, text: `{"keys":[${text}],"count":${count}}` })
              )
            : Effect.map(keysOf(call).listKeys(filter, page), ({ keys, ...next }) =>
                json({ keys, count: keys.length, ...next })
              )
      )
    }),
    answerRoute(callSpecs.getKey, (call) => Effect.map(keysOf(call).get(variable(call, "key")), toEntry)),
    pageRoute(
      callSpecs.keyHistory,
      (call, page) =>
        Effect.map(keysOf(call).history(variable(call, "key"), page), ({ items, ...next }) => ({
          items: items.map(toEntry),
          ...next
        })),
      (call) => ({ what: `revisions of key "${variable(call, "key")}"`, maxItems: Limits.kvHistory })
    ),
    answerRoute(
      callSpecs.putKey,
      (call) =>
        Effect.map(
          writeKeys(call, () => readPut(call)),
          ([revision = 0]) => ({ revision })
        ),
      { bodyForm: "bytes" }
    ),
    answerRoute(callSpecs.deleteKey, (call) => Effect.asVoid(writeKeys(call, () => [readDelete(call)]))),
    bodyRoute(callSpecs.writeKeys, "Write", ({ writes }, call) =>
      Effect.map(
        writeKeys(call, () => {
          const rows = readWrites(writes)
          // a delete among the writes needs a permission of its own
          if (rows.some(({ value }) => value === undefined)) {
            call.caller?.check("kv:delete", `bucket:${bucket(call)}`, call.environment)
          }
          return rows
        }),
        (revisions) => ({ revisions })
      )
    )
  ]
}

const readPut = (call: Call): Array<KvWriteRow> => {
  const key = checkKey(variable(call, "key"))
  const bytes = call.body instanceof Uint8Array ? call.body : new Uint8Array()
  const expected = readPrecondition(call)
  const { headers } = call.request
  return [
    {
      key,
      value: checkValue(key, {
        type: typeOfWrite(headers["content-type"], headers[VALUE_TYPE_HEADER]),
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

/** The revision that the key must have: 0 when the key must not exist, `undefined` when any revision will do. */
const readPrecondition = ({ request }: Call): number | undefined => {
  const ifNoneMatch = request.headers["if-none-match"]
  const ifMatch = request.headers["if-match"]
  if (ifNoneMatch !== undefined && ifMatch !== undefined) {
    throw new ValidationError("If-Match and If-None-Match contradict each other: send one of them")
  }
  if (ifNoneMatch !== undefined) {
    if (ifNoneMatch.trim() === "*") return 0
    throw new ValidationError(`If-None-Match can only be *, got ${JSON.stringify(ifNoneMatch.slice(0, 64))}`)
  }
  if (ifMatch === undefined) return undefined
  const digits = /^\s*"?(\d{1,16})"?\s*$/.exec(ifMatch)?.[1]
  if (digits !== undefined) return checkRevision(Number(digits))
  throw new ValidationError(
    `If-Match must be a revision in plain digits, got ${JSON.stringify(ifMatch.slice(0, 64))}`
  )
}

const readWrites = (writes: ReadonlyArray<KeyWrite>): Array<KvWriteRow> => {
  if (writes.length === 0)
    throw new ValidationError(
      `An atomic write needs a list of changes with at least one, got ${show(writes)}`
    )
  if (writes.length > Limits.kvWrites) {
    throw new LimitExceededError("The atomic write", writes.length, Limits.kvWrites, "changes")
  }
  const counts = new ShapeCounts()
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
        value: checkValue(key, { type: typeOfContent(contentType), bytes }, counts),
        ...expected
      }
    })
  )
}

const checkValue = (key: string, value: StoredValue, counts = new ShapeCounts()): StoredValue => {
  const what = `The value of key "${key}"`
  if (value.bytes.byteLength > Limits.kvValueBytes) {
    throw new LimitExceededError(what, value.bytes.byteLength, Limits.kvValueBytes, "bytes")
  }
  if (value.type === "json") {
    const text = Buffer.from(value.bytes).toString()
    checkShape(what, text, Limits.jsonDepth, counts)
    if (!isUtf8(value.bytes) || safeJsonParse(text, notJson) === notJson) {
      throw new ValidationError(`${what} has the content type of JSON, but is not JSON`)
    }
  }
  return value.type === "text" && !isUtf8(value.bytes) ? { type: "raw", bytes: value.bytes } : value
}

const notJson: unknown = Symbol("not JSON")

const toEntry = (entry: KvEntryRow): StoredEntry => ({
  key: entry.key,
  value: base64(entry.value.bytes),
  contentType: contentTypes[entry.value.type],
  revision: entry.revision,
  created_at: new Date(entry.createdAt).toISOString(),
  operation: entry.operation === "put" ? "put" : "delete",
  ...(entry.expiresAt === undefined ? {} : { expires_at: new Date(entry.expiresAt).toISOString() })
})

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64")
