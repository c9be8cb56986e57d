/** Errors of runs and steps for people: what failed, in which step, and where in the user's code. */
import path from "node:path"
import { fileURLToPath } from "node:url"
import { isUserFrame } from "../CallSite.ts"
import { describeError, type ReportedError, thrownError } from "../DescribeError.ts"
import { oneLine } from "./Output.ts"

/** The length at which a message is cut. */
const MAX_MESSAGE_CHARS = 1000
/** Maximum number of lines of user code that are shown for each error. */
const MAX_FRAMES = 4
/** Maximum number of errors whose places are shown: the error itself, its cause, and so on. */
const MAX_ERRORS = 3

/** The error on one line: `step "charge" failed: TypeError: fetch failed`. */
export const errorLine = (error: ReportedError, max = MAX_MESSAGE_CHARS): string =>
  oneLine(describeError(error), max)

/** Like {@link errorLine}, but without the step: for output that names the step itself. */
export const thrownLine = (error: ReportedError, max = MAX_MESSAGE_CHARS): string =>
  errorLine(thrownError(error), max)

/**
 * The places of the error in the user's code as lines, followed by its causes with their places. Empty when
 * neither places nor causes are known.
 */
export const placeLines = (error: ReportedError, cwd = process.cwd()): Array<string> => {
  const lines: Array<string> = []
  let current: ReportedError | undefined = error
  for (let depth = 0; current !== undefined && depth < MAX_ERRORS; depth++) {
    if (depth > 0) lines.push(`caused by ${errorLine(current)}`)
    const thrown = thrownError(current)
    const frames = userFrames(thrown, cwd).filter((frame) => !lines.includes(frame))
    lines.push(...frames.slice(0, MAX_FRAMES))
    current = thrown.cause
  }
  return lines
}

/**
 * The lines of the error's own stack that are user code. In clients, the stack ends with the stacks of the causes.
 * These stacks are left out, since {@link placeLines} shows them with the causes.
 */
const userFrames = ({ cause, stack = "" }: ReportedError, cwd: string): Array<string> => {
  const causes = cause?.stack === undefined ? "" : `\nCaused by: ${cause.stack}`
  const ownStack = causes !== "" && stack.endsWith(causes) ? stack.slice(0, -causes.length) : stack
  return ownStack
    .split("\n")
    .filter(isUserFrame)
    .map((line) => oneLine(shorten(line, cwd)))
}

/** Makes the path of a file relative to the working folder, if the file is in or below that folder. */
const shorten = (frame: string, cwd: string): string =>
  frame.replace(/(?:file:\/\/)?(\/[^\s():]+)/, (whole, file: string) => {
    const name = whole.startsWith("file:") ? fileURLToPath(whole) : file
    const relative = path.relative(cwd, name)
    return relative.startsWith("..") ? name : relative
  })
