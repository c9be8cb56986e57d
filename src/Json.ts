/** Values as JSON text, for storage, transport and replay. */
import { isError, losesContent } from "./JsonLoss.ts"
import { IronflowError, LimitExceededError, toError, ValidationError } from "./Errors.ts"
import { checkAmount, memberPath } from "./JsonLimits.ts"
import { jsonDepth } from "./Limits.ts"
import { capital, inSentence } from "./Show.ts"

/** JSON of a value; absent (`undefined`) for the value `undefined`. */
export type JsonText = string

/**
 * Encodes a value as JSON; `undefined` for `undefined`.
 *
 * An object with `toJSON`, such as a date, becomes what that returns. As with `JSON.stringify`, members that are
 * `undefined` are left out, and `NaN` and infinities become `null`. A value that JSON cannot represent throws a
 * `ValidationError`, whose message starts with `what` (`result of step "charge"`) and has the value's path. Such values
 * are BigInt, functions, symbols, cycles, a `toJSON` or getter that throws, and objects that would become `{}` although
 * they are not empty plain objects (Map, Set, promises without `await`, RegExp, Headers, ArrayBuffer, iterators...). An
 * error throws too, unless its class has a `toJSON` of its own; where results are stored, `withErrors` replaces a value
 * that contains errors. More than 100 levels of nesting throw `LimitExceededError`, and so do too many values or too
 * many different names (see `JsonLimits.ts`).
 */
export const encodeJson = (
  value: unknown,
  what: string,
  withErrors?: (value: unknown) => unknown
): string | undefined => {
  switch (typeof value) {
    case "undefined":
      return undefined
    case "boolean":
      return value ? "true" : "false"
    case "number":
      return Number.isFinite(value) ? String(value) : "null"
    case "string":
      return JSON.stringify(value)
    case "object":
      if (value === null) return "null"
  }
  try {
    const problem = findProblem(value, 0, withErrors !== undefined)
    if (problem === "error" && withErrors !== undefined) return encodeJson(withErrors(value), what)
    if (problem !== undefined) throw problemError(problem, value, what)
    const text: string | undefined = JSON.stringify(value)
    // `findProblem` has checked the depth
    return text === undefined ? undefined : checkAmount(what, text, Number.POSITIVE_INFINITY)
  } catch (error) {
    if (error instanceof IronflowError) throw error
    throw new ValidationError(
      `${capital(what)} cannot be stored: reading it threw "${toError(error).message}"`,
      {
        cause: error
      }
    )
  }
}

/**
 * Whether the value consists only of JSON values and `undefined`. Cycles and values that are nested deeply
 * count as plain.
 */
export const isPlainJson = (value: unknown, depth = 0): boolean => {
  if (typeof value === "number") return Number.isFinite(value)
  if (typeof value !== "object") return !["bigint", "symbol", "function"].includes(typeof value)
  if (value === null || depth > jsonDepth) return true
  if (Array.isArray(value)) return value.every((member) => isPlainJson(member, depth + 1))
  if (!isPlainObject(value)) return false
  for (const key in value) if (!isPlainJson(value[key], depth + 1)) return false
  return true
}

/** Parses JSON; `undefined` for `undefined`. Throws `ValidationError` for invalid JSON. */
export const decodeJson = (text: string | undefined): unknown => {
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ValidationError(`Not valid JSON: ${toError(error).message}`, { cause: error })
  }
}

/** Parses JSON; returns `orElse` for invalid JSON. */
export function safeJsonParse<T = unknown>(text: string): T | undefined
export function safeJsonParse<T>(text: string, orElse: T): T
export function safeJsonParse<T>(text: string, orElse?: T): T | undefined {
  try {
    return JSON.parse(text)
  } catch {
    // the caller has asked for a default in place of an error
    return orElse
  }
}

/** Length of the string in UTF-8 bytes. */
export const byteLength = (text: string): number => Buffer.byteLength(text)

/** Whether the value is an object that is neither `null` nor an array. */
export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/**
 * A value from outside as text: a string as it is, and a number or boolean as a string. `orElse` for anything
 * else.
 */
export const textOf = (value: unknown, orElse = ""): string => {
  if (typeof value === "string") return value
  return typeof value === "number" || typeof value === "boolean" ? String(value) : orElse
}

/**
 * A value from outside as a number: a number as it is, and a string as `Number` converts it (the empty string becomes
 * 0). `orElse` for anything else, and for `NaN`.
 */
