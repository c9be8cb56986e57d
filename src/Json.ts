/** Values as JSON text: what is stored, sent, and handed back to a handler on replay. */
import { IronflowError, LimitExceededError, toError, ValidationError } from "./Errors.ts"
import { checkShape } from "./JsonShape.ts"
import { jsonDepth } from "./Limits.ts"

/**
 * The value as JSON text; `undefined` for `undefined`.
 *
 * Dates and other objects with `toJSON` become what that returns, `undefined` members vanish, and `NaN` and infinities
 * become `null`, as `JSON.stringify` does it. What JSON would lose or choke on throws a `ValidationError` that starts
 * with `what` (`result of step "charge"`) and names the path: BigInt, functions, symbols, Map, Set, promises that nobody
 * awaited, cycles, a `toJSON` or getter that throws. Nesting deeper than 100 levels throws `LimitExceededError`, and so do more
 * values or different names than there may be, see `JsonShape.ts`.
 */
export const encodeJson = (value: unknown, what: string): string | undefined => {
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
    const problem = findProblem(value, 0)
    if (problem !== undefined) throw problemError(problem, value, what)
    const text: string | undefined = JSON.stringify(value)
    // how deep it is has been seen to
    return text === undefined ? undefined : checkShape(what, text, Number.POSITIVE_INFINITY)
  } catch (error) {
    if (error instanceof IronflowError) throw error
    throw new ValidationError(`${what} cannot be stored: reading it threw "${toError(error).message}"`, {
      cause: error
    })
  }
}

/** Whether the value is made of nothing but what JSON has, and of `undefined`. Cycles and deep nesting count as such. */
export const isPlainJson = (value: unknown, depth = 0): boolean => {
  if (typeof value === "number") return Number.isFinite(value)
  if (typeof value !== "object") return !["bigint", "symbol", "function"].includes(typeof value)
  if (value === null || depth > jsonDepth) return true
  if (Array.isArray(value)) return value.every((member) => isPlainJson(member, depth + 1))
  if (!isPlainObject(value)) return false
  for (const key in value) if (!isPlainJson(value[key], depth + 1)) return false
  return true
}

/** The value of a JSON text; `undefined` for `undefined`. Throws `ValidationError` when the text is not JSON. */
export const decodeJson = (text: string | undefined): unknown => {
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new ValidationError(`Not valid JSON: ${toError(error).message}`, { cause: error })
  }
}

/** The value of a JSON text, or `orElse` when the text is not JSON. */
export function safeJsonParse<T = unknown>(text: string): T | undefined
export function safeJsonParse<T>(text: string, orElse: T): T
export function safeJsonParse<T>(text: string, orElse?: T): T | undefined {
  try {
    return JSON.parse(text)
  } catch {
    // The caller asked for a default in place of the error.
    return orElse
  }
}

/** Bytes of the text in UTF-8. */
export const byteLength = (text: string): number => Buffer.byteLength(text)

/** Whether the value is an object that is neither `null` nor an array. */
export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The text that somebody else sends, or a number or truth as text; `orElse` for whatever is none. */
export const textOf = (value: unknown, orElse = ""): string => {
  if (typeof value === "string") return value
  return typeof value === "number" || typeof value === "boolean" ? String(value) : orElse
}

/** The number that somebody else sends, as it is or in digits; `orElse` for whatever is none. */
export const numberOf = (value: unknown, orElse = 0): number => {
  const number = typeof value === "number" || typeof value === "string" ? Number(value) : Number.NaN
  return Number.isNaN(number) ? orElse : number
}

/**
 * A new object with the members of both; where both have a plain object the two are merged, elsewhere `source` wins.
 * Members of `source` that are `undefined` change nothing. `__proto__` is a member like any other.
 */
export const deepMerge = <T extends object, S extends object>(target: T, source: S): T & S => {
  const merged: Record<string, unknown> = {}
  const put = (key: string, value: unknown) =>
    Object.defineProperty(merged, key, { value, enumerable: true, writable: true, configurable: true })
  for (const [key, value] of Object.entries(target)) put(key, value)
  for (const [key, value] of Object.entries(source)) {
    if (value === undefined) continue
    const own = Object.hasOwn(merged, key) ? merged[key] : undefined
    put(key, isPlainObject(own) && isPlainObject(value) ? deepMerge(own, value) : value)
  }
  // The members of both are there, which is what the intersection says.
  return merged as T & S
}

