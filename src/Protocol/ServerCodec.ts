/**
 * The server's side of codecs: reads requests, encodes answers, and describes both. Clients do not load this.
 */
import { type Codec, type Node, otherCase, type Read, toNumber, readWord, encodeWord } from "./Codec.ts"
import { ValidationError, LimitExceededError } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { checkEntries, stepsPerRun } from "../Limits.ts"
import { show } from "../Show.ts"

/** Adds to an error the member (its name) or the item (its index) in which the error occurred. */
const withPath = (key: string | number, error: unknown): unknown => {
  if (error instanceof Mistake) error.path.unshift(String(key))
  return error
}

/**
 * Makes the function that reads requests. For an invalid request the function throws a `ValidationError`, in which
 * `what` names the request.
 */
export const decoder = <A>(codec: Codec<A>, what: string): ((request: unknown) => A) => {
  let read: Read | undefined
  return (request) => {
    try {
      // the codec's node determines the type
      return (read ??= readRequest(codec, "items"))(request) as A
    } catch (error) {
      if (!(error instanceof Mistake)) throw error
      const problem = [...(error.path.length === 0 ? [] : [error.path.join(".")]), error.message].join(": ")
      throw new ValidationError(`${what}: ${problem}`, { validationErrors: [problem] })
    }
  }
}

const throwExpected = (what: string, got: string): never => {
  throw new Mistake(`Expected ${what}, got ${got}`)
}

const readRequest = (node: Node, name: string): Read => {
  switch (node.kind) {
    case "text":
      return (value) => (typeof value === "string" ? value : throwExpected("string", kindOf(value)))
    case "number":
      return (value) => {
        const result = toNumber(value)
        if (typeof result !== "number") return throwExpected("number", show(value))
        return node.isWhole === true && !Number.isSafeInteger(result)
          ? throwExpected("an integer", show(value))
          : result
      }
    case "flag":
      return (value) => (typeof value === "boolean" ? value : throwExpected("boolean", show(value)))
    case "json":
      return (value) => value
    case "object": {
      // the number of items is checked first, since each of them is read
      const check = (value: unknown) =>
        isObject(value) ? checkEntries(`\`${name}\``, value) : throwExpected("object", kindOf(value))
      if (node.member === undefined) return check
      const read = readRequest(node.member, name)
      return (value) => {
        const members = Object.entries(check(value))
        let current = ""
        try {
          return Object.fromEntries(members.map(([name, member]) => [(current = name), read(member)]))
        } catch (error) {
          throw withPath(current, error)
        }
      }
    }
    case "oneOf": {
      const values: ReadonlySet<unknown> = new Set(node.values)
      const what = node.values.map((value) => JSON.stringify(value)).join(" | ")
      return (value) => (values.has(value) ? value : throwExpected(what, show(value)))
    }
    case "word":
      return (value) => readWord(node, value)
    case "anyOf": {
      const reads = node.nodes.map((node) => readRequest(node, name))
      return (value) => {
        for (const [i, read] of reads.entries()) {
          try {
            return read(value)
          } catch (error) {
            if (!(error instanceof Mistake) || i === reads.length - 1) throw error
          }
        }
        return undefined
      }
    }
    case "list": {
      const read = readRequest(node.item, name)
      return (value) => {
        if (!Array.isArray(value)) return throwExpected("array", kindOf(value))
        // check the number of items first, since each of them is read
        if (value.length > stepsPerRun) {
          throw new LimitExceededError(`The list \`${name}\``, value.length, stepsPerRun, "items")
        }
        const items: Array<unknown> = []
        try {
          for (const item of value) items.push(read(item))
        } catch (error) {
          throw withPath(items.length, error)
        }
        return items
      }
    }
    case "fields": {
      const members = Object.entries(node.fields).map(
        ([name, { wireName = name, value, mayBeNull = false, mayLack = false }]) => ({
          name,
          wireName,
          otherName: otherCase(wireName),
          read: readRequest(value, wireName),
          mayLack,
          keepsNull: mayBeNull || value.kind === "json"
        })
      )
      return (request) => {
        if (!isObject(request)) return throwExpected("object", kindOf(request))
        const result: Record<string, unknown> = {}
        let current = ""
        try {
          for (const member of members) {
            current = member.wireName
            const value = Object.hasOwn(request, current)
              ? request[current]
              : memberOf(request, member.otherName)
            if (value === undefined || (value === null && !member.keepsNull)) {
              if (!member.mayLack) throw new Mistake(`Required, but ${value === null ? "null" : "missing"}`)
              continue
            }
            const memberValue = value === null ? null : member.read(value)
            if (memberValue !== undefined) result[member.name] = memberValue
          }
        } catch (error) {
          throw withPath(current, error)
        }
        return result
      }
    }
  }
}

const memberOf = (request: { readonly [name: string]: unknown }, name: string | undefined): unknown =>
  name !== undefined && Object.hasOwn(request, name) ? request[name] : undefined

/** The type of a value, for a message that does not show the value itself, since it may be a secret. */
const kindOf = (input: unknown): string =>
  input === null ? "null" : Array.isArray(input) ? "an array" : typeof input

/** The same with an article: "a number". */
const kindInSentence = (input: unknown): string => {
  const kind = kindOf(input)
  return input == null || kind.includes(" ") ? kind : `a ${kind}`
}

