/** The groups in which runs are counted: buckets of time, and messages of errors without their numbers and ids. */

const sizes: { readonly [by: string]: number } = { minute: 60_000, hour: 3_600_000, day: 86_400_000 }

/**
 * The length of the time buckets when runs are grouped by `by`, in milliseconds; `undefined` when `by` is not a time.
 */
export const bucketSizeOf = (by: string): number | undefined => sizes[by]

/** The parts that differ between errors of one kind: words with digits, except HTTP statuses 4xx and 5xx. */
const VARIABLE = /(?<![\w-])(?![45]\d\d(?![\w-]))[\w-]*\d[\w-]*/g
const GROUP_LENGTH = 200

/** The group of an error message. Messages that differ only in numbers and ids are in one group. */
export const errorGroup = (message: string): string | undefined => {
  const group = message
    .slice(0, 2 * GROUP_LENGTH)
    .replace(VARIABLE, "…")
    .replace(/\s+/g, " ")
    .trim()
  return group === "" ? undefined : group.slice(0, GROUP_LENGTH)
}

/** The message in a stored error. `stored` is JSON text, which may be cut off. */
export const messageIn = (stored: string): string => {
  const [, text] = /"message":"((?:[^"\\]|\\.)*)/.exec(stored) ?? []
  if (text === undefined) return stored
  try {
    return String(JSON.parse(`"${text}"`))
  } catch {
    // the text was cut off within an escape sequence
    return text
  }
}
