/**
 * Effect schemas over JSON, and as Standard Schemas: for what runs handlers, which has loaded Effect's parser anyway.
 * Programs that only define functions and call the engine load neither.
 *
 * A schema whose encoded side is not JSON (`Schema.Date`, `Schema.BigInt`, `Schema.Uint8Array`, maps) is written and read
 * in the form that Effect has for it in JSON; all others as they say.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import { type Carrier, type DataCodec, jsonCarrier, standardCodec } from "./DataCodec.ts"
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
 * The schema as a Standard Schema, which an Effect schema becomes; it answers at once if its transformations do. Unlike
 * that of `Schema.toStandardSchemaV1`, whose place it takes too, it reads what {@link codecOf} writes, and throws what a schema
 * dies of, instead of calling that an issue with the data.
 */
export const asStandard = <Output>(schema: AnySchema<Output>): StandardSchemaV1<unknown, Output> => {
  if (!canEncode(schema)) return schema as StandardSchemaV1<unknown, Output>
  let standard = decoding.get(schema)
  if (standard === undefined) decoding.set(schema, (standard = decodingBy(schema)))
  // It was made from this very schema.
  return standard as StandardSchemaV1<unknown, Output>
}

/** The codec of a schema of either kind, whether or not an Effect schema has been made a Standard Schema. */
export const codecOf = (schema: AnySchema, carrier: Carrier): DataCodec =>
  canEncode(schema) ? effectCodec(schema, carrier) : standardCodec(schema, carrier)

/** The codec of a schema of either kind for what is kept as JSON: data of events, states of entities. */
export const jsonCodec = (schema: AnySchema): DataCodec => codecOf(schema, jsonCarrier)

/** The codec of an Effect schema. What has no form in JSON either is kept as `JSON.stringify` writes it. */
export const effectCodec = (schema: Codec<unknown>, { carries }: Pick<Carrier, "carries">): DataCodec => {
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

/** The value as the schema writes it, for JSON. */
export const encodeToJson = (schema: Codec<unknown>, value: unknown) =>
  Effect.flatMap(Schema.encodeUnknownEffect(schema)(value), (encoded) =>
    isPlainJson(encoded)
      ? Effect.succeed(encoded)
      : // what has no form in JSON is stored as JSON.stringify writes it
        Effect.catch(Schema.encodeUnknownEffect(inJson(schema))(value), () => Effect.succeed(encoded))
  )

/** The value that {@link encodeToJson} has written, or that somebody else has in either form. */
export const decodeFromJson = <A>(schema: Codec<A>, value: unknown) =>
  Effect.catch(Schema.decodeUnknownEffect(schema)(value), (error) =>
    Effect.catch(Schema.decodeUnknownEffect(inJson(schema))(value), () => Effect.fail(error))
  )

/**
 * The value as the schema writes it, for JSON, from code that cannot wait. A value that already is as the schema writes it stays.
 * Throws `SchemaValidationError` whose message starts with `what`.
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
 * What a schema takes in from JSON, as JSON Schema (2020-12); `undefined` where it has a part that JSON Schema has no words for, or is
 * of a library that does not offer it as Standard JSON Schema does.
 */
export const jsonSchemaOf = (schema: AnySchema): JsonSchema | undefined => {
  try {
    const made = canEncode(schema) ? effectJsonSchema(schema) : offeredJsonSchema(schema)
    // what a library gives may have more in it than JSON
    const plain: unknown = made === undefined ? undefined : JSON.parse(JSON.stringify(made))
    return isObject(plain) ? plain : undefined
  } catch {
    // that is how libraries say that they have no words for a part of it
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

/** The part of Standard JSON Schema that is used here. */
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
  // It was made from this very schema.
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

/** Answers at once when the transformations do; what a schema dies of is thrown. */
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
