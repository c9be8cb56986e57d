/**
 * Effect schemas over JSON, and as Standard Schemas. For code that runs handlers, and has loaded Effect's
 * parser anyway. Programs that only define functions and call the engine load neither this nor the parser.
 *
 * When the encoded side of a schema is not JSON (`Schema.Date`, `Schema.BigInt`, `Schema.Uint8Array`, maps),
 * Effect's JSON form of it is used. All other schemas use their own encoding.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import { type StorageFormat, type DataCodec, jsonFormat, standardCodec } from "./DataCodec.ts"
import { SchemaValidationError, toError } from "./Errors.ts"
import { isObject, isPlainJson } from "./Json.ts"
import {
  type AnySchema,
  canEncode,
  type StandardResult,
  type StandardSchemaV1,
  validateData
} from "./StandardSchema.ts"

/**
 * The schema as a Standard Schema. It is synchronous if its transformations are. Unlike that of
 * `Schema.toStandardSchemaV1`, it decodes what {@link codecOf} encodes, and a defect of the schema is thrown,
 * and not reported as an issue. An Effect schema that was made a Standard Schema before gets this one instead.
 */
export const asStandard = <Output>(schema: AnySchema<Output>): StandardSchemaV1<unknown, Output> => {
  if (!canEncode(schema)) return schema as StandardSchemaV1<unknown, Output>
  let standard = decoding.get(schema)
  if (standard === undefined) decoding.set(schema, (standard = decodingBy(schema)))
  // `standard` was made from this schema, so it has the same output
  return standard as StandardSchemaV1<unknown, Output>
}

/**
 * The codec of a schema of either kind. An Effect schema counts as one even if it was made a Standard Schema.
 */
export const codecOf = (schema: AnySchema, carrier: StorageFormat): DataCodec =>
  canEncode(schema) ? effectCodec(schema, carrier) : standardCodec(schema, carrier)

/** The codec over JSON of a schema of either kind: for data of events and states of entities. */
export const jsonCodec = (schema: AnySchema): DataCodec => codecOf(schema, jsonFormat)

/**
 * The codec of an Effect schema. What has no form in Effect's JSON is stored as `JSON.stringify` writes it.
 */
export const effectCodec = (
  schema: Codec<unknown>,
  { carries }: Pick<StorageFormat, "carries">
): DataCodec => {
  const encode = SchemaParser.encodeUnknownEffect(schema)
  const encodeJsonForm = (value: unknown) => SchemaParser.encodeUnknownEffect(inJson(schema))(value)
  const encoder = standardOf((value) =>
    Effect.flatMap(encode(value, { errors: "all" }), (encoded) =>
      carries(encoded)
        ? Effect.succeed(encoded)
        : Effect.catch(encodeJsonForm(value), () => Effect.succeed(encoded))
    )
  )
  return {
    encode: (value, what) => validateData(encoder, value, what),
    decode: (kept, what) => validateData(asStandard(schema), kept, what)
  }
}

type Codec<A> = Schema.Codec<A, unknown>

/** Encodes a value with the schema, to JSON. */
export const encodeToJson = (schema: Codec<unknown>, value: unknown) =>
  Effect.flatMap(Schema.encodeUnknownEffect(schema)(value), (encoded) =>
    isPlainJson(encoded)
      ? Effect.succeed(encoded)
      : // what has no form in Effect's JSON is stored as `JSON.stringify` writes it
        Effect.catch(Schema.encodeUnknownEffect(inJson(schema))(value), () => Effect.succeed(encoded))
  )

/**
 * Decodes a value that {@link encodeToJson} or another program has encoded. It may have either of the two
 * forms.
 */
export const decodeFromJson = <A>(schema: Codec<A>, value: unknown) =>
  Effect.catch(Schema.decodeUnknownEffect(schema)(value), (error) =>
    Effect.catch(Schema.decodeUnknownEffect(inJson(schema))(value), () => Effect.fail(error))
  )

