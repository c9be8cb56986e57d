/**
 * Reads what any Ironflow server answers, leniently: fields in either letter case, absent ones with their defaults (a
 * server leaves out what is zero or empty), 64-bit integers as text, run statuses in every spelling.
 *
 * Readers return `undefined` for what cannot be read.
 */
import type { RunError } from "../RunError.ts"
import type { Explanation, ListRunsResult, Run, RunStep } from "./Client.ts"
import { isObject } from "../Json.ts"
import { reader } from "../Protocol/Codec.ts"
import {
  decodeRunStatus,
  Paused,
  RunAnswer,
  RunPageAnswer,
  Steps,
  Why,
  type WireRun
} from "../Protocol/Runs.ts"
import type { RunStatus } from "../RunStatus.ts"
import { revive } from "../Result.ts"

type Fields = { readonly [name: string]: unknown }

/** The field in lower camel case, else in snake case. */
const field = (of: Fields, name: string): unknown => {
  if (Object.hasOwn(of, name)) return of[name]
  const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  return Object.hasOwn(of, snake) ? of[snake] : undefined
}

const text = (of: Fields, name: string): string | undefined => {
  const value = field(of, name)
  return typeof value === "string" ? value : undefined
}

/** Text that is not empty: absent and empty are the same on the wire. */
const filled = (of: Fields, name: string): string | undefined => text(of, name) || undefined

/** Leaves out what is `undefined`. */
export const defined = <A extends object>(fields: A): { [K in keyof A]: Exclude<A[K], undefined> } =>
  // what is left has no member that is `undefined`, which is what the type says
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never

const readWireRun = reader(RunAnswer)

export const readRun = (answer: unknown): Run | undefined => {
  const run = readWireRun(answer)
  return run === undefined ? undefined : runOf(run)
}

const runOf = ({ error, executionMode: _, outputHasErrors, state, status, ...run }: WireRun): Run => {
  const output = outputOf(run.output, outputHasErrors)
  const failure = readError(error)
  return {
    ...run,
    status: statusOf(state, status),
    updatedAt: run.updatedAt || run.createdAt,
    ...(output === undefined ? {} : { output }),
    ...(failure === undefined ? {} : { error: failure })
  }
}

const readKnownPause = reader(Paused)

/** The run in the answer to a request to pause it, where there is one. */
export const readPaused = (answer: unknown): Run | undefined => {
  const { run } = readKnownPause(answer) ?? {}
  return run === undefined ? undefined : runOf(run)
}

/** `outputHasErrors` is what our engine adds. */
const outputOf = (output: unknown, hasErrors: boolean | undefined): unknown =>
  hasErrors === true ? revive(output) : output

/** `state` is what our engine adds: exact where `status` has fewer words. */
const statusOf = (state: string | undefined, status: string): RunStatus => {
  const said = state ?? status
  if (said === "" || /unspecified$/i.test(said)) return "pending"
  return decodeRunStatus(said) ?? "failed"
}

const readError = (error: unknown): RunError | undefined => {
  if (typeof error === "string" && error !== "") return { message: error, code: "UNKNOWN_ERROR" }
  if (!isObject(error)) return undefined
  const { details, retryable } = error
  return {
    message: text(error, "message") ?? "",
    code: filled(error, "code") ?? "UNKNOWN_ERROR",
    ...defined({
      name: filled(error, "name"),
      stack: filled(error, "stack"),
      retryable: typeof retryable === "boolean" ? retryable : undefined,
      details,
      cause: readError(field(error, "cause"))
    })
  }
}

const readPage = reader(RunPageAnswer)

export const readRuns = (answer: unknown): ListRunsResult | undefined => {
  const page = readPage(answer)
  if (page === undefined) return undefined
  const { damaged = [], runs, ...rest } = page
  return { ...rest, runs: runs.map(runOf), ...(damaged.length === 0 ? {} : { damaged: [...damaged] }) }
}

const readKnownSteps = reader(Steps)

export const readSteps = (answer: unknown): Array<RunStep> | undefined => {
  const page = readKnownSteps(answer)
  return page?.steps.map(({ error, outputHasErrors, ...step }) => ({
    ...step,
    name: step.name || step.id,
    ...defined({ output: outputOf(step.output, outputHasErrors), error: readError(error) })
  }))
}

const readWhy = reader(Why)

export const readExplanation = (answer: unknown): Explanation | undefined => {
  const read = readWhy(answer)
  if (read === undefined) return undefined
  const { state, status, ...why } = read
  return { ...why, status: statusOf(state, status) }
}
