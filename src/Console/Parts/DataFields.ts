/** Chooses form fields for data by its JSON Schema. The schema comes from users, and may contain anything. */
import { isObject } from "../../Json.ts"

/** A field of the form, or a group of fields. */
export interface DataField {
  readonly name: string
  /** The names of the members that lead to the value of the field in the data. */
  readonly path: ReadonlyArray<string>
  readonly kind: "text" | "number" | "integer" | "choice" | "group" | "json"
  readonly isRequired: boolean
  readonly hint?: string
  /** The values to choose from, for a choice. */
  readonly values?: ReadonlyArray<PlainValue>
  /** The fields of the group, for a group. */
  readonly fields?: ReadonlyArray<DataField>
}

type PlainValue = string | number | boolean

type Schema = Readonly<Record<string, unknown>>

/** How deep fields are nested. Values that are nested deeper are entered as JSON. */
const MAX_DEPTH = 3
const MAX_FIELDS = 40
const MAX_CHOICES = 100
/** Maximum number of references that are followed in a row. */
const MAX_REFERENCES = 8

/** The fields for the members of an object. Empty for other data. */
export const dataFields = (schema: Schema): ReadonlyArray<DataField> => membersOf(schema, schema, [])

const membersOf = (schema: Schema, root: Schema, path: ReadonlyArray<string>): ReadonlyArray<DataField> => {
  const { properties, required } = schema
  if (!isObject(properties)) return []
  return Object.entries(properties)
    .slice(0, MAX_FIELDS)
    .flatMap(([name, member]) => {
      if (!isObject(member)) return []
      const memberSchema = resolveSchema(member, root)
      const description = memberSchema.description ?? member.description
      return [
        {
          name,
          path: [...path, name],
          isRequired: Array.isArray(required) && required.includes(name),
          ...(typeof description === "string" ? { hint: description.slice(0, 300) } : {}),
          ...kindOf(memberSchema, root, [...path, name])
        }
      ]
    })
}

const kindOf = (
  schema: Schema,
  root: Schema,
  path: ReadonlyArray<string>
): Pick<DataField, "kind" | "values" | "fields"> => {
  const values = valuesOf(schema)
  if (values !== undefined && values.length <= MAX_CHOICES) return { kind: "choice", values }
  const type = Array.isArray(schema.type) ? schema.type.filter((one) => one !== "null") : [schema.type]
  if (type.length !== 1) return { kind: "json" }
  switch (type[0]) {
    case "string":
      return { kind: "text" }
    case "number":
    case "integer":
      return { kind: type[0] }
    case "boolean":
      return { kind: "choice", values: [true, false] }
  }
  const fields = type[0] === "object" && path.length < MAX_DEPTH ? membersOf(schema, root, path) : []
  return fields.length === 0 ? { kind: "json" } : { kind: "group", fields }
}

/** The values that a schema allows; `undefined` if the schema does not list them. */
const valuesOf = ({
  anyOf,
  const: constant,
  enum: listed,
  oneOf
}: Schema): ReadonlyArray<PlainValue> | undefined => {
  if (constant !== undefined) return isPlainValue(constant) ? [constant] : undefined
  if (Array.isArray(listed)) return listed.length > 0 && listed.every(isPlainValue) ? listed : undefined
  const alternatives: unknown = anyOf ?? oneOf
  if (!Array.isArray(alternatives)) return undefined
  const values = alternatives.map((alternative) =>
    isObject(alternative) ? valuesOf(alternative) : undefined
  )
  return values.every((one) => one !== undefined) ? values.flat() : undefined
}

const isPlainValue = (value: unknown): value is PlainValue =>
  typeof value === "string" || typeof value === "number" || typeof value === "boolean"

/**
 * Follows a reference. Of alternative schemas, those for `null` and for numbers that JSON does not have are left out.
 * If exactly one remains, it is taken; otherwise the schema is returned as it is.
 */
const resolveSchema = (schema: Schema, root: Schema, depth = 0): Schema => {
  if (depth > MAX_REFERENCES) return {}
  const { $ref, allOf, anyOf, oneOf } = schema
  if (typeof $ref === "string") {
    const [, section = "", name = ""] = /^#\/(\$defs|definitions)\/([^/]+)$/.exec($ref) ?? []
    const definitions = Object.hasOwn(root, section) ? root[section] : undefined
    const definition =
      isObject(definitions) && Object.hasOwn(definitions, name) ? definitions[name] : undefined
    return isObject(definition) ? resolveSchema(definition, root, depth + 1) : {}
  }
  const alternatives: unknown = anyOf ?? oneOf ?? (schema.type === undefined ? allOf : undefined)
  if (!Array.isArray(alternatives)) return schema
  const candidates = alternatives.filter(
    (alternative) => isObject(alternative) && alternative.type !== "null" && !isNonFinite(alternative)
  )
  return candidates.length === 1 ? resolveSchema(candidates[0], root, depth + 1) : schema
}

/** Whether the schema is for the numbers that JSON does not have, such as `NaN`. */
const isNonFinite = ({ enum: listed }: Schema): boolean =>
  Array.isArray(listed) && listed.includes("NaN") && listed.includes("Infinity")

/** The value at the path; `undefined` when there is none. */
export const valueAt = (data: unknown, path: ReadonlyArray<string>): unknown => {
  let current = data
  for (const name of path)
    current = isObject(current) && Object.hasOwn(current, name) ? current[name] : undefined
  return current
}

/** A copy of the data with `value` at the path. The value `undefined` removes what is there. */
export const withValue = (data: unknown, path: ReadonlyArray<string>, value: unknown): unknown => {
  const [name, ...rest] = path
  if (name === undefined) return value
  const members = isObject(data) && !Array.isArray(data) ? data : {}
  const changedMember = withValue(Object.hasOwn(members, name) ? members[name] : undefined, rest, value)
  // a group that becomes empty is removed too
  const isEmptied = value === undefined && isObject(changedMember) && Object.keys(changedMember).length === 0
  const member = isEmptied ? undefined : changedMember
  const hasMember = Object.hasOwn(members, name)
  return Object.fromEntries(
    [...Object.entries(members), ...(hasMember ? [] : [[name, member] as const])].flatMap(
      ([key, oldMember]) => (key !== name ? [[key, oldMember]] : member === undefined ? [] : [[key, member]])
    )
  )
}

/** The paths of values that are required and missing, such as `customer.name`. */
export const missingPaths = (data: unknown, fields: ReadonlyArray<DataField>): ReadonlyArray<string> =>
  fields.flatMap((field) => {
    const value = valueAt(data, field.path)
    if (value === undefined) return field.isRequired ? [field.path.join(".")] : []
    return missingPaths(data, field.fields ?? [])
  })
