/**
 * `ironflow kv`: shows and changes buckets and keys. A value is parsed if it is JSON, and is stored as text
 * otherwise.
 */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { Kv, type KVEntry, type KvBucket } from "../Client/Kv.ts"
import { validated } from "../CheckAsEffect.ts"
import { safeJsonParse } from "../Json.ts"
import { checkShape } from "../JsonLimits.ts"
import { ironflow } from "./Ironflow.ts"
import { fields, oneLine, print, jsonLine, table } from "./Output.ts"
import { provideServer } from "./ServerCalls.ts"
import { readStdin } from "./Stdin.ts"
import { commandsOf, givenFlags } from "./OneCallCommands.ts"
import { textFlag } from "./TextFlag.ts"

const kvCommand = commandsOf(Kv)

const bucket = Argument.String("bucket")
const key = Argument.String("key")

const callBucket = <A, E>(name: string, call: (bucket: KvBucket) => Effect.Effect<A, E>) =>
  provideServer(Effect.flatMap(Kv, (kv) => call(kv.bucket(name))))

const buckets = kvCommand("buckets", {
  description: "List the buckets.",
  call: (kv) => kv.listBuckets(),
  json: (buckets) => ({ buckets }),
  text: (buckets) =>
    buckets.length === 0
      ? "There are no buckets."
      : table(
          ["BUCKET", "KEYS", "BYTES", "HISTORY", "TTL", "CREATED"],
          buckets.map((info) => [
            info.name,
            String(info.values),
            String(info.bytes),
            String(info.history),
            info.ttl_seconds === undefined ? "" : `${info.ttl_seconds}s`,
            info.created_at
          ])
        )
})

const optionalNumberFlag = (name: string, description: string) =>
  Flag.Finite(name).pipe(Flag.withMetavar("N"), Flag.withDescription(description), Flag.optional)

const createBucket = kvCommand("create-bucket", {
  description: "Create a bucket.",
  parameters: {
    bucket,
    description: textFlag("description").pipe(Flag.withDescription("What the bucket is for"), Flag.optional),
    ttl: optionalNumberFlag("ttl", "A key expires this many seconds after it was last written"),
    maxValueSize: optionalNumberFlag("max-value-size", "Maximum size of one value, in bytes"),
    maxBytes: optionalNumberFlag("max-bytes", "Maximum size of all keys and values, in bytes"),
    history: optionalNumberFlag("history", "Revisions to keep of each key")
  },
  call: (kv, { bucket, description, history, maxBytes, maxValueSize, ttl }) =>
    kv.createBucket({
      name: bucket,
      ...givenFlags({ description, ttlSeconds: ttl, maxValueSize, maxBytes, history })
    }),
  text: (info) => `Bucket ${info.name} is created.`
}).pipe(Command.withExamples([{ command: "ironflow kv create-bucket sessions --ttl 3600" }]))

const deleteBucket = kvCommand("delete-bucket", {
  description: "Delete a bucket with all its keys.",
  parameters: { bucket },
  call: (kv, { bucket }) => kv.deleteBucket(bucket),
  json: (_, { bucket }) => ({ name: bucket }),
  text: (_, { bucket }) => `Bucket ${bucket} is deleted, with all its keys.`
})

const get = Command.make(
  "get",
  { bucket, key },
  Effect.fnUntraced(function* ({ bucket, key }) {
    const entry = yield* callBucket(bucket, (bucket) => bucket.get(key))
    yield* print(jsonOf(entry), () =>
      fields({
        key: oneLine(entry.key),
        revision: String(entry.revision),
        written: entry.created_at,
        expires: entry.expires_at,
        value: valueText(entry.value)
      })
    )
  })
).pipe(Command.withDescription("Show the value of a key."))

