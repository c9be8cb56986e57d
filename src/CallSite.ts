/** Finds where in the user's code something was called, as a line of a stack trace. */
import type { StepKind } from "./StepKind.ts"

/**
 * The property in which the service of an Effect handler's steps has a function that remembers where a step is called.
 * The function is called while the step's effect is made. At that time the user's code is on the stack; when the effect
 * runs, the code has left the stack.
 */
export const recordCall: unique symbol = Symbol("@ironflow/node/calledFrom")

export interface RecordsCalls {
  readonly [recordCall]?: (kind: StepKind, name: string, entry: Function) => void
}

/** The line of the stack from which `entry` was called; empty when there is none. Lines of Node.js are passed over. */
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
  !line.includes((packageFolder ??= findPackageFolder()))

/** The folder of this package's code, as stack traces write it. */
let packageFolder: string | undefined

const findPackageFolder = (): string => {
  const file = /((?:file:\/\/)?\/[^\s()]+|[A-Z]:\\[^()]+?):\d+:\d+/i.exec(callSite(findPackageFolder))?.[1]
  // the folder is unknown: no line of a stack contains a line break, so no line counts as one of this package
  return file === undefined
    ? "\n"
    : file.replace(/([/\\]cli)?[/\\][^/\\]*$/i, "").replace(/^file:\/\//, "") + "/"
}
