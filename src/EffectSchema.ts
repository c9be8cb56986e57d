/**
 * Uses Effect schemas to encode and decode JSON, and as Standard Schemas. This module loads Effect's parser. Code that
 * runs handlers imports this module. A client imports it only when the client is given an Effect schema.
 *
 * When a schema encodes to something that is not JSON (`Schema.Date`, `Schema.BigInt`, `Schema.Uint8Array`, maps),
 * the form that Effect's `Schema.toCodecJson` gives it is stored: "Effect's JSON form". All other schemas use their
 * own encoding.
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
 * The schema as a Standard Schema, which is synchronous if the transformations of the schema are. It differs from the
 * result of `Schema.toStandardSchemaV1` in two ways: it decodes what {@link codecOf} encodes, and a defect of the
 * schema is thrown instead of being reported as an issue. So a Standard Schema from `Schema.toStandardSchemaV1` is
 * replaced too.
 */
export const asStandard = <Output>(schema: AnySchema<Output>): StandardSchemaV1<unknown, Output> => {
  if (!canEncode(schema)) return schema as StandardSchemaV1<unknown, Output>
  let standard = standards.get(schema)
  if (standard === undefined) standards.set(schema, (standard = decoderOf(schema)))
  // `standard` was made from this schema, so it has the same output
  return standard as StandardSchemaV1<unknown, Output>
}

/**
 * The codec of a schema of either kind. An Effect schema is treated as one even if `Schema.toStandardSchemaV1` has made
 * it a Standard Schema too.
 */
export const codecOf = (schema: AnySchema, format: StorageFormat): DataCodec =>
  canEncode(schema) ? effectCodec(schema, format) : standardCodec(schema, format)

/** The codec of a schema of either kind, for what is stored as JSON: data of events, and states of entities. */
export const jsonCodec = (schema: AnySchema): DataCodec => codecOf(schema, jsonFormat)

/** The codec of an Effect schema. A value without a form in Effect's JSON is stored as `JSON.stringify` writes it. */
export const effectCodec = (
  schema: Codec<unknown>,
  { canStore }: Pick<StorageFormat, "canStore">
): DataCodec => {
  const encode = SchemaParser.encodeUnknownEffect(schema)
  const encodeJsonForm = (value: unknown) => SchemaParser.encodeUnknownEffect(jsonCodecOf(schema))(value)
  const encoder = standardOf((value) =>
    Effect.flatMap(encode(value, { errors: "all" }), (encoded) =>
      canStore(encoded)
        ? Effect.succeed(encoded)
        : Effect.catch(encodeJsonForm(value), () => Effect.succeed(encoded))
    )
  )
  return {
    encode: (value, what) => validateData(encoder, value, what),
    decode: (stored, what) => validateData(asStandard(schema), stored, what)
  }
}

type Codec<A> = Schema.Codec<A, unknown>

/** Encodes a value with the schema, to JSON. */
export const encodeToJson = (schema: Codec<unknown>, value: unknown) =>
  Effect.flatMap(Schema.encodeUnknownEffect(schema)(value), (encoded) =>
    isPlainJson(encoded)
      ? Effect.succeed(encoded)
      : // a value without a form in Effect's JSON is stored as `JSON.stringify` writes it
        Effect.catch(Schema.encodeUnknownEffect(jsonCodecOf(schema))(value), () => Effect.succeed(encoded))
  )

/**
 * Decodes a value that {@link encodeToJson} or another program has encoded, in the schema's own encoding or in
 * Effect's JSON form.
 */
export const decodeFromJson = <A>(schema: Codec<A>, value: unknown) =>
  Effect.catch(Schema.decodeUnknownEffect(schema)(value), (error) =>
    Effect.catch(Schema.decodeUnknownEffect(jsonCodecOf(schema))(value), () => Effect.fail(error))
  )

/**
 * Encodes a value with the schema, to JSON, synchronously. If a value cannot be encoded but can be decoded, it is
 * encoded already, and is returned as it is. Throws `SchemaValidationError`, whose message starts with `what`.
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
    const jsonSchema = canEncode(schema) ? effectJsonSchema(schema) : offeredJsonSchema(schema)
    // what a library returns may contain more than JSON
    const plain: unknown = jsonSchema === undefined ? undefined : JSON.parse(JSON.stringify(jsonSchema))
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
  const { definitions, schema: document } = Schema.toJsonSchemaDocument(schema)
  return Object.keys(definitions).length === 0 ? document : { ...document, $defs: definitions }
}

/** The part of Standard JSON Schema that is used here. */
interface OffersJsonSchema {
  readonly jsonSchema?: {
    readonly input?: (options: { readonly target: string }) => JsonSchema
  }
}

const offeredJsonSchema = (schema: StandardSchemaV1): JsonSchema | undefined =>
  (schema["~standard"] as OffersJsonSchema).jsonSchema?.input?.({ target: "draft-2020-12" })

const jsonCodecOf = <A>(schema: Codec<A>): Codec<A> => {
  let codec = jsonCodecs.get(schema)
  if (codec === undefined) jsonCodecs.set(schema, (codec = Schema.toCodecJson(schema)))
  // the codec was made from this schema
  return codec as Codec<A>
}

const jsonCodecs = new WeakMap<object, Codec<unknown>>()

/** The result of `asStandard` for each schema. */
const standards = new WeakMap<object, StandardSchemaV1>()

const decoderOf = (schema: Codec<unknown>): StandardSchemaV1 => {
  const decode = SchemaParser.decodeUnknownEffect(schema)
  const decodeJsonForm = (value: unknown) => SchemaParser.decodeUnknownEffect(jsonCodecOf(schema))(value)
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
