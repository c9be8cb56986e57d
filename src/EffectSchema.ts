/**
 * Effect schemas as Standard Schemas: for what runs handlers, which has loaded Effect's parser anyway. Programs that only
 * define functions and call the engine load neither.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import {
  type AnySchema,
  isEffectSchema,
  type StandardResult,
  type StandardSchemaV1
} from "./StandardSchema.ts"

/**
 * The schema as a Standard Schema, which an Effect schema becomes; it answers at once if its transformations do. Unlike
 * that of `Schema.toStandardSchemaV1` it throws what a schema dies of, instead of calling that an issue with the data.
 */
export const asStandard = <Output>(schema: AnySchema<Output>): StandardSchemaV1<unknown, Output> => {
  if (!isEffectSchema(schema)) return schema
  let standard = wrapped.get(schema)
  if (standard === undefined) wrapped.set(schema, (standard = wrap(schema)))
  // It was made from this very schema.
  return standard as StandardSchemaV1<unknown, Output>
}

const wrapped = new WeakMap<object, StandardSchemaV1>()

const wrap = (schema: Schema.Codec<unknown, unknown>): StandardSchemaV1 => {
  const decode = SchemaParser.decodeUnknownEffect(schema)
  const validate = (value: unknown): StandardResult<unknown> | Promise<StandardResult<unknown>> => {
    const fiber = Effect.runFork(
      Effect.match(decode(value, { errors: "all" }), {
        onSuccess: (decoded): StandardResult<unknown> => ({ value: decoded }),
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
