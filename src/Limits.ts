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
/** All data of one append of several events, or of one `step.tx`. */
export const writeBytes = 4 * 1024 * 1024
/** State in one snapshot of a stream. */
export const snapshotBytes = 4 * 1024 * 1024
/** State of one partition of a projection. */
export const projectionStateBytes = 4 * 1024 * 1024
export const stepsPerRun = 10_000
/** All results in the history of one run. */
export const historyBytes = 64 * 1024 * 1024
/** Levels of nesting in one JSON value. */
export const jsonDepth = 100
/** Levels of a message: those of the data in it, and its own around them. */
export const messageDepth = jsonDepth + 32
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
/** Runs on one page of a list. */
export const runsAtOnce = 1000
/** Triggers or secrets of one function, labels of one worker. */
export const listLength = 256

const controlCharacter = /\p{Cc}/u

/**
 * Returns `name` if it can be a name: a string that is not blank, has at most 256 characters and no control characters.
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
  if (controlCharacter.test(name)) {
    throw new ValidationError(`The ${kind} ${JSON.stringify(name)} must not contain control characters`)
  }
  return name
}

/** Returns `key` if it can be an idempotency key: a string of 1 to 1024 characters. Throws `ValidationError`. */
export const checkIdempotencyKey = (key: unknown): string => {
  if (typeof key !== "string" || key === "" || key.length > keyLength) {
    throw new ValidationError(`An idempotency key must be a string of 1 to ${keyLength} characters`)
  }
  return key
}

/** Returns `limit` if `listRuns` takes it. Throws `ValidationError`. */
export const checkRunsLimit = (limit: unknown): number => {
  if (typeof limit === "number" && Number.isInteger(limit) && limit >= 1 && limit <= runsAtOnce) return limit
  throw new ValidationError(
    `The limit of listRuns must be an integer from 1 to ${runsAtOnce}, got ${show(limit)}`
  )
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

/**
 * Throws `LimitExceededError` when the JSON text is nested more than `levels` deep: whoever walks through what it says could
 * not. `what` names it as the start of a sentence (`The body`). It is cheap, and stops at the level that is too much. Returns
 * the text, which may be no JSON at all.
 */
export const checkNesting = (what: string, text: string, levels: number = messageDepth): string => {
  // each level begins with a bracket, and most texts have fewer
  if (text.length <= 2 * levels || !hasMoreBrackets(text, levels)) return text
  let level = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(text, at)
        break
      case OPEN_BRACKET:
      case OPEN_BRACE:
        if (++level > levels) throw new LimitExceededError(`Nesting of ${what}`, level, jsonDepth, "levels")
        break
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        level--
    }
  }
  return text
}

const hasMoreBrackets = (text: string, most: number): boolean => {
  let found = 0
  for (const bracket of "{[") {
    for (let at = text.indexOf(bracket); at !== -1; at = text.indexOf(bracket, at + 1)) {
      if (++found > most) return true
    }
  }
  return false
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** Where the quote is that ends the string which begins at `start`; the end of the text when there is none. */
const endOfString = (text: string, start: number): number => {
  let at = start + 1
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) break
    if (code === BACKSLASH) at++
  }
  return at
}
