/** Durations: a number of milliseconds, or a string such as `"30s"`, `"1.5h"`, `"7d"`. */
import { ValidationError } from "./Errors.ts"
import { show } from "./Show.ts"

/** Milliseconds, or a string of a number and a unit: `ms`, `s`, `m`, `h` or `d`. */
export type Duration = string | number

/** The longest delay of a timer, in milliseconds. With a longer delay, a timer fires at once. */
export const longestTimerMs = 2 ** 31 - 1

const units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

const grammar = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/

const formatAdvice = 'digits and one unit of ms, s, m, h, d without spaces, like "500ms", "1.5s", "7d"'

/** What the user should write instead. The advice also holds on a command line, where everything is a string. */
const advice = (duration: unknown): string => {
  if (typeof duration !== "string") return `write milliseconds as a number, or ${formatAdvice}`
  return /^[1-9]\d{0,14}$/.test(duration)
    ? `write the unit too, as in "${duration}ms", one of ms, s, m, h, d`
    : `write ${formatAdvice}`
}

/**
 * Converts a duration to milliseconds. A string is rounded down, and a number is returned as it is, unchecked.
 * Throws `ValidationError` for a string that is not a duration.
 */
export const parseDuration = (duration: Duration): number => {
  if (typeof duration === "number") return duration
  const match = typeof duration === "string" ? grammar.exec(duration) : null
  const ms = match === null ? Number.NaN : Number(match[1]) * units[match[2] as keyof typeof units]
  if (!Number.isFinite(ms))
    throw new ValidationError(`Invalid duration ${show(duration)}: ${advice(duration)}`)
  // rounded to the nanosecond first: in floating point, 1.001s is 1000.9999999999999
  return Math.floor(Math.round(ms * 1e6) / 1e6)
}

/**
 * Converts a duration that must be positive and finite to milliseconds. Throws `ValidationError` for any other
 * duration; `what` names the duration in the message (`timeout of step "charge"`). `alsoWrite` ends the message about a
 * string in a wrong form, and says in which further ways the duration may be written.
 */
export const positiveDuration = (duration: Duration, what: string, alsoWrite = ""): number => {
  const ms = typeof duration === "number" ? duration : parseNamed(duration, what, alsoWrite)
  if (Number.isFinite(ms) && ms > 0) return ms
  throw new ValidationError(`Invalid ${what}: ${show(duration)} is not a positive, finite duration`)
}

const parseNamed = (duration: string, what: string, alsoWrite: string): number => {
  try {
    return parseDuration(duration)
  } catch {
    // thrown again with the name of the option
    throw new ValidationError(
      `Invalid ${what}: ${show(duration)} is not a duration; ${advice(duration)}${alsoWrite}`
    )
  }
}

/** Formats milliseconds in their largest unit, truncated: 5400000 is `"1h"`, 1500 is `"1s"`, 500 is `"500ms"`. */
export const formatDuration = (ms: number): string => {
  if (ms >= units.d) return `${Math.floor(ms / units.d)}d`
  if (ms >= units.h) return `${Math.floor(ms / units.h)}h`
  if (ms >= units.m) return `${Math.floor(ms / units.m)}m`
  if (ms >= units.s) return `${Math.floor(ms / units.s)}s`
  return `${Math.floor(ms)}ms`
}

/** Formats milliseconds in the largest unit that is exact: 90000 is `"90s"`, 5400000 is `"90m"`, 1500 is `"1500ms"`. */
export const formatExactDuration = (ms: number): string => {
  const [unit, length] = Object.entries(units)
    .toSorted(([, a], [, b]) => b - a)
    .find(([, length]) => ms >= length && ms % length === 0) ?? ["ms", 1]
  return `${Math.round(ms / length)}${unit}`
}
