/** The limits of the engine, and checks of them. */
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { show } from "./Show.ts"

/** Maximum size of the data of one event, as JSON. */
export const eventBytes = 1024 * 1024
/** Maximum size of the result of a step, the output of a run, or the input of an invocation. */
export const stepResultBytes = 4 * 1024 * 1024
/** Maximum size of the data of one message. */
export const messageBytes = 1024 * 1024
/** Maximum number of events in one append, and of writes in one `step.tx`. */
export const writesAtOnce = 1000
/**
 * Maximum number of runs that one append, one batch of events, or one `step.tx` starts in its transaction:
 * the number of events times the number of functions that match them.
 */
export const runsOfAppend = 10_000
/** Maximum total size of the data and metadata of one append of several events, or of the writes of one `step.tx`. */
export const writeBytes = 4 * 1024 * 1024
/** Maximum size of the state in a snapshot. */
export const snapshotBytes = 4 * 1024 * 1024
/** Maximum size of the state of one partition of a projection. */
export const projectionStateBytes = 4 * 1024 * 1024
/** Maximum number of steps of one run. */
export const stepsPerRun = 10_000
/** Maximum total size of the results in the history of one run. */
export const historyBytes = 64 * 1024 * 1024
/**
 * Maximum number of log lines in one report of a worker. An engine also keeps at most this number of a run's log lines,
 * unless it is configured otherwise.
 */
export const logLinesOfRun = 1000
/**
 * Maximum total length of the log lines in one report of a worker, in characters. An engine also keeps log lines of a
 * run up to this length, unless it is configured otherwise.
 */
export const logCharactersOfRun = 256 * 1024
/** Maximum length of the message of a log line, in characters: the rest is cut off. */
export const lineMessageLength = 8 * 1024
/** Maximum length of the data of a log line as JSON, in characters: the rest is cut off. */
export const lineDataLength = 16 * 1024
/** Maximum nesting of a JSON value. */
export const jsonDepth = 100
/** Maximum nesting of a message: the nesting of the data in it, plus levels for the message around the data. */
export const messageDepth = jsonDepth + 32
/**
 * Maximum number of values in one message, and in one JSON value. With this limit, parsing a message takes at most
 * about a tenth of a second.
 */
export const jsonValues = 500_000
/** Maximum number of different member names in one message, and in one JSON value. */
export const jsonNames = 100_000
/** Maximum length of a name or id (function, event, step, entity, bucket, environment), in characters. */
export const nameLength = 256
/** Maximum length of a KV key or idempotency key, in characters. */
export const keyLength = 1024
/** Maximum length of a CEL expression or a dotted path, in characters. */
export const expressionLength = 4096
/** Maximum length of the value of a secret, in characters. */
export const secretLength = 64 * 1024
/** Maximum size of the value of a KV key, and of a configuration. */
export const kvValueBytes = 1024 * 1024
/** Maximum number of KV keys in one atomic write. */
export const kvWrites = 100
/** Maximum number of revisions that a bucket keeps of each KV key. */
export const kvHistory = 64
/** Maximum number of paths in a function's `searchBy`. */
export const searchPaths = 10
/** Maximum length of a searchable value, in characters. */
export const searchValueLength = 256
/** Maximum number of functions in the filter of a list of runs. */
export const functionsOfList = 100
/** Maximum number of run ids in one bulk operation. */
export const bulkIds = 10_000
/** Maximum length of `reason` and `fromStep` of a bulk operation, in characters. */
export const reasonLength = 4096
/** Maximum number of concurrent turns of one worker. */
const turnsOfWorker = 100_000
/** Maximum number of runs or events on one page of a list. */
export const listLimit = 1000
/** Maximum length of a function's description, in characters. */
export const descriptionLength = 4096
/** Maximum size of one registered function, as JSON, including triggers and metadata. */
export const functionBytes = 256 * 1024
/**
 * Maximum size of the triggers of one function, as JSON, with the schemas of their events. If the schemas make them
 * larger, the schemas are left out.
 */