/**
 * Makes the function that reads requests whose values the service checks itself. The function only finds the members, by
 * their names in camel case or in snake case. `refusal` makes the message for a request that is not an
 * object.
 */
export const memberReader = <A>(
  codec: Codec<A>,
  refusal: (got: string) => string
): ((request: unknown) => RawMembers<A>) => {
  const members = Object.entries(codec.kind === "fields" ? codec.fields : {}).map(
    ([name, { wireName = name, mayLack }]) => [name, wireName, otherCase(wireName), mayLack] as const
  )
  return (request) => {
    if (!isObject(request)) throw new ValidationError(refusal(kindInSentence(request)))
    const values: Record<string, unknown> = {}
    for (const [name, wireName, other, mayLack] of members) {
      const inWireCase = request[wireName]
      const inOtherCase = other === undefined ? undefined : request[other]
      if (
        isGiven(inWireCase) &&
        isGiven(inOtherCase) &&
        JSON.stringify(inWireCase) !== JSON.stringify(inOtherCase)
      ) {
        const [snake, camel] = wireName.includes("_") ? [wireName, other] : [other, wireName]
        throw new ValidationError(
          `\`${camel}\` and \`${snake}\` are one field under two names, with different values: give one`
        )
      }
      const value = isGiven(inWireCase) ? inWireCase : (inOtherCase ?? inWireCase)
      if (isGiven(value) || mayLack !== true) values[name] = value
    }
    // the members are those of the codec
    return values as RawMembers<A>
  }
}

const isGiven = (value: unknown): boolean => value !== undefined && value !== null

/** Makes the function that encodes values to send, without checking them. */
export const encoder = <A>(codec: Codec<A>): ((value: A) => unknown) => {
  let encode: Read | undefined
  return (value) => (encode ??= compileEncoder(codec) ?? ((value) => value))(value)
}

/** The function that encodes values of a node; `undefined` when they are sent unchanged. */
const compileEncoder = (node: Node): Read | undefined => {
  if (node.kind === "list") {
    const encode = compileEncoder(node.item)
    // the type says that it is a list
    return encode === undefined ? undefined : (items) => (items as ReadonlyArray<unknown>).map(encode)
  }
  if (node.kind === "word") return (word) => encodeWord(node, word)
  if (node.kind === "number") return node.isText === true ? String : undefined
  if (node.kind !== "fields") return undefined
  const members = Object.entries(node.fields).map(
    ([name, { wireName = name, isLeftOut, value, defaultValue }]) =>
      [name, wireName, compileEncoder(value), isLeftOut, defaultValue] as const
  )
  return (value) => {
    const sent: Record<string, unknown> = {}
    for (const [name, wireName, encode, isLeftOut, defaultValue] of members) {
      // the type says that it is an object
      const member = (value as { readonly [name: string]: unknown })[name]
      if (isLeftOut === true && (member === defaultValue || (Array.isArray(member) && member.length === 0)))
        continue
      if (member !== undefined) sent[wireName] = encode === undefined ? member : encode(member)
    }
    return sent
  }
}

/** The JSON Schema of a node. In a request (`isRequest`), additional members are allowed. */
export const schemaOf = (node: Node, isRequest: boolean): JsonSchema => {
  switch (node.kind) {
    case "text":
      return { type: "string" }
    case "number":
      if (node.isText === true) return isRequest ? { type: ["string", "integer"] } : { type: "string" }
      return { type: node.isWhole === true ? "integer" : "number" }
    case "flag":
      return { type: "boolean" }
    case "json":
      return {}
    case "object":
      return {
        type: "object",
        ...(node.member === undefined ? {} : { additionalProperties: schemaOf(node.member, isRequest) })
      }
    case "word":
      return isRequest ? {} : { type: "string", enum: node.words.map((word) => encodeWord(node, word)) }
    case "oneOf":
      return { type: "string", enum: node.values }
    case "anyOf":
      return { anyOf: node.nodes.map((node) => schemaOf(node, isRequest)) }
    case "list":
      return { type: "array", items: schemaOf(node.item, isRequest) }
    case "fields": {
      const members = Object.entries(node.fields).map(([name, { wireName = name, ...field }]) => ({
        wireName,
        ...field
      }))
      const required = members.filter(
        ({ isLeftOut, mayLack, onlyLegacyMayLack }) =>
          (mayLack !== true && isLeftOut !== true) || onlyLegacyMayLack === true
      )
      return {
        type: "object",
        properties: Object.fromEntries(
          members.map(({ wireName, mayBeNull, value }) => {
            const schema = schemaOf(value, isRequest)
            return [wireName, mayBeNull === true ? { anyOf: [schema, { type: "null" }] } : schema]
          })
        ),
        ...(required.length === 0 ? {} : { required: required.map(({ wireName }) => wireName) }),
        ...(isRequest ? {} : { additionalProperties: false })
      }
    }
  }
}

/** An invalid value in a request. `path` leads to it: the names of members, and indexes in lists. */
class Mistake extends Error {
  readonly path: Array<string> = []
}

/** The unchecked members of a request; `null` counts as absent. */
export type RawMembers<A> = { readonly [K in keyof A]?: unknown }

type JsonSchema = { readonly [keyword: string]: unknown }
