/** Errors of runs and steps as people read them: what failed, in which step, and where in their own code. */
import path from "node:path"
import { fileURLToPath } from "node:url"
import { isUserFrame } from "../CallSite.ts"
import { tell, thrownBy, type ToldError } from "../ToldError.ts"
import { oneLine } from "./Output.ts"

/** The longest text of a message. */
const MESSAGE = 1000
/** Lines of the user's code that are shown of one error. */
const FRAMES = 4
/** Errors of a chain of causes that are shown. */
const CAUSES = 3

/** The error in one line: `step "charge" failed: TypeError: fetch failed`. */
export const errorLine = (error: ToldError, max = MESSAGE): string => oneLine(tell(error), max)

/** What {@link errorLine} says without the step, for those who have named it. */
export const thrownLine = (error: ToldError, max = MESSAGE): string => errorLine(thrownBy(error), max)

/** The lines of the user's own code that lead to the error, and its causes with theirs; none when nothing is known. */
export const placeLines = (error: ToldError, cwd = process.cwd()): Array<string> => {
  const lines: Array<string> = []
  let one: ToldError | undefined = error
  for (let depth = 0; one !== undefined && depth < CAUSES; depth++) {
    if (depth > 0) lines.push(`caused by ${errorLine(one)}`)
    const thrown = thrownBy(one)
    const frames = userFrames(thrown, cwd).filter((frame) => !lines.includes(frame))
    lines.push(...frames.slice(0, FRAMES))
    one = thrown.cause
  }
  return lines
}

/** The lines of the error's own stack. Clients get it with those of its causes below it, which are told with the causes. */
const userFrames = ({ cause, stack = "" }: ToldError, cwd: string): Array<string> => {
  const causes = cause?.stack === undefined ? "" : `\nCaused by: ${cause.stack}`
  const ownStack = causes !== "" && stack.endsWith(causes) ? stack.slice(0, -causes.length) : stack
  return ownStack
    .split("\n")
    .filter(isUserFrame)
    .map((line) => oneLine(shorten(line, cwd)))
}

/** Files under the working folder are named from there. */
const shorten = (frame: string, cwd: string): string =>
  frame.replace(/(?:file:\/\/)?(\/[^\s():]+)/, (whole, file: string) => {
    const name = whole.startsWith("file:") ? fileURLToPath(whole) : file
    const relative = path.relative(cwd, name)
    return relative.startsWith("..") ? name : relative
  })