const isPlainObject = (value: unknown): value is Record<string, unknown> => {
  if (!isObject(value)) return false
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

type Problem = "bigint" | "function" | "symbol" | "map" | "set" | "promise" | "cycle" | "depth"

/** A cycle is found by its depth, so that the walk needs no memory of where it has been. */
const findProblem = (value: unknown, depth: number): Problem | undefined => {
  switch (typeof value) {
    case "bigint":
      // JSON.stringify would carry it only if somebody gave BigInt a `toJSON`, which other programs do not share.
      return "bigint"
    case "function":
      return hasToJson(value) ? findProblem(value.toJSON(""), depth) : "function"
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
        const problem = findProblem(member, depth + 1)
        if (problem !== undefined) return problem
      }
    }
    return undefined
  }
  if (hasToJson(value)) {
    const replaced = value.toJSON("")
    return replaced === value ? walkMembers(value, depth) : findReplaced(replaced, depth)
  }
  return walkMembers(value, depth)
}

/** `toJSON` is asked once per value: JSON does not ask the result again. */
const findReplaced = (value: unknown, depth: number): Problem | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value)
    ? walkMembers(value, depth)
    : findProblem(value, depth)

const walkMembers = (value: object, depth: number): Problem | undefined => {
  const emptied = emptiedBy(value)
  if (emptied !== undefined) return emptied
  for (const key of Object.keys(value)) {
    const member = (value as { readonly [key: string]: unknown })[key]
    if (needsWalk(member)) {
      const problem = findProblem(member, depth + 1)
      if (problem !== undefined) return problem
    }
  }
  return undefined
}

/** What `JSON.stringify` makes `{}` of, whatever is in it. */
const emptiedBy = (value: object): "map" | "set" | "promise" | undefined => {
  if (Object.getPrototypeOf(value) === Object.prototype) return undefined
  if (value instanceof Map) return "map"
  if (value instanceof Set) return "set"
  return value instanceof Promise ? "promise" : undefined
}

const needsWalk = (value: unknown): boolean =>
  (typeof value === "object" && value !== null) ||
  typeof value === "bigint" ||
  typeof value === "function" ||
  typeof value === "symbol"

const hasToJson = (value: object): value is { toJSON(key: string): unknown } =>
  typeof (value as { readonly toJSON?: unknown }).toJSON === "function"

/** The second, slow walk, which knows the path. */
const problemError = (problem: Problem, root: unknown, what: string): ValidationError => {
  const { path, found } = locate(root, problem)
  switch (found) {
    case "bigint":
      return new ValidationError(
        `${what} cannot be stored: ${path} is a BigInt; JSON has none, so convert it, for example with String(value)`
      )
    case "function":
      return new ValidationError(`${what} cannot be stored: ${path} is a function; give plain data`)
    case "symbol":
      return new ValidationError(`${what} cannot be stored: ${path} is a symbol; give plain data`)
    case "map":
      return new ValidationError(
        `${what} cannot be stored: ${path} is a Map; JSON has none, so convert it, for example with Object.fromEntries(value)`
      )
    case "set":
      return new ValidationError(
        `${what} cannot be stored: ${path} is a Set; JSON has none, so convert it, for example with [...value]`
      )
    case "promise":
      return new ValidationError(`${what} cannot be stored: ${path} is a promise; await it first`)
    case "cycle":
      return new ValidationError(
        `${what} cannot be stored: ${path} refers back to a value that contains it; give plain data without cycles`
      )
    case "depth":
      return new LimitExceededError(`Nesting of ${what} at ${path}`, jsonDepth + 1, jsonDepth, "levels")
  }
}

const locate = (root: unknown, problem: Problem): { readonly path: string; readonly found: Problem } => {
  const above = new Set<unknown>()
  const visit = (
    value: unknown,
    path: string,
    depth: number
  ): { path: string; found: Problem } | undefined => {
    if (typeof value === "bigint" || typeof value === "symbol")
      return { path, found: typeof value as Problem }
    if (typeof value === "function" && !hasToJson(value)) return { path, found: "function" }
    if ((typeof value !== "object" && typeof value !== "function") || value === null) return undefined
    if (above.has(value)) return { path, found: "cycle" }
    if (depth >= jsonDepth) return { path: `${path.slice(0, 64)}...`, found: "depth" }
    above.add(value)
    const shown = hasToJson(value) ? value.toJSON("") : value
    if (typeof shown !== "object" || shown === null) {
      above.delete(value)
      return visit(shown, path, depth)
    }
    const emptied = Array.isArray(shown) ? undefined : emptiedBy(shown)
    if (emptied !== undefined) return { path, found: emptied }
    const members: ReadonlyArray<readonly [string, unknown]> = Array.isArray(shown)
      ? shown.map((member, i) => [`${path}[${i}]`, member] as const)
      : Object.entries(shown).map(([key, member]) => [memberPath(path, key), member] as const)
    for (const [memberAt, member] of members) {
      const found = visit(member, memberAt, depth + 1)
      if (found !== undefined) return found
    }
    above.delete(value)
    return undefined
  }
  return visit(root, "$", 0) ?? { path: "$", found: problem }
}

const memberPath = (path: string, key: string): string =>
  /^[A-Za-z_$][\w$]*$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key.slice(0, 64))}]`
