/**
 * Formats log lines: in one format for people, and two for programs. Each record becomes exactly one line.
 */
import { IronflowError, serializeError, StoreError } from "./Errors.ts"
import type { LineLevel, LogFields } from "./LogFields.ts"

/** `pretty` is for people. `json` writes an object on each line, and `logfmt` writes `name=value` pairs. */
export const logFormats = ["pretty", "json", "logfmt"] as const
/** Format of log lines. */
export type LogFormat = (typeof logFormats)[number]

export interface LogRecord {
  /** The time of the record, in epoch milliseconds. */
  readonly at: number
  readonly level: LineLevel
  readonly message: string
  readonly fields?: LogFields | undefined
  readonly data?: unknown
}

/** Maximum length of the message, of the data and of each field, in characters; a longer one is cut. */
const PART_LENGTH = 64 * 1024

/** The line, without a line break. */
export const formatRecord = (format: LogFormat, { at, data, fields, level, message }: LogRecord): string => {
  const time = new Date(at).toISOString()
  if (format === "json") {
    const head = JSON.stringify({ time, level, message: cut(message) })
    const fieldMembers = fields === undefined ? "" : members(fields)
    const dataMember = data === undefined ? "" : `,"data":${memberValue(dataText(data))}`
    return `${head.slice(0, -1)}${fieldMembers}${dataMember}}`
  }
  const pairs = Object.entries(fields ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${fieldName(name)}=${quote(textOf(value))}`)
    .join("")
  if (format === "logfmt") {
    const text = data === undefined ? "" : ` data=${quote(cut(dataText(data)))}`
    return `time=${time} level=${level} message=${quote(cut(message))}${pairs}${text}`
  }
  const text = data === undefined ? "" : ` ${cut(dataText(data))}`
  return `${time} ${level.toUpperCase().padEnd(5)} ${oneLine(cut(message))}${pairs}${oneLine(text)}`
}

/** Data as JSON. Data that JSON cannot encode becomes {@link NO_TEXT}: the line must be written all the same. */
export const dataText = (data: unknown): string => {
  try {
    const json = JSON.stringify(data, (_key, value: unknown) =>
      value instanceof Error
        ? serializeError(value, { stack: !isOutage(value) })
        : typeof value === "bigint"
          ? `${value}n`
          : value
    ) as string | undefined
    return json ?? JSON.stringify(String(data))
  } catch {
    // a cycle, or a getter that throws: the message is written without the data
    return NO_TEXT
  }
}

/**
 * Whether the error, or its cause, says that the database cannot be reached or is closed. Its stack is left out of the
 * log, since the reason is not in the code.
 */
export const isOutage = (error: Error): boolean =>
  error instanceof StoreError
    ? error.code === "STORE_UNAVAILABLE"
    : error instanceof IronflowError && error.cause instanceof StoreError && isOutage(error.cause)

/** What is written in place of data that cannot be encoded. */
export const NO_TEXT = "[data that cannot be shown as JSON]"

/** Members of a JSON line that a field of the same name must not replace. */
const reservedNames: ReadonlySet<string> = new Set(["time", "level", "message", "data"])

const members = (fields: LogFields): string =>
  Object.entries(fields)
    .filter(([name, value]) => value !== undefined && !reservedNames.has(name))
    .map(([name, value]) => `,${JSON.stringify(name)}:${memberValue(dataText(value))}`)
    .join("")

/** JSON as the value of a member. JSON that is too long is cut, and becomes a string. */
const memberValue = (json: string): string =>
  json === NO_TEXT || json.length > PART_LENGTH ? JSON.stringify(cut(json)) : json

const cut = (text: string): string => (text.length > PART_LENGTH ? `${text.slice(0, PART_LENGTH)}…` : text)

const textOf = (value: unknown): string => cut(typeof value === "string" ? value : dataText(value))

const fieldName = (name: string): string => name.replace(/[\s="]/g, "_")

const quote = (text: string): string =>
  /^[^\s="\\\p{Cc}]+$/u.test(text) ? text : JSON.stringify(text).replace(/\p{Cc}/gu, escape)

/** Escapes line breaks and control characters. */
const oneLine = (text: string): string => text.replace(/\p{Cc}/gu, escape)

const escape = (control: string): string =>
  control === "\n" ? "\\n" : `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`