export const numberOf = (value: unknown, orElse = 0): number => {
  const number = typeof value === "number" || typeof value === "string" ? Number(value) : Number.NaN
  return Number.isNaN(number) ? orElse : number
}

/**
 * Makes a new object with the members of both. Two plain objects under the same key are merged; any other
 * value of `source` replaces that of `target`. Members of `source` that are `undefined` change nothing. `__proto__` is
 * treated like any other name.
 */
export const deepMerge = <T extends object, S extends object>(target: T, source: S): T & S => {
  const merged: Record<string, unknown> = {}
  const put = (key: string, value: unknown) =>
    Object.defineProperty(merged, key, { value, enumerable: true, writable: true, configurable: true })
  for (const [key, value] of Object.entries(target)) put(key, value)
  for (const [key, value] of Object.entries(source)) {
    if (value === undefined) continue
    const previous = Object.hasOwn(merged, key) ? merged[key] : undefined
    put(key, isPlainObject(previous) && isPlainObject(value) ? deepMerge(previous, value) : value)
  }
  // `merged` has the members of both, as the type says
  return merged as T & S
}

const isPlainObject = (value: unknown): value is Record<string, unknown> => {
  if (!isObject(value)) return false
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

type Problem = "bigint" | "function" | "symbol" | "error" | "emptied" | "cycle" | "depth"

/**
 * Finds the first value that JSON cannot represent. A cycle is found because its nesting is too deep. So visited
 * objects need not be remembered. With `anyError`, errors whose class has a `toJSON` of its own are found too.
 */
const findProblem = (value: unknown, depth: number, anyError: boolean): Problem | undefined => {
  switch (typeof value) {
    case "bigint":
      // refused even if this program has added `BigInt.prototype.toJSON`, which `JSON.stringify` would use: other
      // programs lack it
      return "bigint"
    case "function":
      return hasToJson(value) ? findProblem(value.toJSON(""), depth, anyError) : "function"
    case "symbol":
      return "symbol"
    case "object":
      break
    default:
      return undefined
  }
  if (value === null) return undefined
  if (depth >= jsonDepth) return "depth"
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const member: unknown = value[i]
      if (needsWalk(member)) {
        const problem = findProblem(member, depth + 1, anyError)
        if (problem !== undefined) return problem
      }
    }
    return undefined
  }
  if (isLostError(value, anyError)) return "error"
  if (hasToJson(value)) {
    const replaced = value.toJSON("")
    return replaced === value ? walkMembers(value, depth, anyError) : findReplaced(replaced, depth, anyError)
  }
  return walkMembers(value, depth, anyError)
}

const isLostError = (value: object, anyError: boolean): boolean =>
  Object.getPrototypeOf(value) !== Object.prototype &&
  isError(value) &&
  (anyError || !hasToJson(value) || inheritedToJsons.has(value.toJSON))

/**
 * The `toJSON` methods that Effect's errors inherit, and that our errors inherit from those. A class that has only such
 * an inherited method has no `toJSON` of its own.
 */
const inheritedToJsons: ReadonlySet<unknown> = new Set(
  (function* () {
    for (let at: object = IronflowError.prototype; at !== Error.prototype; at = Object.getPrototypeOf(at)) {
      if (Object.hasOwn(at, "toJSON")) yield (at as { readonly toJSON: unknown }).toJSON
    }
  })()
)

/**
 * Finds a problem in what `toJSON` has returned. `JSON.stringify` does not call `toJSON` of the returned value, so it
 * is not called here either.
 */
const findReplaced = (value: unknown, depth: number, anyError: boolean): Problem | undefined => {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return findProblem(value, depth, anyError)
  return isError(value) ? "error" : walkMembers(value, depth, anyError)
}

const walkMembers = (value: object, depth: number, anyError: boolean): Problem | undefined => {
  if (losesContent(value)) return "emptied"
  for (const key of Object.keys(value)) {
    const member = (value as { readonly [key: string]: unknown })[key]
    if (needsWalk(member)) {
      const problem = findProblem(member, depth + 1, anyError)
      if (problem !== undefined) return problem
    }
  }
  return undefined
}

const needsWalk = (value: unknown): boolean =>
  (typeof value === "object" && value !== null) ||
  typeof value === "bigint" ||
  typeof value === "function" ||
  typeof value === "symbol"

export const hasToJson = (value: object): value is { toJSON(key: string): unknown } =>
  typeof (value as { readonly toJSON?: unknown }).toJSON === "function"

