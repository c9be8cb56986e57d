/** Formats values from outside for our messages. The text is short, and formatting never fails. */

/** The text with a lower case letter at its beginning, for the middle of a sentence. */
export const inSentence = (text: string): string => `${text.charAt(0).toLowerCase()}${text.slice(1)}`

/** The text with a capital letter at its beginning, for the beginning of a sentence. */
export const capital = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}`

/** How many levels of nested objects and lists are shown, at most. */
const LEVELS = 3

/**
 * The value in a form like JSON, cut to about `maxLength` characters and three levels. A `toString` or `toJSON` of the
 * value is not called.
 */
export const show = (value: unknown, maxLength = 128): string => {
  try {
    const text = format(value, maxLength, LEVELS)
    // a string that was cut already has got quotes and dots since, so it may be a few characters longer
    return text.length > maxLength + 8 ? `${text.slice(0, maxLength)}...` : text
  } catch {
    // a getter or a proxy has thrown
    return "a value that cannot be shown"
  }
}

const format = (value: unknown, charsLeft: number, levels: number): string => {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value.length > charsLeft ? `${value.slice(0, charsLeft)}...` : value)
    case "function":
      return "a function"
    case "bigint":
      return `${value}n`
    case "object":
      break
    default:
      return String(value)
  }
  if (value === null) return "null"
  if (value instanceof Error) return format(value.message, charsLeft, levels)
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString()
  if (Array.isArray(value)) return levels === 0 ? "[...]" : `[${items(value, charsLeft, levels)}]`
  return levels === 0 ? "{...}" : `{${members(value, charsLeft, levels)}}`
}

const items = (list: ReadonlyArray<unknown>, charsLeft: number, levels: number): string => {
  let text = ""
  for (let i = 0; i < list.length; i++) {
    if (text.length >= charsLeft) return `${text},...`
    text += `${i === 0 ? "" : ","}${format(list[i], charsLeft - text.length, levels - 1)}`
  }
  return text
}

const members = (object: object, charsLeft: number, levels: number): string => {
  let text = ""
  for (const key in object) {
    if (!Object.hasOwn(object, key)) continue
    if (text.length >= charsLeft) return `${text},...`
    // only read: any object can be read as one with string keys
    const member = (object as { readonly [key: string]: unknown })[key]
    text += `${text === "" ? "" : ","}${format(key, charsLeft, 0)}:${format(member, charsLeft - text.length, levels - 1)}`
  }
  return text
}

/**
 * A time in milliseconds for messages: a whole number, or at most two decimals below 10 ms. Computed times, such as a
 * third of a lease, need not be whole.
 */
export const showMs = (ms: number): string => `${Number(ms.toFixed(ms < 10 ? 2 : 0))}ms`
