/** What the engine accepts at most, and the checks that say so. */
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { show } from "./Show.ts"

/** Data and metadata of one event, as JSON text. */
export const eventBytes = 1024 * 1024
/** Result of one step, output of a run, input of an invoked function. */
export const stepResultBytes = 4 * 1024 * 1024
/** Data of one published message. */
export const messageBytes = 1024 * 1024
/** Events in one append, and writes in one `step.tx`. */
export const writesAtOnce = 1000
/** Runs that one append, batch of events, or `step.tx` may start: events times the functions that listen to them. All are stored together. */
export const runsOfAppend = 10_000
/** All data of one append of several events, or of one `step.tx`. */
export const writeBytes = 4 * 1024 * 1024
/** State in one snapshot of a stream. */
export const snapshotBytes = 4 * 1024 * 1024
/** State of one partition of a projection. */
export const projectionStateBytes = 4 * 1024 * 1024
export const stepsPerRun = 10_000
/** All results in the history of one run. */
export const historyBytes = 64 * 1024 * 1024
/** Lines that are kept of what the code of a run has logged, and those of one report; an engine may keep another number. */
export const linesOfRun = 1000
/** Characters of all of them. */
export const linesLength = 256 * 1024
/** Characters of the message of a line, and of its data: what is longer is cut. */
export const lineMessageLength = 8 * 1024
export const lineDataLength = 16 * 1024
/** Levels of nesting in one JSON value. */
export const jsonDepth = 100
/** Levels of a message: those of the data in it, and its own around them. */
export const messageDepth = jsonDepth + 32
/** Values in one message, and in one JSON value: a message costs about a tenth of a second at most. */
export const jsonValues = 500_000
/** Different names of members in one message, and in one JSON value. */
export const jsonNames = 100_000
/** Characters of a name or id: function, event, step, entity, bucket, environment. */
export const nameLength = 256
/** Characters of a key: KV, idempotency. */
export const keyLength = 1024
/** Characters of a CEL expression or a dotted path. */
export const expressionLength = 4096
/** Characters of the value of a secret. */
export const secretLength = 64 * 1024
/** One value of a key, one configuration. */
export const kvValueBytes = 1024 * 1024
/** Keys in one atomic write. */
export const kvWrites = 100
/** Revisions that a bucket may keep of each key. */
export const kvHistory = 64
/** Paths that a function's runs are found by. */
export const searchPaths = 10
/** Characters of a value that runs are found by. */
export const searchValueLength = 256
/** Functions that one list of runs may name. */
export const functionsOfList = 100
/** Runs that one bulk operation may name. */
export const bulkIds = 10_000
/** Characters of what somebody says why. */
export const reasonLength = 4096
/** Turns that one worker may hold at a time. */
const turnsOfWorker = 100_000
/** Runs or events on one page of a list. */
export const listLimit = 1000
/** Characters of what a function says about itself. */
export const descriptionLength = 4096
/** One function as it is registered, as JSON text: triggers, metadata and all. */
export const functionBytes = 256 * 1024
/** Triggers of one function, as JSON text, with what the data of their events is like: of more than that it is left out. */
export const functionSchemaBytes = 16 * 1024
/** Functions of one worker or push endpoint. */
export const functionsAtOnce = 1000
/** Cron triggers of all functions of one worker or push endpoint: when each fires next takes half a millisecond to tell. */
export const cronsAtOnce = 1000
/** All functions of one worker or push endpoint, as they are registered. */
export const registrationBytes = 1024 * 1024
/** Functions of one environment, deleted ones included that still have runs, and all of them as they are registered. */
export const functionsOfEnvironment = 10_000
export const functionsOfEnvironmentBytes = 64 * 1024 * 1024
/** Environments that are stored. */
export const environments = 10_000
/** What all connected workers and push endpoints have registered together. */
export const connectedBytes = 64 * 1024 * 1024
/** Triggers or secrets of one function. */
export const listLength = 256
/** Policies of one role. */
export const policiesOfRole = 256
/** What all policies of a role say: characters of their actions, resources and conditions. */
export const roleLength = 64 * 1024
/** Roles of one key. */
export const rolesOfKey = 16
/** Labels of a worker; members of the metadata of an event, a function or a consumer group. */
export const entries = 256
/** All labels of a worker, and the metadata of an event, a function or a consumer group, as JSON text. */
export const metadataBytes = 64 * 1024

