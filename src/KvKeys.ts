/** Checks KV keys, revisions and the names of buckets, and compiles filters of KV keys. */
import { LimitExceededError, ValidationError } from "./Errors.ts"
import { keyLength, nameLength } from "./Limits.ts"
import { show } from "./Show.ts"

/** Returns the name, if a bucket can have it. Throws `ValidationError`. */
export const checkBucketName = (name: unknown): string => {
  if (typeof name === "string" && name.length <= nameLength && /^[A-Za-z0-9][A-Za-z0-9_.:-]*$/.test(name))
    return name
  throw new ValidationError(
    `${show(name)} cannot be the name of a bucket: use at most ${nameLength} letters, digits, "_", "-", "." and ":", and begin with a letter or digit`
  )
}

/** Returns the KV key, if it is valid. Throws `ValidationError` or `LimitExceededError`. */
export const checkKey = (key: unknown): string => {
  if (typeof key !== "string") throw new ValidationError(`A key must be a string, got ${show(key)}`)
  if (key.length > keyLength) {
    throw new LimitExceededError(`The key "${key.slice(0, 32)}..."`, key.length, keyLength, "characters")
  }
  const problem =
    key.trim() === ""
      ? "it is blank"
      : key === "." || key === ".."
        ? "it has a special meaning in paths"
        : /[\p{Cc}\p{Cs}]/u.test(key)
          ? "it contains control characters or broken Unicode"
          : undefined
  if (problem !== undefined) throw new ValidationError(`${show(key)} cannot be a key: ${problem}`)
  return key
}

/** Returns the revision, if it is valid. Throws `ValidationError`. */
export const checkRevision = (revision: unknown, least: 0 | 1 = 1): number => {
  if (typeof revision === "number" && Number.isSafeInteger(revision) && revision >= least) return revision
  throw new ValidationError(
    `A revision must be an integer, at least ${least}, got ${show(revision)}` +
      (revision === 0 ? ". 0 stands for a key that does not exist: `create` writes such a key" : "")
  )
}

/**
 * Compiles a filter of KV keys. A filter has tokens separated by dots: `*` matches any characters within a token, and
 * `>` as the last token matches one or more tokens. An absent or empty filter matches all keys. Throws
 * `ValidationError`.
 */
export const compileFilter = (filter: unknown): ((key: string) => boolean) => {
  if (filter === undefined || filter === "" || filter === ">") return () => true
  if (typeof filter !== "string" || filter.length > keyLength) {
    throw new ValidationError(
      `A filter of keys must be a string of at most ${keyLength} characters, got ${show(filter)}`
    )
  }
  if (!/[*>]/.test(filter)) return (key) => key === filter
  const tokens = filter.split(".")
  const isOpenEnded = tokens.at(-1) === ">"
  if (isOpenEnded) tokens.pop()
  return (key) => {
    const parts = key.split(".")
    if (isOpenEnded ? parts.length <= tokens.length : parts.length !== tokens.length) return false
    return tokens.every((token, i) => fits(token, parts[i] ?? ""))
  }
}

/** Whether the text matches a token, in which `*` stands for any characters. Takes at most quadratic time. */
const fits = (token: string, text: string): boolean => {
  let tokenIndex = 0
  let textIndex = 0
  let star = -1
  let resumeIndex = 0
  while (textIndex < text.length) {
    if (token[tokenIndex] === "*") {
      star = tokenIndex++
      resumeIndex = textIndex
    } else if (token[tokenIndex] === text[textIndex]) {
      tokenIndex++
      textIndex++
    } else if (star >= 0) {
      tokenIndex = star + 1
      textIndex = ++resumeIndex
    } else return false
  }
  while (token[tokenIndex] === "*") tokenIndex++
  return tokenIndex === token.length
}