export const functionSchemaBytes = 16 * 1024
/** Maximum number of functions of one worker or push endpoint. */
export const functionsAtOnce = 1000
/**
 * Maximum number of cron triggers of one worker or push endpoint: to compute the next fire of a trigger takes half a
 * millisecond.
 */
export const cronsAtOnce = 1000
/** Maximum total size of the registered functions of one worker or push endpoint. */
export const registrationBytes = 1024 * 1024
/** Maximum number of functions of one environment, including deleted ones that still have runs. */
export const functionsOfEnvironment = 10_000
/** Maximum total size of the registrations of all functions of one environment, as JSON. */
export const functionsOfEnvironmentBytes = 64 * 1024 * 1024
/** Maximum number of stored environments. */
export const environments = 10_000
/** Maximum total size of the registrations of all connected workers and push endpoints. */
export const connectedBytes = 64 * 1024 * 1024
/** Maximum number of entries of one list in a declaration, such as triggers, secrets or patterns. */
export const declaredListLength = 256
/** Maximum number of policies of one role. */
export const policiesOfRole = 256
/** Maximum total length of the actions, resources and conditions of all policies of a role, in characters. */
export const roleLength = 64 * 1024
/** Maximum number of roles of one API key. */
export const rolesOfKey = 16
/** Maximum number of labels of a worker, and of members of the metadata of an event, function or consumer group. */
export const metadataEntries = 256
/** Maximum total size of the labels of a worker, and of the metadata of an event, function or consumer group, as JSON. */
export const metadataBytes = 64 * 1024

const controlOrLoneSurrogate = /[\p{Cc}\p{Cs}]/u

/**
 * Whether the string has a lone surrogate. UTF-8 cannot encode lone surrogates, so neither the database nor a URL can
 * hold such a string.
 */
export const hasLoneSurrogate = (text: string): boolean => /\p{Cs}/u.test(text)

/** Throws `ValidationError` for a string with a lone surrogate, which would be stored as another string. */
export const checkWellFormed = (what: string, text: string): string => {
  if (!hasLoneSurrogate(text)) return text
  throw new ValidationError(
    `${what} ${JSON.stringify(text.slice(0, 64))} must not contain a lone surrogate (half a character)`
  )
}

/**
 * Returns `name` if it is valid: a string of at most 256 characters that is not blank and has no lone surrogates or
 * control characters. `kind` describes the name (`step name`). Throws `ValidationError` or `LimitExceededError`.
 */
export const checkName = (kind: string, name: unknown): string => {
  if (typeof name !== "string") {
    throw new ValidationError(`The ${kind} must be a string, got ${show(name)}`)
  }
  if (name.length > nameLength) {
    throw new LimitExceededError(
      `The ${kind} "${name.slice(0, 32)}..."`,
      name.length,
      nameLength,
      "characters"
    )
  }
  if (name.trim() === "") throw new ValidationError(`The ${kind} must not be empty or blank`)
  if (controlOrLoneSurrogate.test(name)) {
    checkWellFormed(`The ${kind}`, name)
    throw new ValidationError(`The ${kind} ${JSON.stringify(name)} must not contain control characters`)
  }
  return name
}

/**
 * Returns `key` if it is a valid idempotency key: a string of 1 to 1024 characters without lone surrogates. Throws
 * `ValidationError`.
 */
export const checkIdempotencyKey = (key: unknown): string => {
  if (typeof key !== "string" || key === "" || key.length > keyLength) {
    throw new ValidationError(
      `An idempotency key must be a string of 1 to ${keyLength} characters, got ${typeof key === "string" ? `${key.length} characters` : show(key)}`
    )
  }
  return checkWellFormed("The idempotency key", key)
}

/**
 * Returns `limit` if it is valid as the size of a page. `list` names the call in the message. Throws
 * `ValidationError`.
 */