/** Makes the error. It walks through the value once more, more slowly, to find the path of the problem. */
const problemError = (anyProblem: Problem, root: unknown, what: string): ValidationError => {
  const { path, problem, value } = locate(root, anyProblem)
  switch (problem) {
    case "bigint":
      return new ValidationError(
        `${capital(what)} cannot be stored: ${path} is a BigInt; JSON has none, so convert it, for example with String(value)`
      )
    case "function":
      return new ValidationError(`${capital(what)} cannot be stored: ${path} is a function; give plain data`)
    case "symbol":
      return new ValidationError(`${capital(what)} cannot be stored: ${path} is a symbol; give plain data`)
    case "error":
      return new ValidationError(
        `${capital(what)} cannot be stored: ${path} is an error (${String((value as Error).name)}), whose stack may reveal internals; ` +
          "give its message, or plain data with what others may know"
      )
    case "emptied":
      return new ValidationError(`${capital(what)} cannot be stored: ${path} is ${describeEmptied(value)}`)
    case "cycle":
      return new ValidationError(
        `${capital(what)} cannot be stored: ${path} refers back to a value that contains it; give plain data without cycles`
      )
    case "depth":
      return new LimitExceededError(
        `Nesting of ${inSentence(what)} at ${path}`,
        jsonDepth + 1,
        jsonDepth,
        "levels",
        {
          isLowerBound: true
        }
      )
  }
}

const describeEmptied = (value: unknown): string => {
  if (value instanceof Promise) return "a promise; await it first"
  const tag = Object.prototype.toString.call(value).slice(8, -1)
  // an instance of a user's class has no tag of its own
  const name = tag === "Object" ? classNameOf(value) : tag
  const a = /^[AEIO]/.test(name) ? "an" : "a"
  const advice = conversions.get(name) ?? (/(Iterator|Generator)$/.test(name) ? "[...value]" : undefined)
  return (
    `${a} ${name}, which JSON cannot represent (it would become {}); ` +
    (advice === undefined ? "give plain data" : `convert it, for example with ${advice}`)
  )
}

const classNameOf = (value: unknown): string => {
  const { name } = (value as { readonly constructor?: { readonly name?: unknown } }).constructor ?? {}
  return typeof name === "string" && name !== "" && name !== "Object" ? name : "class instance without fields"
}

const conversions: ReadonlyMap<string, string> = new Map([
  ["Map", "Object.fromEntries(value)"],
  ["Set", "[...value]"],
  ["RegExp", "String(value)"],
  ["URLSearchParams", "String(value)"],
  ["Headers", "Object.fromEntries(value)"],
  ["FormData", "Object.fromEntries(value)"],
  ["ArrayBuffer", 'Buffer.from(value).toString("base64")'],
  ["Blob", "await value.text()"]
])

interface Located {
  readonly path: string
  readonly problem: Problem
  readonly value: unknown
}

const locate = (root: unknown, problem: Problem): Located => {
  const ancestors = new Set<unknown>()
  const visit = (value: unknown, path: string, depth: number): Located | undefined => {
    if (typeof value === "bigint" || typeof value === "symbol")
      return { path, problem: typeof value as Problem, value }
    if (typeof value === "function" && !hasToJson(value)) return { path, problem: "function", value }
    if ((typeof value !== "object" && typeof value !== "function") || value === null) return undefined
    if (ancestors.has(value)) return { path, problem: "cycle", value }
    if (depth >= jsonDepth) return { path: `${path.slice(0, 64)}...`, problem: "depth", value }
    if (isLostError(value, false)) return { path, problem: "error", value }
    ancestors.add(value)
    const replaced = hasToJson(value) ? value.toJSON("") : value
    if (typeof replaced !== "object" || replaced === null) {
      ancestors.delete(value)
      return visit(replaced, path, depth)
    }
    if (!Array.isArray(replaced)) {
      if (replaced !== value && isError(replaced)) return { path, problem: "error", value: replaced }
      if (losesContent(replaced)) return { path, problem: "emptied", value: replaced }
    }
    const members: ReadonlyArray<readonly [string, unknown]> = Array.isArray(replaced)
      ? replaced.map((member, i) => [`${path}[${i}]`, member] as const)
      : Object.entries(replaced).map(([key, member]) => [memberPath(path, key), member] as const)
    for (const [pathOfMember, member] of members) {
      const found = visit(member, pathOfMember, depth + 1)
      if (found !== undefined) return found
    }
    ancestors.delete(value)
    return undefined
  }
  return visit(root, "$", 0) ?? { path: "$", problem, value: root }
}
