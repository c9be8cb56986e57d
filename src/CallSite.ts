/** Finds where in the user's code something was called, as a line of a stack trace. */
import type { StepKind } from "./StepKind.ts"

/**
 * The key under which the call site is passed to the steps of an Effect handler. The user's code is on the
 * stack while an effect is made, and no longer while it runs.
 */
export const calledFrom: unique symbol = Symbol("@ironflow/node/calledFrom")

export interface CalledFrom {
  readonly [calledFrom]?: (kind: StepKind, name: string, entry: Function) => void
}

/** The line of the user's code that called `entry`; empty when it is not on the stack. */
export const callSite = (entry: Function): string => {
  const holder: { stack?: string } = {}
  Error.captureStackTrace(holder, entry)
  const line = holder.stack?.split("\n").find((text) => text.startsWith("    at ") && !text.includes("node:"))
  return line === undefined ? "" : line.slice("    at ".length)
}

/** The stack with the call site at its end, unless the stack itself has a line of the user's code. */
export const withCallSite = (stack: string, site: string): string =>
  site === "" || stack.split("\n").some(isUserFrame) ? stack : `${stack}\n    at ${site}`

/** Whether a line of a stack is in the user's code: not in Node.js, a dependency or this package. */
export const isUserFrame = (line: string): boolean =>
  /^\s+at .*:\d+:\d+\)?$/.test(line) &&
  !line.includes("node:") &&
  !line.includes("<anonymous>)") &&
  !/[/\\]node_modules[/\\]/.test(line) &&
  !line.includes((own ??= ownFolder()))

/** The folder of this package's code, in the form of stack traces. */
let own: string | undefined

const ownFolder = (): string => {
  const file = /((?:file:\/\/)?\/[^\s()]+|[A-Z]:\\[^()]+?):\d+:\d+/i.exec(callSite(ownFolder))?.[1]
  // matches no line
  return file === undefined
    ? "\n"
    : file.replace(/([/\\]cli)?[/\\][^/\\]*$/i, "").replace(/^file:\/\//, "") + "/"
}
