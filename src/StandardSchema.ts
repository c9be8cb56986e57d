/**
 * The types of the schemas that users give, and validation with a Standard Schema of any library (Zod, Valibot,
 * ArkType). Only `EffectSchema.ts` validates with plain Effect schemas, since it loads Effect's parser and this module
 * does not.
 */
import type * as Schema from "effect/Schema"
import { SchemaValidationError, toError, ValidationError } from "./Errors.ts"
import { decodeJson } from "./Json.ts"
import { show } from "./Show.ts"

/** The part of the Standard Schema interface that is used here. */
export interface StandardSchemaV1<Input = unknown, Output = Input> {
  /** What the specification defines: the validation, and the types. */
  readonly "~standard": {
    readonly version: 1
    readonly vendor: string
    readonly validate: (value: unknown) => StandardResult<Output> | Promise<StandardResult<Output>>
    readonly types?: { readonly input: Input; readonly output: Output } | undefined
  }
}

export type StandardResult<Output> =
  { readonly value: Output; readonly issues?: undefined } | { readonly issues: ReadonlyArray<StandardIssue> }

interface StandardIssue {
  readonly message: string
  readonly path?: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> | undefined
}

/** A Standard Schema or an Effect schema, from `Input` to `Output`. */
export type AnySchema<Output = unknown, Input = unknown> =
  StandardSchemaV1<Input, Output> | Schema.Codec<Output, Input>

/** The output type of a schema. */
export type SchemaOutput<S> = S extends {
  readonly "~standard": { readonly types?: { readonly output: infer Output } | undefined }
}
  ? Output
  : S extends { readonly Type: infer Type }
    ? Type
    : unknown

/**
 * The type of the data that users give for a schema: the input type of a Standard Schema, or the decoded type of an
 * Effect schema, which then encodes the data.
 */
export type SchemaInput<S> = S extends { readonly Type: infer Type; readonly ast: unknown }
  ? Type
  : S extends { readonly "~standard": { readonly types?: { readonly input: infer Input } | undefined } }
    ? Input
    : unknown

/**
 * The stored type of a schema: of a Standard Schema its input type, and of an Effect schema its encoded type.
 */
export type SchemaJson<S> = S extends { readonly Encoded: infer Encoded; readonly ast: unknown }
  ? Encoded
  : S extends { readonly "~standard": { readonly types?: { readonly input: infer Input } | undefined } }
    ? Input
    : unknown

/** The types that JSON does not change. */
type Json =
  string | number | boolean | null | ReadonlyArray<Json> | { readonly [key: string]: Json | undefined }

/** The type of a value in Effect's JSON form: a string for the date of a `Schema.Date`. */
export type JsonForm<T> = [T] extends [Json | undefined]
  ? T
  : T extends Date | bigint | symbol | Uint8Array
    ? string
    : T extends ReadonlyMap<infer K, infer V>
      ? ReadonlyArray<readonly [JsonForm<K>, JsonForm<V>]>
      : T extends ReadonlySet<infer V>
        ? ReadonlyArray<JsonForm<V>>
        : T extends object
          ? { [K in keyof T]: JsonForm<T[K]> }
          : T

/** Whether the value is a Standard Schema or an Effect schema. */
export const isSchema = (value: unknown): value is AnySchema =>
  isStandardSchema(value) || isEffectSchema(value)

/** Returns the value, if it is a schema. Throws `ValidationError`, in which `what` names the schema. */
export const checkSchema = (schema: unknown, what: string): AnySchema => {
  if (isSchema(schema)) return schema
  throw new ValidationError(
    `${what} must be a schema, got ${show(schema)}: give a Standard Schema (Zod, Valibot, ArkType) or an Effect schema`
  )
}

const isStandardSchema = (value: unknown): value is StandardSchemaV1 => {
  if ((typeof value !== "object" || value === null) && typeof value !== "function") return false
  const standard: unknown = (value as { readonly "~standard"?: unknown })["~standard"]
  return (
    typeof standard === "object" &&
    standard !== null &&
    typeof (standard as { readonly validate?: unknown }).validate === "function"
  )
}

/**
 * Whether this is an Effect schema, also one that `Schema.toStandardSchemaV1` has made a Standard Schema too. Only
 * Effect schemas can encode what they decode.
 */
export const canEncode = (value: AnySchema): value is Schema.Codec<unknown, unknown> =>
  typeof (value as { readonly ast?: unknown }).ast === "object"