export const checkLimit = (list: string, limit: unknown): number => {
  if (typeof limit === "number" && Number.isInteger(limit) && limit >= 1 && limit <= listLimit) return limit
  throw new ValidationError(
    `The limit of ${list} must be an integer from 1 to ${listLimit}, got ${show(limit)}`
  )
}

/**
 * Returns the cursor of a list. Throws `ValidationError` for an empty cursor: the list would begin anew, and a loop
 * over its pages would never end.
 */
export const checkCursor = (list: string, cursor: unknown): string => {
  if (typeof cursor === "string" && cursor !== "") return cursor
  throw new ValidationError(
    `The cursor of ${list} must be \`nextCursor\` of the previous page, got ${show(cursor)}: leave it out to begin with the first page`
  )
}

/** Returns the labels or metadata if they have at most 256 members. Throws `LimitExceededError`. */
export const checkEntries = <A extends object>(what: string, value: A): A => {
  const size = Object.keys(value).length
  if (size > metadataEntries) throw new LimitExceededError(what, size, metadataEntries, "entries")
  return value
}

/** Throws `LimitExceededError` if one worker or push endpoint has too many functions, or too many cron triggers. */
export const checkFunctionCount = (functions: ReadonlyArray<unknown>): void => {
  const { length } = functions
  if (length > functionsAtOnce) {
    throw new LimitExceededError(
      "The list of functions of one worker or push endpoint",
      length,
      functionsAtOnce,
      "functions",
      { advice: "Split the functions over several workers or push endpoints" }
    )
  }
  let crons = 0
  for (const fn of functions) {
    // the triggers themselves are checked later, each on its own
    const triggers: unknown = Object(fn).triggers
    if (!Array.isArray(triggers)) continue
    for (const trigger of triggers) if (Object(trigger).cron !== undefined) crons++
  }
  if (crons > cronsAtOnce) {
    throw new LimitExceededError(
      "The list of cron triggers of one worker or push endpoint",
      crons,
      cronsAtOnce,
      "triggers",
      { advice: "Split the functions over several workers or push endpoints" }
    )
  }
}

/** Throws `ValidationError` for an invalid step to start from; `undefined` is valid. */
export const checkStep = (step: unknown): void => {
  if (step !== undefined && typeof step !== "string") {
    throw new ValidationError(`The step to start from must be a name or a step id, got ${show(step)}`)
  }
}

/** Throws `LimitExceededError` when `text` has more than `limit` characters. */
export const checkLength = (what: string, text: string, limit: number): void => {
  if (text.length > limit) throw new LimitExceededError(what, text.length, limit, "characters")
}

/**
 * Returns the reason that the caller of a method gives, and `""` if there is none. Throws `ValidationError` when it is not
 * a string, and `LimitExceededError` when it is too long.
 */
export const checkReason = (method: string, reason: unknown): string => {
  if (reason === undefined) return ""
  if (typeof reason !== "string") {
    throw new ValidationError(`The reason of ${method}() must be a string, got ${show(reason)}`)
  }
  checkLength(`The reason of ${method}()`, reason, reasonLength)
  return reason
}

/**
 * Throws `LimitExceededError` when `text` has more than `limitBytes` bytes in UTF-8. `what` names the text, as the
 * start of a sentence (`Result of step "charge"`). Returns the text.
 */
export const checkSize = <Text extends string | undefined>(
  what: string,
  text: Text,
  limitBytes: number
): Text => {
  // a UTF-16 code unit takes at most three bytes, so most strings need not be counted
  if (text === undefined || text.length * 3 <= limitBytes) return text
  const size = Buffer.byteLength(text)
  if (size > limitBytes) throw new LimitExceededError(what, size, limitBytes, "bytes")
  return text
}

/** Returns the maximum number of concurrent turns of a worker, if it is valid. Throws `ValidationError`. */
export const checkMaxConcurrentJobs = (value: unknown): number => {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= turnsOfWorker)
    return value
  throw new ValidationError(
    `Worker: \`maxConcurrentJobs\` must be an integer from 1 to ${turnsOfWorker}, got ${show(value)}`
  )
}
