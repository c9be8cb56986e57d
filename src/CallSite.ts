/** Where in the user's own code something was called, as the lines of stacks say it. */
import type { StepKind } from "./StepKind.ts"

/**
 * Under this key the steps of an Effect handler are told where one is called: the user's code is on the stack when it makes
 * the effect, and no longer when that runs.
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

/** The stack, and the line of the call below it unless code of the user's is in it already. */
export const withCallSite = (stack: string, site: string): string =>
  site === "" || stack.split("\n").some(isUserFrame) ? stack : `${stack}\n    at ${site}`

/** Whether the line of a stack names a place in the user's code, rather than in Node.js, in a dependency or in this package. */
export const isUserFrame = (line: string): boolean =>
  /^\s+at .*:\d+:\d+\)?$/.test(line) &&
  !line.includes("node:") &&
  !line.includes("<anonymous>)") &&
  !/[/\\]node_modules[/\\]/.test(line) &&
  !line.includes((own ??= ownFolder()))

/** The folder with the code of this package, as stacks name it. */
let own: string | undefined

const ownFolder = (): string => {
  const file = /((?:file:\/\/)?\/[^\s()]+|[A-Z]:\\[^()]+?):\d+:\d+/i.exec(callSite(ownFolder))?.[1]
  // nothing that a line could have in it
  return file === undefined
    ? "\n"
    : file.replace(/([/\\]cli)?[/\\][^/\\]*$/i, "").replace(/^file:\/\//, "") + "/"
}
