/** What runs that are counted have in common, as it is told. */

const sizes: { readonly [by: string]: number } = { minute: 60_000, hour: 3_600_000, day: 86_400_000 }

/** How long the times are by which runs are counted, milliseconds; `undefined` for what is no time. */
export const sizeOf = (by: string): number | undefined => sizes[by]

/** What differs between errors of one kind: words with digits in them, but for the status of an HTTP answer. */
const VARIABLE = /(?<![\w-])(?![45]\d\d(?![\w-]))[\w-]*\d[\w-]*/g
const GROUP_LENGTH = 200

/** The errors that are told apart by their messages only in numbers and ids are one. */
export const errorGroup = (message: string): string | undefined => {
  const group = message
    .slice(0, 2 * GROUP_LENGTH)
    .replace(VARIABLE, "…")
    .replace(/\s+/g, " ")
    .trim()
  return group === "" ? undefined : group.slice(0, GROUP_LENGTH)
}

/** The message in the beginning of a stored error. */
export const messageIn = (stored: string): string => {
  const [, text] = /"message":"((?:[^"\\]|\\.)*)/.exec(stored) ?? []
  if (text === undefined) return stored
  try {
    return String(JSON.parse(`"${text}"`))
  } catch {
    // it ends in the middle of a character
    return text
  }
}
