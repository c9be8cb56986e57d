/** Dotted paths into plain data, such as `event.data.customerId` or `data.items.0.sku`. */
import { expressionLength } from "./Limits.ts"

const grammar = /^(?:\$\.)?(?:[A-Za-z_$][\w$-]*|\d+)(?:\[\d+\])*(?:\.(?:[A-Za-z_$][\w$-]*|\d+)(?:\[\d+\])*)*$/

/**
 * Whether the text is a dotted path: names or indexes separated by dots, with `items[0]` for `items.0`, and
 * with an optional prefix `$.`. Where a path or a CEL expression is allowed, such a text is a path.
 */
export const isDataPath = (text: string): boolean => text.length <= expressionLength && grammar.test(text)

/**
 * The value at the path; `undefined` when there is none. Only own properties count, so `constructor` and
 * `__proto__` are found only if the data has members of that name. Arrays are read by index.
 */
export const readPath = (root: unknown, path: string): unknown => {
  let value = root
  for (const key of segments(path)) {
    if (typeof value !== "object" || value === null) return undefined
    // `length` is an own property of an array, but it is not data
    if (Array.isArray(value) && !/^\d+$/.test(key)) return undefined
    if (!Object.hasOwn(value, key)) return undefined
    value = (value as { readonly [key: string]: unknown })[key]
  }
  return value
}

const MAX_CACHED = 1000
const cache = new Map<string, ReadonlyArray<string>>()

const segments = (path: string): ReadonlyArray<string> => {
  const cached = cache.get(path)
  if (cached !== undefined) return cached
  const parsed = path
    .replace(/^\$\./, "")
    .replace(/\[(\d+)\]/g, ".$1")
    .split(".")
  if (cache.size >= MAX_CACHED) cache.clear()
  cache.set(path, parsed)
  return parsed
}