/**
 * Encodes a value with the schema, to JSON, synchronously. A value that is encoded already stays as it is.
 * Throws `SchemaValidationError`, whose message starts with `what`.
 */
export const encodeNow = (schema: Codec<unknown>, value: unknown, what: string): unknown => {
  const encoded = Effect.catch(encodeToJson(schema, value), (error) =>
    Effect.matchEffect(decodeFromJson(schema, value), {
      onSuccess: () => Effect.succeed(value),
      onFailure: () => Effect.fail(error)
    })
  )
  const exit = Effect.runSyncExit(encoded)
  if (Exit.isSuccess(exit)) return exit.value
  const error = Cause.squash(exit.cause)
  throw new SchemaValidationError(`${what} does not fit its schema: ${toError(error).message}`, {
    cause: error
  })
}

/**
 * The JSON Schema (2020-12) of what a schema accepts as JSON. `undefined` when JSON Schema cannot describe a
 * part of it, or when the library of the schema does not support Standard JSON Schema.
 */
export const jsonSchemaOf = (schema: AnySchema): JsonSchema | undefined => {
  try {
    const made = canEncode(schema) ? effectJsonSchema(schema) : offeredJsonSchema(schema)
    // what a library returns may contain more than JSON
    const plain: unknown = made === undefined ? undefined : JSON.parse(JSON.stringify(made))
    return isObject(plain) ? plain : undefined
  } catch {
    // the library has thrown: it cannot describe a part of the schema
    return undefined
  }
}

interface JsonSchema {
  readonly [member: string]: unknown
}

const effectJsonSchema = (schema: Codec<unknown>): JsonSchema => {
  const { definitions, schema: made } = Schema.toJsonSchemaDocument(schema)
  return Object.keys(definitions).length === 0 ? made : { ...made, $defs: definitions }
}

/** What is used here of Standard JSON Schema. */
interface OffersJsonSchema {
  readonly jsonSchema?: {
    readonly input?: (options: { readonly target: string }) => JsonSchema
  }
}

const offeredJsonSchema = (schema: StandardSchemaV1): JsonSchema | undefined =>
  (schema["~standard"] as OffersJsonSchema).jsonSchema?.input?.({ target: "draft-2020-12" })

const inJson = <A>(schema: Codec<A>): Codec<A> => {
  let codec = codecs.get(schema)
  if (codec === undefined) codecs.set(schema, (codec = Schema.toCodecJson(schema)))
  // the codec was made from this schema
  return codec as Codec<A>
}

const codecs = new WeakMap<object, Codec<unknown>>()

const decoding = new WeakMap<object, StandardSchemaV1>()

const decodingBy = (schema: Codec<unknown>): StandardSchemaV1 => {
  const decode = SchemaParser.decodeUnknownEffect(schema)
  const decodeJsonForm = (value: unknown) => SchemaParser.decodeUnknownEffect(inJson(schema))(value)
  return standardOf((value) =>
    Effect.catch(decode(value, { errors: "all" }), (issue) =>
      Effect.catch(decodeJsonForm(value), () => Effect.fail(issue))
    )
  )
}

/**
 * A Standard Schema that runs an Effect. It is synchronous when the Effect is. A defect of the schema is
 * thrown.
 */
const standardOf = (run: (value: unknown) => Effect.Effect<unknown, SchemaIssue.Issue>): StandardSchemaV1 => {
  const validate = (value: unknown): StandardResult<unknown> | Promise<StandardResult<unknown>> => {
    const fiber = Effect.runFork(
      Effect.match(run(value), {
        onSuccess: (result): StandardResult<unknown> => ({ value: result }),
        onFailure: (issue): StandardResult<unknown> => formatIssue(issue)
      })
    )
    const exit = fiber.pollUnsafe()
    if (exit === undefined) return Effect.runPromise(Fiber.join(fiber))
    if (Exit.isSuccess(exit)) return exit.value
    throw Cause.squash(exit.cause)
  }
  return { "~standard": { version: 1, vendor: "effect", validate } }
}

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()
