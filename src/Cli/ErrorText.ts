/** Errors of runs and steps as people read them: what failed, in which step, and where in their own code. */
import path from "node:path"
import { fileURLToPath } from "node:url"
import { messageOf } from "../Errors.ts"
import { isObject } from "../Json.ts"
import { oneLine } from "./Output.ts"

/** An error as it is stored, or as clients get it. */
export interface ToldError {
  readonly message: string
  readonly name?: string
  readonly code?: string
  readonly stack?: string
  readonly data?: { readonly [key: string]: unknown }
  readonly details?: unknown
  readonly cause?: ToldError
}

/** The longest text of a message. */
const MESSAGE = 1000
/** Lines of the user's code that are shown of one error. */
const FRAMES = 4
/** Errors of a chain of causes that are shown. */
const CAUSES = 3

/** The error in one line: `step "charge" failed: TypeError: fetch failed`. */
export const errorLine = (error: ToldError, max = MESSAGE): string => {
  const step = stepOf(error)
  const { message, name = "Error", data = {} } = thrownBy(error)
  const text = messageOf({ message, name, data })
  const isNamed = name === "Error" || text.startsWith(name)
  return oneLine(
    `${step === undefined ? "" : `step "${step}" failed: `}${isNamed ? text : `${name}: ${text}`}`,
    max
  )
}

/** What {@link errorLine} says without the step, for those who have named it. */
export const thrownLine = (error: ToldError, max = MESSAGE): string => errorLine(thrownBy(error), max)

/** The lines of the user's own code that lead to the error, and its causes with theirs; none when nothing is known. */
export const placeLines = (error: ToldError, cwd = process.cwd()): Array<string> => {
  const lines: Array<string> = []
  let one: ToldError | undefined = thrownBy(error)
  for (let depth = 0; one !== undefined && depth < CAUSES; depth++, one = one.cause) {
    if (depth > 0) lines.push(`caused by ${thrownLine(one)}`)
    const frames = userFrames(one.stack ?? "", cwd).filter((frame) => !lines.includes(frame))
    lines.push(...frames.slice(0, FRAMES))
  }
  return lines
}

/** The step whose failure the error tells. */
const stepOf = ({ data, details, name }: ToldError): string | undefined => {
  if (name !== "StepError") return undefined
  const step = isObject(details) ? details.stepName : data?.["stepName"]
  return typeof step === "string" ? step : undefined
}

/** What the step threw: the error around it says nothing more. */
const thrownBy = (error: ToldError): ToldError =>
  stepOf(error) !== undefined && error.cause !== undefined ? error.cause : error

/** The folder with the code of this package. */
const own = import.meta.url.replace(/(\/cli)?\/[^/]*$/i, "/")

const isInternal = (frame: string): boolean =>
  frame.includes("node:") ||
  frame.includes("<anonymous>)") ||
  frame.includes(own) ||
  frame.includes(fileURLToPath(own)) ||
  /[/\\]node_modules[/\\]/.test(frame)

const userFrames = (stack: string, cwd: string): Array<string> =>
  stack
    .split("\n")
    .filter((line) => /^\s+at /.test(line) && !isInternal(line))
    .map((line) => oneLine(shorten(line, cwd)))

/** Files under the working folder are named from there. */
const shorten = (frame: string, cwd: string): string =>
  frame.replace(/(?:file:\/\/)?(\/[^\s():]+)/, (whole, file: string) => {
    const name = whole.startsWith("file:") ? fileURLToPath(whole) : file
    const relative = path.relative(cwd, name)
    return relative.startsWith("..") ? name : relative
  })
