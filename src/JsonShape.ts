/**
 * Bounds of JSON text from somebody else, checked before it is parsed: what it costs to parse and to walk through is told by how
 * deep it is, how much is in it and how many different names, and hardly by its length.
 *
 * Measured on one core: 100,000 values take 2 ms as numbers in a list, 10 ms in rows with the same members, and 50 ms when each
 * has a name of its own, which the runtime keeps. So names that differ are counted apart.
 */
import { LimitExceededError } from "./Errors.ts"
import { jsonDepth, jsonNames, jsonValues, messageDepth } from "./Limits.ts"

/** What was counted so far, for texts that come in one message. */
export class Counted {
  length = 0
  values = 0
  names = 0
  /** A bit for each name, and for each order of names in an object, that has been there. */
  seen: Int32Array | undefined
}

/** Characters in which neither limit can be passed: a name takes five with its value, and a value two. */
const SHORT = 5 * jsonNames

/**
 * Throws `LimitExceededError` when the JSON text is nested more than `levels` deep, has more than 500,000 values, or more than
 * 100,000 different names, together with those that `counted` has already. `what` names it (`the body`). It is cheap, and stops
 * where it is too much. Returns the text, which may be no JSON at all.
 */
export const checkShape = (
  what: string,
  text: string,
  levels: number = messageDepth,
  counted: Counted = new Counted()
): string => {
  counted.length += text.length
  // each level begins with a bracket, and most texts have fewer
  if (counted.length > SHORT || (text.length > 2 * levels && hasMoreBrackets(text, levels))) {
    scan(what, text, levels, counted)
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
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** As many bits as ten times the names that there may be: of so many a few share one. */
const SEEN_BITS = 20

const scan = (what: string, text: string, levels: number, counted: Counted): void => {
  const seen = (counted.seen ??= new Int32Array(2 ** (SEEN_BITS - 5)))
  /** For each level the hash of the names that were in its object. */
  const orders: Array<number> = [0]
  let level = 0
  let begin = 0
  let end = 0
  counted.values++
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case QUOTE:
        begin = at + 1
        end = at = endOfString(text, at)
        break
      case COLON: {
        const bit = mixed((orders[level] = hashOf(text, begin, end, orders[level]!))) >>> (32 - SEEN_BITS)
        const mask = 1 << (bit & 31)
        if ((seen[bit >>> 5]! & mask) !== 0) break
        seen[bit >>> 5]! |= mask
        if (++counted.names > jsonNames) throw tooMany("names", what, counted.names, jsonNames)
        break
      }
      case OPEN_BRACKET:
      case OPEN_BRACE:
        if (++level > levels) throw new LimitExceededError(`Nesting of ${what}`, level, jsonDepth, "levels")
        orders[level] = 0
        // the first value in it; each other one comes after a comma
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

const tooMany = (unit: "names" | "values", what: string, size: number, limit: number): LimitExceededError =>
  new LimitExceededError(
    `The number of ${unit === "names" ? "different names" : unit} in ${what}`,
    size,
    limit,
    unit
  )

const hashOf = (text: string, begin: number, end: number, from: number): number => {
  let hash = from ^ 0x811c9dc5
  for (let at = begin; at < end; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return hash
}

const mixed = (hash: number): number => {
  const half = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b)
  return Math.imul(half ^ (half >>> 13), 0xc2b2ae35)
}

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
