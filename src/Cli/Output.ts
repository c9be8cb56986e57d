/** The output of commands: lines and tables for people, JSON for programs. */
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { formatDuration } from "../Duration.ts"
import { ironflow } from "./Ironflow.ts"

/** With `--json`, prints `value` as one line of JSON; otherwise prints the text. */
export const print = (value: unknown, text: () => string) =>
  Effect.flatMap(ironflow, ({ json }) => Console.log(json ? toJson(value) : text()))

/**
 * The value as JSON. Errors in the value, such as those in the output of a run, become objects with name, message and
 * code.
 */
export const toJson = (value: unknown): string =>
  JSON.stringify(value, function (this: { readonly [key: string]: unknown }, key, member: unknown) {
    const original = this[key]
    return original instanceof Error ? errorMembers(original) : member
  })

const errorMembers = ({ code, message, name }: Error & { readonly code?: unknown }) => ({
  name,
  message,
  ...(typeof code === "string" ? { code } : {})
})

/** A table with headings, whose columns are as wide as their contents. */
export const table = (
  headings: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>
): string => {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0))
  )
  const line = (cells: ReadonlyArray<string>) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd()
  return [headings, ...rows].map(line).join("\n")
}

/**
 * Names with their values, one name per line. The other lines of a value are indented below its first line. Names
 * without a value are left out.
 */
export const fields = (values: { readonly [name: string]: string | undefined }): string => {
  const givenValues = Object.entries(values).filter(
    (entry): entry is [string, string] => entry[1] !== undefined
  )
  const width = Math.max(...givenValues.map(([name]) => name.length))
  const indent = " ".repeat(width + 2)
  return givenValues
    .map(([name, value]) => `${name.padEnd(width)}  ${value.replaceAll("\n", `\n${indent}`)}`)
    .join("\n")
}

/** Text on one line without terminal control characters, cut at `max` characters. */
export const oneLine = (text: string, max = Number.POSITIVE_INFINITY): string => {
  const line = text.replace(/\s*[\p{Cc}\p{Zl}\p{Zp}]+\s*/gu, " ").trim()
  return line.length <= max ? line : `${line.slice(0, max - 1)}…`
}

/** A value as JSON on one line, cut at `max` characters; empty for `undefined`. */
export const jsonLine = (value: unknown, max = 80): string =>
  value === undefined ? "" : oneLine(toJson(value), max)

/** A duration for people: `12ms`, `1.2s`, `5m`. */
export const durationText = (ms: number): string =>
  ms >= 1000 && ms < 60_000 ? `${(ms / 1000).toFixed(1)}s` : formatDuration(Math.max(0, ms))

/**
 * The duration between two ISO times. Without the second time, the duration up to `now`, which is in epoch
 * milliseconds.
 */
export const durationBetween = (from: string | undefined, to: string | undefined, now?: number): string => {
  const end = to === undefined ? now : Date.parse(to)
  return from === undefined || end === undefined ? "" : durationText(end - Date.parse(from))
}
