/**
 * Finds misspelled options. An unknown key is refused when it resembles a known one. Any other unknown key, and
 * one of a later version, is warned of once.
 *
 * For input of users, in code and in requests. Not for stored data, which a later version may have written.
 */
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { createLogger, type Logger } from "./Logger.ts"

/**
 * The keys that an object may have. A nested table checks the keys of an object in it, or of the objects in a
 * list.
 */
export interface KnownKeys {
  readonly [key: string]: true | KnownKeys | readonly [KnownKeys]
}

type KeysOf<T> = T extends unknown ? keyof T & string : never

/** A table of the keys of `T`, to use with `satisfies`: it must have all of these and no others. */
export type Keys<T> = { readonly [Key in KeysOf<T>]: true | KnownKeys | readonly [KnownKeys] }

/** Those of the options whose keys are known. */
export const knownOf = <T extends object>(options: T, known: KnownKeys): T =>
  Object.fromEntries(Object.entries(options).filter(([key]) => Object.hasOwn(known, key))) as T

/**
 * Throws `ValidationError` when an unknown key resembles a known one, and is not one of a later version. Any
 * other unknown key is ignored, with a warning. `what` is the subject of the message: `createClient()`. A value
 * that is no object is ignored here. A key with the value `undefined` counts as absent.
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
    const inner = Object.hasOwn(known, key) ? known[key] : undefined
    if (inner === true) continue
    const value = options[key]
    if (value === undefined) continue
    if (inner === undefined) refuseOrWarn(key, known, what, logger)
    else checkKeys(value, inner, `${what}: ${key}`, logger)
  }
}

/**
 * Throws `ValidationError` for any unknown key at the top level. For calls that delete data: if an option
 * such as a `dryRun` in the wrong argument was ignored, the call would delete what was only to be counted.
 */
export const checkAllKeys = (
  known: KnownKeys
): ((options: unknown, what: string) => void) & { readonly known: KnownKeys } => {
  const check = (options: unknown, what: string): void => {
    checkKeys(options, known, what, false)
    const odd = isObject(options)
      ? Object.keys(options).find((key) => options[key] !== undefined && !Object.hasOwn(known, key))
      : undefined
    if (odd !== undefined) {
      throw new ValidationError(
        `${what} has no option \`${odd}\` in this argument, which takes ${Object.keys(known).join(", ")}`
      )
    }
  }
  return Object.assign(check, { known })
}

const isList = (inner: KnownKeys | readonly [KnownKeys]): inner is readonly [KnownKeys] =>
  Array.isArray(inner)

const refuseOrWarn = (
  key: string,
  known: KnownKeys,
  what: string,
  logger: Logger | false | undefined
): void => {
  const meant = nearest(key, Object.keys(known))
  const hint = meant === undefined ? "" : `: did you mean \`${meant}\`?`
  const problem = `${what} has no option \`${key}\`${hint}`
  if (meant !== undefined && !isOfLater(key)) throw new ValidationError(problem)
  if (warned.has(problem) || warned.size >= MAX_WARNINGS || logger === false) return
  warned.add(problem)
  const sink = logger ?? createLogger()
  sink.warn(`${problem}${hint === "" ? ". It" : " It"} is ignored`)
}

const warned = new Set<string>()
/** Maximum number of warnings, for programs that generate keys. */
const MAX_WARNINGS = 1000

/** The known key that is within two edits. None if the edits would replace the whole key. */
export const nearest = (key: string, known: ReadonlyArray<string>): string | undefined => {
  const distances = known.map((one) => ({ one, edits: edits(plain(key), plain(one)) }))
  return distances
    .filter(({ edits, one }) => edits <= 2 && edits < Math.min(key.length, one.length))
    .toSorted((a, b) => a.edits - b.edits)[0]?.one
}

/** The key without marks of its spelling: `max_attempts` becomes the same as `maxAttempts`. */
const plain = (key: string): string => key.replace(/[_-]/g, "").toLowerCase()

/** The key in camel case: on the wire, names occur in both cases. */
const camelCase = (key: string): string =>
  key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

/**
 * How many letters must be added, dropped, changed or swapped with a neighbour to make one string the other.
 */
const edits = (from: string, to: string): number => {
  if (Math.abs(from.length - to.length) > 2) return Number.POSITIVE_INFINITY
  let before: ReadonlyArray<number> = []
  let above = Array.from({ length: to.length + 1 }, (_, i) => i)
  for (let i = 1; i <= from.length; i++) {
    const row = [i]
    for (let j = 1; j <= to.length; j++) {
      const isSame = from[i - 1] === to[j - 1]
      const isSwapped = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]
      row.push(
        Math.min(
          above[j]! + 1,
          row[j - 1]! + 1,
          above[j - 1]! + (isSame ? 0 : 1),
          isSwapped ? before[j - 2]! + 1 : Number.POSITIVE_INFINITY
        )
      )
    }
    before = above
    above = row
  }
  return above[to.length]!
}

/** Whether this is an option of a later version, in camel case or snake case. Such an option is ignored. */
export const isOfLater = (key: string): boolean => later.has(camelCase(key))

/**
 * Options that came after 0.8.0. Code for later versions still runs, with a warning that these have no effect
 * here.
 */
const later = new Set(
  (
    "ackMode actorKey available backpressure beforeVersion callbackUrl cancelOn changeReason checkpointInterval compensateOnCancel " +
    "consumerGroup cursor debounce description direction dryRun endpointUrl entityType expectScopedClient filter filterExpr " +
    "fromEventId fromVersion graceSeconds includeMetadata key limit match maxInflight maxRedeliveries maxWaitMs metadata minSeq " +
    "namespace offset onError partition pauseBehavior periodMs preferredMode redeliverDelayMs replay replayFrom requiredScopes " +
    "signal source status timeoutMs ttlSeconds version"
  ).split(" ")
)
