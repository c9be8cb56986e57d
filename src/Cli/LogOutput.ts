/**
 * Where the log lines of commands go, and their format. They go to standard error, so that standard output holds only
 * the result. When the reader of standard error is gone or slow, or the disk is full, the command does not wait: lines
 * are dropped, and the next written line says how many.
 */
import { fstatSync, writeSync } from "node:fs"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Flag from "effect/cli/Flag"
import { readEnvironmentVariable } from "../EnvironmentVariables.ts"
import { lineLevels, type LineLevel } from "../LogFields.ts"
import { formatRecord, type LogFormat, logFormats } from "../LogFormat.ts"
import { formatFromEnvironment, levelFromEnvironment, type Logger, type LogLevel } from "../Logger.ts"
import { layerLogger } from "../Promise/EngineLogs.ts"

/** The flags of commands that log. */
export const logFlags = {
  logFormat: Flag.Literals("log-format", logFormats).pipe(
    Flag.withMetavar("FORMAT"),
    Flag.withDescription(
      "Log lines for people (pretty) or for programs (json, logfmt); by default IRONFLOW_LOG_FORMAT, else pretty"
    ),
    Flag.optional
  ),
  logLevel: Flag.Literals("log-level", [...lineLevels, "silent"] as const).pipe(
    Flag.withMetavar("LEVEL"),
    Flag.withDescription("The lowest level that is logged; by default IRONFLOW_LOG_LEVEL, else info"),
    Flag.optional
  )
}

export interface LogChoice {
  readonly format: LogFormat
  readonly level: LogLevel
}

/**
 * The format and level that the flags name, or else the environment variables. When neither names a level, the level is
 * `level`.
 */
export const logChoice = (
  flags: { readonly logFormat: Option.Option<LogFormat>; readonly logLevel: Option.Option<LogLevel> },
  level: LogLevel = "info"
): LogChoice => ({
  format: Option.getOrElse(flags.logFormat, () => formatFromEnvironment()),
  level: Option.getOrElse(flags.logLevel, () =>
    readEnvironmentVariable("IRONFLOW_LOG_LEVEL") === undefined ? level : levelFromEnvironment()
  )
})

/** The environment variables with which a child process logs in the same way. */
export const environmentFor = ({ format, level }: LogChoice): { readonly [name: string]: string } => ({
  IRONFLOW_LOG_FORMAT: format,
  IRONFLOW_LOG_LEVEL: level
})

/** A logger that writes to standard error. */
export const stderrLogger = ({ format, level }: LogChoice, sink: LineSink = standardError()): Logger => {
  const lowestIndex = level === "silent" ? lineLevels.length : lineLevels.indexOf(level)
  const lineAt = (lineLevel: LineLevel): Logger[LineLevel] =>
    lineLevels.indexOf(lineLevel) < lowestIndex
      ? () => undefined
      : (message, data, fields) => {
          // code without a fiber may call a logger too: the time then comes from the machine's clock
          const at = Effect.runSync(Clock.currentTimeMillis)
          sink.write((dropped) =>
            dropped === 0
              ? formatRecord(format, { at, level: lineLevel, message, fields, data })
              : `${formatRecord(format, { at, level: "warn", message: missingText(dropped), fields: { missing: dropped } })}\n` +
                formatRecord(format, { at, level: lineLevel, message, fields, data })
          )
        }
  return { debug: lineAt("debug"), info: lineAt("info"), warn: lineAt("warn"), error: lineAt("error") }
}

/** Sends the log lines of Effects to standard error. */
export const layerStderr = (choice: LogChoice): Layer.Layer<never> => layerLogger(stderrLogger(choice))

const missingText = (lines: number): string =>
  lines === 1
    ? "1 log line is missing here: it could not be written"
    : `${lines} log lines are missing here: they could not be written`

/**
 * A destination that may drop lines. `line` makes the text of a line. It gets the number of lines that were dropped
 * since the last written line.
 */
export interface LineSink {
  readonly write: (line: (dropped: number) => string) => void
}

/** Maximum number of characters that may wait for the reader of standard error. */
const MAX_BUFFERED_CHARS = 1024 * 1024

/**
 * A destination that counts the dropped lines. `write` returns whether the file, pipe or terminal took the
 * text.
 */
export const countingSink = (write: (text: string) => boolean): LineSink => {
  let dropped = 0
  return {
    write: (line) => {
      if (write(`${line(dropped)}\n`)) dropped = 0
      else dropped++
    }
  }
}

const standardError = (): LineSink => {
  const { stderr } = process
  return countingSink(
    isFile(stderr.fd)
      ? // written directly: a stream closes for good at the first line that a full disk refuses
        (text) => {
          try {
            return writeSync(stderr.fd, text) > 0
          } catch {
            return false
          }
        }
      : (text) => {
          if (stderr.destroyed || stderr.writableLength > MAX_BUFFERED_CHARS) return false
          stderr.write(text)
          return true
        }
  )
}

const isFile = (fd: number): boolean => {
  try {
    return fstatSync(fd).isFile()
  } catch {
    // standard error is closed: the stream drops lines without an error
    return false
  }
}
