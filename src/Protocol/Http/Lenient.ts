/**
 * Reads a request the way Ironflow servers do: fields in snake case or camel case, unknown ones ignored, `null` for
 * absent, integers also as digits in a string.
 *
 * How the fields of a schema are found is worked out once; what is inside free data (`data`, `input`, `output`,
 * `metadata`) stays as it came.
 */
import * as Exit from "effect/Exit"
import * as Cause from "effect/Cause"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import { LimitExceededError, ValidationError } from "../../Errors.ts"
import { isObject } from "../../Json.ts"
import { checkEntries, stepsPerRun } from "../../Limits.ts"

type Adapt = (value: unknown) => unknown

/** A reader for values of the schema. `what` names them in the `ValidationError` that it throws. */
export const lenient = <S extends Schema.ConstraintDecoder<unknown>>(
  schema: S,
  what: string
): ((body: unknown) => S["Type"]) => {
  const adapt = adapterOf(schema.ast)
  const decode = Schema.decodeUnknownExit(schema)
  return (body) => {
    const exit = decode(adapt === undefined ? body : adapt(body))
    if (Exit.isSuccess(exit)) return exit.value
    throw mistake(Cause.squash(exit.cause), what)
  }
}

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

const mistake = (error: unknown, what: string): unknown => {
  if (!Schema.isSchemaError(error)) return error
  const problems = formatIssue(error.issue).issues.map(({ path, message }) => {
    const at = (path ?? []).map((key) => String(typeof key === "object" ? key.key : key)).join(".")
    return at === "" ? message : `${at}: ${message}`
  })
  return new ValidationError(`${what}: ${problems.join("; ")}`, { validationErrors: problems })
}

/** What has to be done to a value before the schema sees it; nothing for free data. */
const adapterOf = (ast: SchemaAST.AST, name = "items"): Adapt | undefined => {
  if (SchemaAST.isNumber(ast)) return toNumber
  if (SchemaAST.isArrays(ast)) {
    return eachOf(ast.rest[0] === undefined ? undefined : adapterOf(ast.rest[0], name), name)
  }
  if (!SchemaAST.isObjects(ast)) return undefined
  if (ast.propertySignatures.length > 0) return fieldsOf(ast)
  return ast.indexSignatures.length > 0 ? entriesOf(name) : undefined
}

const toNumber: Adapt = (value) =>
  typeof value === "string" && /^-?\d{1,15}$/.test(value) ? Number(value) : value

// each item and entry is decoded before anybody else looks how many there are

const eachOf =
  (adapt: Adapt | undefined, name: string): Adapt =>
  (value) => {
    if (!Array.isArray(value)) return value
    if (value.length > stepsPerRun) {
      throw new LimitExceededError(`The list \`${name}\``, value.length, stepsPerRun, "items")
    }
    return adapt === undefined ? value : value.map(adapt)
  }

const entriesOf =
  (name: string): Adapt =>
  (value) =>
    isObject(value) ? checkEntries(`\`${name}\``, value) : value

const fieldsOf = (ast: SchemaAST.Objects): Adapt => {
  const fields = ast.propertySignatures.map(({ name, type }) => ({
    name: String(name),
    snake: String(name).replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    adapt: adapterOf(type, String(name)),
    // free data may be null
    keepsNull: SchemaAST.isUnknown(type)
  }))
  return (value) => {
    if (!isObject(value)) return value
    const adapted: Record<string, unknown> = {}
    for (const { name, snake, adapt, keepsNull } of fields) {
      const found = Object.hasOwn(value, name)
        ? value[name]
        : Object.hasOwn(value, snake)
          ? value[snake]
          : undefined
      if (found === undefined || (found === null && !keepsNull)) continue
      adapted[name] = adapt === undefined ? found : adapt(found)
    }
    return adapted
  }
}