const controlOrHalfCharacter = /[\p{Cc}\p{Cs}]/u

/** Half of a pair of surrogates: UTF-8 has nothing for it, so neither the database nor a URL can carry it. */
export const hasHalfCharacter = (text: string): boolean => /\p{Cs}/u.test(text)

/** Throws `ValidationError` for a text with half a character, which would come back as another one. */
export const checkWhole = (what: string, text: string): string => {
  if (!hasHalfCharacter(text)) return text
  throw new ValidationError(
    `${what} ${JSON.stringify(text.slice(0, 64))} must not contain half a character (a surrogate without the other one)`
  )
}

/**
 * Returns `name` if it can be a name: a string that is not blank, has at most 256 characters, all of them whole, and no control characters.
 * `kind` says what is being named (`step name`). Throws `ValidationError` or `LimitExceededError`.
 */
export const checkName = (kind: string, name: unknown): string => {
  if (typeof name !== "string") {
    throw new ValidationError(`The ${kind} must be a string, got ${name === null ? "null" : typeof name}`)
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
  if (controlOrHalfCharacter.test(name)) {
    checkWhole(`The ${kind}`, name)
    throw new ValidationError(`The ${kind} ${JSON.stringify(name)} must not contain control characters`)
  }
  return name
}

/** Returns `key` if it can be an idempotency key: a string of 1 to 1024 whole characters. Throws `ValidationError`. */
export const checkIdempotencyKey = (key: unknown): string => {
  if (typeof key !== "string" || key === "" || key.length > keyLength) {
    throw new ValidationError(`An idempotency key must be a string of 1 to ${keyLength} characters`)
  }
  return checkWhole("The idempotency key", key)
}

/** Returns `limit` if a list takes it. Throws `ValidationError`. */
export const checkLimit = (list: string, limit: unknown): number => {
  if (typeof limit === "number" && Number.isInteger(limit) && limit >= 1 && limit <= listLimit) return limit
  throw new ValidationError(
    `The limit of ${list} must be an integer from 1 to ${listLimit}, got ${show(limit)}`
  )
}

/** Returns labels or metadata if they have no more than 256 members. Throws `LimitExceededError`. */
export const checkEntries = <A extends object>(what: string, value: A): A => {
  const size = Object.keys(value).length
  if (size > entries) throw new LimitExceededError(what, size, entries, "entries")
  return value
}

/** Throws `LimitExceededError` for more functions, or more of them by cron, than one worker or push endpoint may have. */
export const checkFunctionCount = (functions: ReadonlyArray<unknown>): void => {
  const { length } = functions
  if (length > functionsAtOnce) {
    throw new LimitExceededError("The list of functions of one worker", length, functionsAtOnce, "functions")
  }
  let crons = 0
  for (const fn of functions) {
    // whether they are triggers is checked one by one
    const triggers: unknown = Object(fn).triggers
    if (!Array.isArray(triggers)) continue
    for (const trigger of triggers) if (Object(trigger).cron !== undefined) crons++
  }
  if (crons > cronsAtOnce) {
    throw new LimitExceededError("The list of cron triggers of one worker", crons, cronsAtOnce, "triggers")
  }
}

/** Throws `ValidationError` for a step to start from that is no text; `undefined` is none. */
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
 * Throws `LimitExceededError` when `text` has more than `limitBytes` bytes of UTF-8. `what` names it as the start of a
 * sentence (`Result of step "charge"`). Returns the text.
 */
export const checkSize = <Text extends string | undefined>(
  what: string,
  text: Text,
  limitBytes: number
): Text => {
  // A UTF-16 unit takes between one and three bytes, so most texts need no counting.
  if (text === undefined || text.length * 3 <= limitBytes) return text
  const size = Buffer.byteLength(text)
  if (size > limitBytes) throw new LimitExceededError(what, size, limitBytes, "bytes")
  return text
}

/** Throws `ValidationError` for what cannot be how many turns a worker holds at a time. */
export const checkMaxConcurrentJobs = (value: unknown): number => {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= turnsOfWorker)
    return value
  throw new ValidationError(
    `Worker: \`maxConcurrentJobs\` must be an integer of at least 1 and at most ${turnsOfWorker}, got ${show(value)}`
  )
}
