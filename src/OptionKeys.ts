/**
 * Misspelled options: a key that is no option is refused when it looks like one that is, and warned of once otherwise.
 *
 * For what users write: in code, and in requests. What is stored may have been written by others and later.
 */
import { ValidationError } from "./Errors.ts"
import { isObject } from "./Json.ts"
import { createLogger, type Logger } from "./Logger.ts"

/** The keys that an object may have; those of the objects in it, or in a list in it, where these are looked at too. */
export interface Known {
  readonly [key: string]: true | Known | readonly [Known]
}

type KeysOf<T> = T extends unknown ? keyof T & string : never

/** A table of the keys of `T`, for `satisfies`: it compiles when it has each of them and no other. */
export type Keys<T> = { readonly [Key in KeysOf<T>]: true | Known | readonly [Known] }

/** What of the options has a known key. */
export const knownOf = <T extends object>(options: T, known: Known): T =>
  Object.fromEntries(Object.entries(options).filter(([key]) => Object.hasOwn(known, key))) as T

/**
 * Throws `ValidationError` when a key looks like another one, with `what` as the subject: `createClient()`. What is no object is for
 * others to complain about; keys without a value count as absent.
 */
export const checkKeys = (
  options: unknown,
  known: Known | readonly [Known],
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
    if (inner === undefined) unknown(key, known, what, logger)
    else checkKeys(value, inner, `${what}: ${key}`, logger)
  }
}

const isList = (inner: Known | readonly [Known]): inner is readonly [Known] => Array.isArray(inner)

const unknown = (key: string, known: Known, what: string, logger: Logger | false | undefined): void => {
  const meant = nearest(key, Object.keys(known))
  const hint = meant === undefined ? "" : `: did you mean \`${meant}\`?`
  const problem = `${what} has no option \`${key}\`${hint}`
  if (meant !== undefined && !isOfLater(key)) throw new ValidationError(problem)
  if (warned.has(problem) || warned.size >= MOST_WARNINGS || logger === false) return
  warned.add(problem)
  const sink = logger ?? createLogger()
  sink.warn(`${problem}${hint === "" ? ". It" : " It"} is ignored`)
}

const warned = new Set<string>()
/** Who makes up keys as they go is told of so many. */
const MOST_WARNINGS = 1000

/** The known key that is at most two edits away, unless these would replace all of it. */
export const nearest = (key: string, known: ReadonlyArray<string>): string | undefined => {
  const distances = known.map((one) => ({ one, edits: edits(plain(key), plain(one)) }))
  return distances
    .filter(({ edits, one }) => edits <= 2 && edits < Math.min(key.length, one.length))
    .toSorted((a, b) => a.edits - b.edits)[0]?.one
}

/** `max_attempts` is `maxAttempts` in another spelling. */
const plain = (key: string): string => key.replace(/[_-]/g, "").toLowerCase()

/** The wire has names in both cases. */
const camelCase = (key: string): string =>
  key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())

/** How many letters have to be added, dropped, changed or swapped with the next to make one text of another. */
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

/** Whether it is an option that came up later, in either case of letters: it is passed over. */
export const isOfLater = (key: string): boolean => later.has(camelCase(key))

/** Options that came up after 0.8.0: code that is written for later versions runs, and hears that they do nothing here. */
const later = new Set(
  (
    "ackMode actorKey available backpressure beforeVersion callbackUrl cancelOn changeReason checkpointInterval compensateOnCancel " +
    "consumerGroup cursor debounce description direction dryRun endpointUrl entityType expectScopedClient filter filterExpr " +
    "fromEventId fromVersion graceSeconds includeMetadata key limit match maxInflight maxRedeliveries maxWaitMs metadata minSeq " +
    "namespace offset onError partition pauseBehavior periodMs preferredMode redeliverDelayMs replay replayFrom requiredScopes " +
    "signal source status timeoutMs ttlSeconds version"
  ).split(" ")
)