const put = Command.make(
  "put",
  {
    bucket,
    key,
    value: Argument.String("value").pipe(
      Argument.withDescription("JSON or plain text; read from standard input when left out"),
      Argument.optional
    ),
    create: Flag.Boolean("create").pipe(
      Flag.withDescription("Write only if the key does not exist"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    ),
    revision: Flag.Int("revision").pipe(
      Flag.withMetavar("N"),
      Flag.withDescription("Write only if the key is at this revision"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ bucket, create, key, revision, value }) {
    const text = Option.isSome(value) ? value.value : (yield* readStdin).replace(/\r?\n$/, "")
    const parsed = yield* validated(() => safeJsonParse<unknown>(checkShape("the value", text), text))
    const result = yield* callBucket(bucket, (bucket) =>
      create
        ? bucket.create(key, parsed)
        : Option.isSome(revision)
          ? bucket.update(key, parsed, revision.value)
          : bucket.put(key, parsed)
    )
    yield* print({ key, ...result }, () => `Key ${oneLine(key)} is at revision ${result.revision}.`)
  })
).pipe(
  Command.withDescription("Write a key, as JSON or as plain text."),
  Command.withExamples([
    { command: `ironflow kv put sessions user-123 '{"role":"admin"}'` },
    { command: "ironflow kv put sessions user-123 --revision 7 < session.json" }
  ])
)

const remove = Command.make(
  "delete",
  {
    bucket,
    key,
    purge: Flag.Boolean("purge").pipe(
      Flag.withDescription("Delete the earlier revisions of the key too"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ bucket, key, purge }) {
    yield* callBucket(bucket, (bucket) => (purge ? bucket.purge(key) : bucket.delete(key)))
    yield* print(
      { key },
      () => `Key ${oneLine(key)} is deleted${purge ? ", with its earlier revisions" : ""}.`
    )
  })
).pipe(Command.withDescription("Delete a key."))

const list = Command.make(
  "list",
  {
    bucket,
    filter: Argument.String("filter").pipe(
      Argument.withDescription(
        "Only keys that match this filter, such as user-* or order.>; all keys by default"
      ),
      Argument.optional
    )
  },
  Effect.fnUntraced(function* ({ bucket, filter }) {
    const keys = yield* callBucket(bucket, (bucket) => bucket.listKeys(Option.getOrUndefined(filter)))
    yield* print({ keys }, () =>
      keys.length === 0 ? "There are no such keys." : keys.map((key) => oneLine(key)).join("\n")
    )
  })
).pipe(Command.withDescription("List keys."))

const history = Command.make(
  "history",
  { bucket, key },
  Effect.fnUntraced(function* ({ bucket, key }) {
    const entries = yield* callBucket(bucket, (bucket) => bucket.history(key))
    yield* print({ entries: entries.map(jsonOf) }, () =>
      table(
        ["REVISION", "OPERATION", "WRITTEN", "VALUE"],
        entries.map((entry) => [
          String(entry.revision),
          entry.operation,
          entry.created_at,
          valueText(entry.value)
        ])
      )
    )
  })
).pipe(Command.withDescription("Show those revisions of a key that the bucket still has."))

const watch = Command.make(
  "watch",
  {
    bucket,
    filter: Argument.String("filter").pipe(
      Argument.withDescription("A key, or a filter such as user-*; all keys by default"),
      Argument.optional
    ),
    from: Flag.Int("from").pipe(
      Flag.withMetavar("REVISION"),
      Flag.withDescription("Begin after this revision; with 0, all current values come first"),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ bucket, filter, from }) {
    const { json } = yield* ironflow
    yield* provideServer(
      Effect.flatMap(Kv, (kv) =>
        Stream.runForEach(kv.bucket(bucket).watch(givenFlags({ key: filter, fromRevision: from })), (event) =>
          Console.log(
            json
              ? JSON.stringify(jsonOf(event))
              : `${event.revision}  ${event.operation}  ${oneLine(event.key)}  ${valueText(event.value)}`.trimEnd()
          )
        )
      )
    )
  })
).pipe(Command.withDescription("Print the changes of keys as they happen. Ctrl-C stops the command."))

/**
 * The entry as JSON. JSON has no bytes, so a value of bytes is shown as base64, in the member `value_base64`.
 */
const jsonOf = <A extends Pick<KVEntry, "value"> | { readonly value?: unknown }>(entry: A): object =>
  entry.value instanceof Uint8Array
    ? { ...entry, value: undefined, value_base64: Buffer.from(entry.value).toString("base64") }
    : entry

const valueText = (value: unknown): string =>
  value instanceof Uint8Array ? `${value.byteLength} bytes` : jsonLine(value, 400)

export const kv = Command.make("kv").pipe(
  Command.withDescription("Show and change keys and buckets."),
  Command.withShortDescription("Manage buckets and keys"),
  Command.withSubcommands([buckets, createBucket, deleteBucket, put, get, remove, list, history, watch])
)