/** Whether the value is a plain Effect schema, and not one from `Schema.toStandardSchemaV1`. */
export const isEffectSchema = (value: unknown): value is Schema.Codec<unknown, unknown> =>
  ((typeof value === "object" && value !== null) || typeof value === "function") &&
  typeof (value as { readonly ast?: unknown }).ast === "object" &&
  !isStandardSchema(value)

/**
 * Validates data, and returns the output of the schema. Throws `SchemaValidationError`, or rejects with it
 * when the schema is asynchronous. The message of the error starts with `what` (`data of event "order.placed"`), and
 * its `validationErrors` has a `path: problem` for each problem.
 */
export const validateData = <S extends StandardSchemaV1>(
  schema: S,
  data: unknown,
  what: string
): SchemaOutput<S> | Promise<SchemaOutput<S>> => {
  const result = startValidation(schema, data, what)
  return result instanceof Promise
    ? result.then(
        (settled) => outputOf<S>(settled, what),
        (error: unknown) => {
          throw schemaError(error, what)
        }
      )
    : outputOf<S>(result, what)
}

/** Whether the schema accepts the value synchronously. */
export const fits = (schema: StandardSchemaV1, value: unknown): boolean => {
  try {
    const result = startValidation(schema, value, "")
    // an asynchronous schema is not waited for, since this is only for a message
    return !(result instanceof Promise) && result.issues === undefined
  } catch {
    // a schema that throws does not accept the value
    return false
  }
}

/**
 * Validates a value, and returns the output of the schema. Throws `SchemaValidationError`, whose message
 * includes `context`, and `ValidationError` for an asynchronous schema.
 *
 * ```ts
 * const order = validate(z.object({ orderId: z.string() }), { orderId: "o-1" }, "The order")
 * ```
 */
export const validate = <S extends StandardSchemaV1>(
  schema: S,
  value: unknown,
  context: string
): SchemaOutput<S> => {
  const result = validateData(schema, value, context)
  if (result instanceof Promise) {
    // the result is not used, and its rejection must not be an unhandled one
    result.catch(() => undefined)
    throw new ValidationError(
      `${context}: the schema validates asynchronously, but here it must be synchronous`
    )
  }
  return result
}

/**
 * Parses JSON, and validates it as {@link validate} does. Throws `SchemaValidationError` for invalid JSON
 * too.
 */
export const parseAndValidate = <S extends StandardSchemaV1>(
  schema: S,
  jsonText: string,
  context: string
): SchemaOutput<S> => validate(schema, parse(jsonText, context), context)

const parse = (jsonText: string, context: string): unknown => {
  try {
    return decodeJson(jsonText)
  } catch (error) {
    const problem = `$: ${toError(error).message}`
    throw new SchemaValidationError(`${context}: ${problem}`, { validationErrors: [problem], cause: error })
  }
}

const startValidation = (
  schema: StandardSchemaV1,
  data: unknown,
  what: string
): StandardResult<unknown> | Promise<StandardResult<unknown>> => {
  if (!isStandardSchema(schema)) {
    throw new ValidationError(
      isEffectSchema(schema)
        ? `${what}: an Effect schema has to be wrapped here: Schema.toStandardSchemaV1(schema)`
        : `${what} cannot be validated, since its schema is not a schema. Give a Standard Schema (Zod, Valibot, ArkType, Schema.toStandardSchemaV1 of Effect)`
    )
  }
  try {
    return schema["~standard"].validate(data)
  } catch (error) {
    throw schemaError(error, what)
  }
}

const outputOf = <S extends StandardSchemaV1>(
  result: StandardResult<unknown>,
  what: string
): SchemaOutput<S> => {
  // the schema has just found that the value has its output type
  if (result.issues === undefined) return result.value as SchemaOutput<S>
  const validationErrors = result.issues.map((issue) => `${issuePath(issue.path)}: ${issue.message}`)
  throw new SchemaValidationError(`${what} does not fit its schema: ${validationErrors.join("; ")}`, {
    validationErrors
  })
}

const schemaError = (error: unknown, what: string): Error =>
  new SchemaValidationError(`${what} could not be validated: the schema threw "${toError(error).message}"`, {
    cause: error
  })

const issuePath = (path: StandardIssue["path"]): string => {
  let text = ""
  for (const segment of path ?? []) {
    const key = typeof segment === "object" ? segment.key : segment
    text += typeof key === "number" ? `[${key}]` : `${text === "" ? "" : "."}${String(key)}`
  }
  return text === "" ? "$" : text
}
