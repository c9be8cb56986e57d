/**
 * Finds misspelled options. An unknown key is refused when it resembles a known one. Any other unknown key, and an
 * option of a later version, is ignored, and a warning says so once.
 *
 * These checks are for input of users, in code and in requests. They are not for stored data, which a later version may
 * have written.
 */
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { createLogger, type Logger } from "./Logger.ts"

/**
 * The keys that an object may have. A nested table has the keys of a nested object, or of each object in a nested list.
 */
export interface KnownKeys {
  readonly [key: string]: true | KnownKeys | readonly [KnownKeys]
}

type KeysOf<T> = T extends unknown ? keyof T & string : never

/** A table of the keys of `T`, to use with `satisfies`: the table must have all keys of `T` and no others. */
export type Keys<T> = { readonly [Key in KeysOf<T>]: true | KnownKeys | readonly [KnownKeys] }

/** A copy of the options without unknown keys. */
export const withoutUnknownKeys = <T extends object>(options: T, known: KnownKeys): T =>
  Object.fromEntries(Object.entries(options).filter(([key]) => Object.hasOwn(known, key))) as T

/**
 * Throws `ValidationError` when an unknown key resembles a known one, and is not an option of a later version. Any
 * other unknown key is ignored, with a warning. `what` is the subject of the message: `createClient()`. `options` that
 * are no object are not checked. A key with the value `undefined` counts as absent.
 */
export const checkKeys = (
  options: unknown,
  known: KnownKeys | readonly [KnownKeys],
  what: string,
  logger?: Logger | false | undefined
): void => {
  if (isList(known)) {
    if (!Array.isArray(options)) return
    for (const [i, item] of options.entries()) checkKeys(item, known[0], `${what}[${i}]`, logger)
    return
  }
  if (!isObject(options)) return
  for (const key of Object.keys(options)) {
    const nested = Object.hasOwn(known, key) ? known[key] : undefined
    if (nested === true) continue
    const value = options[key]
    if (value === undefined) continue
    if (nested === undefined) refuseOrWarn(key, known, what, logger)
    else checkKeys(value, nested, `${what}: ${key}`, logger)
  }
}

/**
 * Throws `ValidationError` for any unknown key at the top level. It is for calls that delete data: if a `dryRun` in the
 * wrong argument were ignored, the call would delete what it should only count.
 */
export const checkAllKeys = (
  known: KnownKeys
): ((options: unknown, what: string) => void) & { readonly known: KnownKeys } => {
  const check = (options: unknown, what: string): void => {
    checkKeys(options, known, what, false)
    const unknownKey = isObject(options)
      ? Object.keys(options).find((key) => options[key] !== undefined && !Object.hasOwn(known, key))
      : undefined
    if (unknownKey !== undefined) {
      throw new ValidationError(
        `${what} has no option \`${unknownKey}\` in this argument, which takes ${Object.keys(known).join(", ")}`
      )
    }
  }
  return Object.assign(check, { known })
}

const isList = (table: KnownKeys | readonly [KnownKeys]): table is readonly [KnownKeys] =>
  Array.isArray(table)

const refuseOrWarn = (
  key: string,
  known: KnownKeys,
  what: string,
  logger: Logger | false | undefined
): void => {
  const similar = nearest(key, Object.keys(known))
  const hint = similar === undefined ? "" : `: did you mean \`${similar}\`?`
  const problem = `${what} has no option \`${key}\`${hint}`
  if (similar !== undefined && !isLaterOption(key)) throw new ValidationError(problem)
  if (warned.has(problem) || warned.size >= MAX_WARNINGS || logger === false) return
  warned.add(problem)
  const target = logger ?? createLogger()
  target.warn(`${problem}${hint === "" ? ". It" : " It"} is ignored`)
}

const warned = new Set<string>()
/** Maximum number of warnings, for programs that generate keys. */
const MAX_WARNINGS = 1000

/**
 * The known key that is nearest, within two edits. `undefined` if no key is that near, or if the edits would replace a
 * whole key.
 */
export const nearest = (key: string, known: ReadonlyArray<string>): string | undefined => {
  const distances = known.map((one) => ({ one, edits: editDistance(normalized(key), normalized(one)) }))
  return distances
    .filter(({ edits, one }) => edits <= 2 && edits < Math.min(key.length, one.length))
    .toSorted((a, b) => a.edits - b.edits)[0]?.one
}

/** The key without capitals, `_` and `-`: `max_attempts` becomes the same as `maxAttempts`. */
const normalized = (key: string): string => key.replace(/[_-]/g, "").toLowerCase()

/** The key in camel case: requests may have keys in camel case and in snake case. */
const camelCase = (key: string): string =>
  key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

/**
 * How many letters must be added, dropped, changed or swapped with a neighbour to make one string the other.
 */
const editDistance = (from: string, to: string): number => {
  if (Math.abs(from.length - to.length) > 2) return Number.POSITIVE_INFINITY
  let rowBefore: ReadonlyArray<number> = []
  let lastRow = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (let i = 1; i <= from.length; i++) {
    const row = [i]
    for (let j = 1; j <= to.length; j++) {
      const isSame = from[i - 1] === to[j - 1]
      const isSwapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]
      row.push(
        Math.min(
          lastRow[j]! + 1,
          row[j - 1]! + 1,
          lastRow[j - 1]! + (isSame ? 0 : 1),
          isSwapped ? rowBefore[j - 2]! + 1 : Number.POSITIVE_INFINITY
        )
      )
    }
    rowBefore = lastRow
    lastRow = row
  }
  return lastRow[to.length]!
}

/** Whether this is an option of a later version, in camel case or snake case. */
export const isLaterOption = (key: string): boolean => laterOptions.has(camelCase(key))

/**
 * Options that came after 0.8.0. They are never refused as misspelled, so that code for later versions still runs,
 * with a warning that they are ignored.
 */
const laterOptions = new Set(
  (
    "ackMode actorKey available backpressure beforeVersion callbackUrl cancelOn changeReason checkpointInterval compensateOnCancel " +
    "consumerGroup cursor debounce description direction dryRun endpointUrl entityType expectScopedClient filter filterExpr " +
    "fromEventId fromVersion graceSeconds includeMetadata key limit match maxInflight maxRedeliveries maxWaitMs metadata minSeq " +
    "namespace offset onError partition pauseBehavior periodMs preferredMode redeliverDelayMs replay replayFrom requiredScopes " +
    "signal source status timeoutMs ttlSeconds version"
  ).split(" ")
)
