/** Log lines as text: for people, and in two forms for programs. A line is one line, whatever is logged. */
import { serializeError, StoreError } from "./Errors.ts"
import type { LineLevel, LogFields } from "./LogFields.ts"

/** `pretty` is for people; `json` has an object a line, `logfmt` pairs of names and values. */
export const logFormats = ["pretty", "json", "logfmt"] as const
/** How lines are written. */
export type LogFormat = (typeof logFormats)[number]

export interface LogRecord {
  /** Epoch milliseconds. */
  readonly at: number
  readonly level: LineLevel
  readonly message: string
  readonly fields?: LogFields | undefined
  readonly data?: unknown
}

/** Characters of one line; what is longer is cut. */
const LINE_LENGTH = 64 * 1024

/** The line, without its end. */
export const formatRecord = (format: LogFormat, { at, data, fields, level, message }: LogRecord): string => {
  const time = new Date(at).toISOString()
  if (format === "json") {
    const head = JSON.stringify({ time, level, message: cut(message) })
    const rest = fields === undefined ? "" : members(fields)
    const text = data === undefined ? "" : `,"data":${within(dataText(data))}`
    return `${head.slice(0, -1)}${rest}${text}}`
  }
  const pairs = Object.entries(fields ?? {})
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${word(name)}=${quoted(textOf(value))}`)
    .join("")
  if (format === "logfmt") {
    const text = data === undefined ? "" : ` data=${quoted(cut(dataText(data)))}`
    return `time=${time} level=${level} message=${quoted(cut(message))}${pairs}${text}`
  }
  const text = data === undefined ? "" : ` ${cut(dataText(data))}`
  return `${time} ${level.toUpperCase().padEnd(5)} ${oneLine(cut(message))}${pairs}${oneLine(text)}`
}

/** A line must come out whatever is logged, so data that JSON cannot carry is shown as text. */
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
    // A cycle, or a getter that throws: the message was said, the data has no text.
    return NO_TEXT
  }
}

/** Whether the database is out of reach or closed, which no place in the code has to do with. */
export const isOutage = (error: Error): boolean =>
  error instanceof StoreError && error.code === "STORE_UNAVAILABLE"

/** Stands for data that has no text. */
export const NO_TEXT = "[data that cannot be shown as JSON]"

const taken: ReadonlySet<string> = new Set(["time", "level", "message", "data"])

const members = (fields: LogFields): string =>
  Object.entries(fields)
    .filter(([name, value]) => value !== undefined && !taken.has(name))
    .map(([name, value]) => `,${JSON.stringify(name)}:${within(dataText(value))}`)
    .join("")

/** JSON text as the value of a member: cut to what a line may have, as the text that is left of it. */
const within = (json: string): string =>
  json === NO_TEXT || json.length > LINE_LENGTH ? JSON.stringify(cut(json)) : json

const cut = (text: string): string => (text.length > LINE_LENGTH ? `${text.slice(0, LINE_LENGTH)}…` : text)

const textOf = (value: unknown): string => cut(typeof value === "string" ? value : dataText(value))

const word = (name: string): string => name.replace(/[\s="]/g, "_")

const quoted = (text: string): string =>
  /^[^\s="\\\p{Cc}]+$/u.test(text) ? text : JSON.stringify(text).replace(/\p{Cc}/gu, escaped)

/** What would end the line, or speak to the terminal. */
const oneLine = (text: string): string => text.replace(/\p{Cc}/gu, escaped)

const escaped = (control: string): string =>
  control === "\n" ? "\\n" : `\\u${control.charCodeAt(0).toString(16).padStart(4, "0")}`
