/**
 * Schemas that users bring, and validation by those of any library that follows Standard Schema (Zod, Valibot, ArkType).
 * An Effect schema as it is validates by way of `EffectSchema.ts`, which loads Effect's parser; this module does not.
 */
import type * as Schema from "effect/Schema"
import { SchemaValidationError, toError, ValidationError } from "./Errors.ts"
import { decodeJson } from "./Json.ts"
import { show } from "./Show.ts"

/** The part of the Standard Schema interface that is used here. */
export interface StandardSchemaV1<Input = unknown, Output = Input> {
  /** What the specification puts there: how to validate, and the types. */
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

/** A schema of either kind that makes an `Output` of an `Input`. */
export type AnySchema<Output = unknown, Input = unknown> =
  StandardSchemaV1<Input, Output> | Schema.Codec<Output, Input>

/** What a schema's validation returns. */
export type SchemaOutput<S> = S extends {
  readonly "~standard": { readonly types?: { readonly output: infer Output } | undefined }
}
  ? Output
  : S extends { readonly Type: infer Type }
    ? Type
    : unknown

/** What is given to a schema: what a Standard Schema takes in; of an Effect schema the decoded value, which it encodes. */
export type SchemaInput<S> = S extends { readonly Type: infer Type; readonly ast: unknown }
  ? Type
  : S extends { readonly "~standard": { readonly types?: { readonly input: infer Input } | undefined } }
    ? Input
    : unknown

/** The value as it is stored: what a Standard Schema takes in, and an Effect schema encodes to. */
export type SchemaJson<S> = S extends { readonly Encoded: infer Encoded; readonly ast: unknown }
  ? Encoded
  : S extends { readonly "~standard": { readonly types?: { readonly input: infer Input } | undefined } }
    ? Input
    : unknown

/** What is JSON already. */
type Json =
  string | number | boolean | null | ReadonlyArray<Json> | { readonly [key: string]: Json | undefined }

/** What Effect writes into JSON for a value that an Effect schema encodes to: text for the date of a `Schema.Date`. */
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

/** Whether the value is a schema of either kind. */
export const isSchema = (value: unknown): value is AnySchema =>
  isStandardSchema(value) || isEffectSchema(value)

/** Returns the schema if it is one. Throws `ValidationError`, in which `what` names whose it is. */
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

/** Whether the value was made by Effect, also if it is a Standard Schema by now: it can write what it reads. */
export const canEncode = (value: AnySchema): value is Schema.Codec<unknown, unknown> =>
  typeof (value as { readonly ast?: unknown }).ast === "object"

/** Whether the value is an Effect schema as it is: not one from `Schema.toStandardSchemaV1`. */
export const isEffectSchema = (value: unknown): value is Schema.Codec<unknown, unknown> =>
  ((typeof value === "object" && value !== null) || typeof value === "function") &&
  typeof (value as { readonly ast?: unknown }).ast === "object" &&
  !isStandardSchema(value)

/**
 * The data as the schema returns it. Throws, or rejects when the schema is asynchronous, with `SchemaValidationError`:
 * its message starts with `what` (`data of event "order.placed"`), and `validationErrors` lists `path: problem`.
 */
export const validateData = <S extends StandardSchemaV1>(
  schema: S,
  data: unknown,
  what: string
): SchemaOutput<S> | Promise<SchemaOutput<S>> => {
  const result = startValidation(schema, data, what)
  return result instanceof Promise
    ? result.then(
        (settled) => accept<S>(settled, what),
        (error: unknown) => {
          throw broken(error, what)
        }
      )
    : accept<S>(result, what)
}

/** Whether the schema says at once that the value fits. */
export const fits = (schema: StandardSchemaV1, value: unknown): boolean => {
  try {
    const result = startValidation(schema, value, "")
    // what takes its time is not worth the wait: this is only for the message
    return !(result instanceof Promise) && result.issues === undefined
  } catch {
    // a schema that throws does not say that it fits
    return false
  }
}

/**
 * The value as the schema returns it; throws `SchemaValidationError` whose message includes `context`. For schemas that
 * answer at once.
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
    // Its outcome is of no use to anybody, and must not become an unhandled rejection.
    result.catch(() => undefined)
    throw new ValidationError(`${context}: the schema validates asynchronously, which is not possible here`)
  }
  return result
}

/** The value of a JSON text, checked as {@link validate} does it. Text that is no JSON is a `SchemaValidationError`. */
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
        : `${what}: not a schema. Give a Standard Schema (Zod, Valibot, ArkType, Schema.toStandardSchemaV1 of Effect)`
    )
  }
  try {
    return schema["~standard"].validate(data)
  } catch (error) {
    throw broken(error, what)
  }
}

const accept = <S extends StandardSchemaV1>(
  result: StandardResult<unknown>,
  what: string
): SchemaOutput<S> => {
  // The schema has just said that the value is of its output type.
  if (result.issues === undefined) return result.value as SchemaOutput<S>
  const validationErrors = result.issues.map((issue) => `${issuePath(issue.path)}: ${issue.message}`)
  throw new SchemaValidationError(`${what} does not fit its schema: ${validationErrors.join("; ")}`, {
    validationErrors
  })
}

const broken = (error: unknown, what: string): Error =>
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
