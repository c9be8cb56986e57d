/** Sizes: a number of bytes, or a string such as `"256MiB"`, `"1.5GB"`. */
import { ValidationError } from "./Errors.ts"
import { show } from "./Show.ts"

/**
 * Bytes, or a string of a number and a unit: `B`; `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024); `KB`, `MB`, `GB`, `TB`
 * (powers of 1000).
 */
export type Size = string | number

const units = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40
} as const

const grammar = /^(\d+(?:\.\d+)?)(B|[KMGT]i?B)$/

const formatAdvice =
  'digits and one unit of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB without spaces, like "512MiB", "1.5GB"'

/** What the user should write instead. The advice also holds on a command line, where everything is a string. */
const advice = (size: unknown): string => {
  if (typeof size !== "string") return `write bytes as a number, or ${formatAdvice}`
  return /^[1-9]\d{0,14}$/.test(size)
    ? `write the unit too, as in "${size}B", one of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB`
    : `write ${formatAdvice}`
}

/**
 * Converts a size that must be positive to bytes. A string is rounded down, and a number must be an integer.
 * Throws `ValidationError`, in which `what` names the size.
 */
export const positiveBytes = (size: Size, what: string): number => {
  const match = typeof size === "string" ? grammar.exec(size) : null
  const bytes =
    typeof size === "number"
      ? size
      : match === null
        ? Number.NaN
        : Math.floor(Number(match[1]) * units[match[2] as keyof typeof units])
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes
  throw new ValidationError(
    typeof size !== "number" && match === null
      ? `${what} must be a positive number of bytes, got ${show(size)}: ${advice(size)}`
      : `${what} must be an integer from 1 to ${Number.MAX_SAFE_INTEGER}, in bytes, got ${show(size)}`
  )
}

/** Formats a size for people: `1.5 MiB`. */
export const formatSize = (bytes: number): string => {
  const names = ["bytes", "KiB", "MiB", "GiB", "TiB"] as const
  const power = Math.min(names.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10))
  return power === 0 ? `${bytes} bytes` : `${(bytes / 2 ** (10 * power)).toFixed(1)} ${names[power]}`
}
