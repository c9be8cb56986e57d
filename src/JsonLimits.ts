/**
 * Limits for JSON from outside, which are checked before it is parsed. The cost of parsing JSON and walking through it
 * depends on the depth, the number of values and the number of different names. The length hardly matters.
 *
 * Measured on one core: 100,000 values take 2 ms as numbers in an array, 10 ms in rows with the same members,
 * and 50 ms as members with 100,000 different names, since the runtime keeps names. So different names have a limit
 * of their own.
 *
 * A number that is too large for JavaScript is refused here too. It would be parsed as `Infinity`, which JSON
 * encodes as `null`.
 */
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { jsonDepth, jsonNames, jsonValues, messageDepth } from "./Limits.ts"
import { capital, inSentence } from "./Show.ts"

/** What was counted so far in the JSON texts of one message. */
export class ShapeCounts {
  length = 0
  values = 0
  names = 0
  /**
   * Has a bit for each name in its place: the bit follows from the name and from the names before it in its object. The
   * bit is set when the name has occurred in that place.
   */
  seen: Int32Array | undefined
}

/**
 * A text of at most this length cannot exceed the limit of names or that of values: a name with its value takes five
 * characters, and a value two.
 */
const SHORT_LENGTH = 5 * jsonNames

/**
 * Checks JSON from outside as {@link checkAmount} does. Also throws `ValidationError`, with the path, for a
 * number that is too large (`1e999`).
 */
export const checkShape = (
  what: string,
  text: string,
  maxLevels: number = messageDepth,
  counted: ShapeCounts = new ShapeCounts()
): string => checkNumbers(what, checkAmount(what, text, maxLevels, counted))

/**
 * Throws `LimitExceededError` when JSON is nested more than `maxLevels` deep, or has more than 500,000 values or
 * 100,000 different names. The values and names that `counted` has from earlier texts are included. `what` names the
 * JSON (`the body`). The check is cheap, and stops where a limit is first exceeded. Returns the text, which may be
 * invalid JSON.
 */
export const checkAmount = (
  what: string,
  text: string,
  maxLevels: number = messageDepth,
  counted: ShapeCounts = new ShapeCounts()
): string => {
  counted.length += text.length
  if (counted.length > SHORT_LENGTH) scan(what, text, maxLevels, counted)
  // each level begins with a bracket, and most texts have fewer brackets than levels are allowed
  else if (text.length > 2 * maxLevels && hasMoreBrackets(text, maxLevels))
    checkNesting(what, text, maxLevels)
  return text
}

const hasMoreBrackets = (text: string, limit: number): boolean => {
  let found = 0
  for (const bracket of "{[") {
    for (let at = text.indexOf(bracket); at !== -1; at = text.indexOf(bracket, at + 1)) {
      if (++found > limit) return true
    }
  }
  return false
}

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** `seen` has 2^20 bits: about ten times as many as there may be names, so that few names share a bit. */
const SEEN_BITS = 20

const checkNesting = (what: string, text: string, maxLevels: number): void => {
  let level = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(text, at)
        break
      case OPEN_BRACKET:
      case OPEN_BRACE:
        if (++level > maxLevels) throw tooDeep(what, level, maxLevels)
        break
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        if (level > 0) level--
    }
  }
}

const scan = (what: string, text: string, maxLevels: number, counted: ShapeCounts): void => {
  const seen = (counted.seen ??= new Int32Array(2 ** (SEEN_BITS - 5)))
  /** For each level: the hash of the names in its object. */
  const nameHashes: Array<number> = [0]
  let level = 0
  // where the last string begins and ends. At a colon, the last string is the name of a member
  let stringStart = 0
  let stringEnd = 0
  counted.values++
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        stringStart = at + 1
        stringEnd = at = endOfString(text, at)
        break
      case COLON: {
        const bit =
          mix((nameHashes[level] = hashOf(text, stringStart, stringEnd, nameHashes[level]!))) >>>
          (32 - SEEN_BITS)
        const mask = 1 << (bit & 31)
        if ((seen[bit >>> 5]! & mask) !== 0) break
        seen[bit >>> 5]! |= mask
        if (++counted.names > jsonNames) throw tooMany("names", what, counted.names, jsonNames)
        break
      }
      case OPEN_BRACKET:
      case OPEN_BRACE:
        if (++level > maxLevels) throw tooDeep(what, level, maxLevels)
        nameHashes[level] = 0
        // counts the first value of an array or object; each other value follows a comma
        if (!isClosing(text.charCodeAt(at + 1))) counted.values++
        break
      case COMMA:
        counted.values++
        break
      case CLOSE_BRACKET:
      case CLOSE_BRACE:
        if (level > 0) level--
    }
    if (counted.values > jsonValues) throw tooMany("values", what, counted.values, jsonValues)
  }
}

const isClosing = (code: number): boolean => code === CLOSE_BRACKET || code === CLOSE_BRACE

const tooDeep = (what: string, level: number, maxLevels: number): LimitExceededError =>
  // the levels of the message around the data are not counted: users know only the limit for data
  new LimitExceededError(
    `Nesting of ${inSentence(what)}`,
    level - maxLevels + jsonDepth,
    jsonDepth,
    "levels",
    {
      isLowerBound: true
    }
  )

const tooMany = (unit: "names" | "values", what: string, size: number, limit: number): LimitExceededError =>
  new LimitExceededError(
    `The number of ${unit === "names" ? "different names" : unit} in ${inSentence(what)}`,
    size,
    limit,
    unit,
    { isLowerBound: true }
  )

const hashOf = (text: string, begin: number, end: number, seed: number): number => {
  let hash = seed ^ 0x811c9dc5
  for (let at = begin; at < end; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return hash
}

/** Spreads the differences between hashes over all bits. */
const mix = (hash: number): number => {
  const half = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return Math.imul(half ^ (half >>> 13), 0xc2b2ae35)
}

/**
 * The index of the quote that ends the string which starts at `start`. The end of the text when there is
 * none.
 */
const endOfString = (text: string, start: number): number => {
  let at = start + 1
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) break
    if (code === BACKSLASH) at++
  }
  return at
}

// A number that is too large has an exponent of at least three digits, or more than two hundred digits and perhaps a
// shorter exponent. Few texts contain such a number, and only those are searched.
const LONG_EXPONENT = /\d[eE]\+?\d{3}/g
const MANY_DIGITS = 200
/** After so many exponents that follow no number, this search ends, and the exact search begins. */
const MAX_EXPONENTS = 1000

const checkNumbers = (what: string, text: string): string => {
  if (!hasLongExponent(text) && !hasManyDigits(text)) return text
  const number = tooLargeIn(text)
  if (number === undefined) return text
  let path: string | undefined
  try {
    path = pathOfInfinity(JSON.parse(text), "$")
  } catch {
    // the text is not JSON, which is reported where it is parsed
    return text
  }
  const shown = number.length > 32 ? `${number.slice(0, 32)}...` : number
  throw new ValidationError(
    `${capital(what)} cannot be stored: ${path ?? "$"} is the number ${shown}, which is too large: ` +
      "JavaScript reads it as Infinity, which JSON cannot represent. Send it as a string"
  )
}

/**
 * Whether the text has an exponent of at least three digits after what may be a number in JSON. Ids in strings may look
 * the same (`run_5E123`), but there the digits follow a letter or an underscore.
 */
const hasLongExponent = (text: string): boolean => {
  LONG_EXPONENT.lastIndex = 0
  let tries = 0
  for (let found = LONG_EXPONENT.exec(text); found !== null; found = LONG_EXPONENT.exec(text)) {
    // whoever sends so many wants this search to take long: the exact search takes less time
    if (++tries > MAX_EXPONENTS) return true
    let before = found.index - 1
    while (isDigit(text.charCodeAt(before)) || text.charCodeAt(before) === POINT) before--
    if (before < 0 || NUMBER_START.test(text.charAt(before))) return true
  }
  return false
}

/**
 * Whether the text has at least {@link MANY_DIGITS} digits in a row. So long a row contains a character whose position,
 * counted from 1, is a multiple of `MANY_DIGITS`. So only these characters are looked at, and the neighbours of a
 * character that is a digit.
 */
const hasManyDigits = (text: string): boolean => {
  for (let at = MANY_DIGITS - 1; at < text.length; at += MANY_DIGITS) {
    if (!isDigit(text.charCodeAt(at))) continue
    let begin = at
    let end = at + 1
    while (isDigit(text.charCodeAt(begin - 1))) begin--
    while (isDigit(text.charCodeAt(end))) end++
    if (end - begin >= MANY_DIGITS) return true
  }
  return false
}

const POINT = 0x2e
/** What may stand before a number in JSON. */
const NUMBER_START = /[-[:,\s]/

const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39

const NUMBER = /\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y

/** The first number in the JSON that is too large, as the JSON writes it; `undefined` when there is none. */
const tooLargeIn = (text: string): string | undefined => {
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) at = endOfString(text, at)
    else if (isDigit(code)) {
      NUMBER.lastIndex = at
      const [number = ""] = NUMBER.exec(text) ?? []
      if (Number(number) === Number.POSITIVE_INFINITY) return number
      at += number.length - 1
    }
  }
  return undefined
}

const pathOfInfinity = (value: unknown, path: string): string | undefined => {
  if (typeof value === "number") return Number.isFinite(value) ? undefined : path
  if (typeof value !== "object" || value === null) return undefined
  const isList = Array.isArray(value)
  for (const [key, member] of Object.entries(value)) {
    const found = pathOfInfinity(member, isList ? `${path}[${key}]` : memberPath(path, key))
    if (found !== undefined) return found
  }
  return undefined
}

/** The path of a member, for messages: `$.order["unit price"]`. */
export const memberPath = (path: string, key: string): string =>
  /^[A-Za-z_$][\w$]*$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key.slice(0, 64))}]`
