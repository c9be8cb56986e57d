/**
 * Reads the answers of any Ironflow server, leniently: names of fields may be in camel or snake case, fields
 * may be absent (servers leave out zero and empty values), 64-bit integers may be strings, and statuses of
 * runs may have any spelling.
 *
 * Readers return `undefined` for what they cannot read.
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
  ExplanationCodec,
  type WireRun
} from "../Protocol/Runs.ts"
import type { RunStatus } from "../RunStatus.ts"
import { revive } from "../ResultEncoding.ts"

type Fields = { readonly [name: string]: unknown }

/** The field with this name in camel case, or else in snake case. */
const field = (fields: Fields, name: string): unknown => {
  if (Object.hasOwn(fields, name)) return fields[name]
  const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  return Object.hasOwn(fields, snake) ? fields[snake] : undefined
}

const text = (fields: Fields, name: string): string | undefined => {
  const value = field(fields, name)
  return typeof value === "string" ? value : undefined
}

/** A string that is not empty. On the wire, an absent string and an empty one are the same. */
const nonEmptyText = (fields: Fields, name: string): string | undefined => text(fields, name) || undefined

/** Leaves out the members that are `undefined`. */
export const defined = <A extends object>(fields: A): { [K in keyof A]: Exclude<A[K], undefined> } =>
  // the filter removes every `undefined`, as the type says
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

const readWirePause = reader(Paused)

/** The run in the answer to a request to pause it; `undefined` when the answer has none. */
export const readPaused = (answer: unknown): Run | undefined => {
  const { run } = readWirePause(answer) ?? {}
  return run === undefined ? undefined : runOf(run)
}

/** The output of a run or step, with the errors in it restored. Only our engine says whether the output has errors. */
const outputOf = (output: unknown, hasErrors: boolean | undefined): unknown =>
  hasErrors === true ? revive(output) : output

/**
 * The status of a run. Only our engine sends `state`, which tells more statuses apart than `status`. A status
 * that is not known counts as `failed`.
 */
const statusOf = (state: string | undefined, status: string): RunStatus => {
  const word = state ?? status
  if (word === "" || /unspecified$/i.test(word)) return "pending"
  return decodeRunStatus(word) ?? "failed"
}

const readError = (error: unknown): RunError | undefined => {
  if (typeof error === "string" && error !== "") return { message: error, code: "UNKNOWN_ERROR" }
  if (!isObject(error)) return undefined
  const { details, retryable } = error
  return {
    message: text(error, "message") ?? "",
    code: nonEmptyText(error, "code") ?? "UNKNOWN_ERROR",
    ...defined({
      name: nonEmptyText(error, "name"),
      stack: nonEmptyText(error, "stack"),
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

const readWireSteps = reader(Steps)

export const readSteps = (answer: unknown): Array<RunStep> | undefined => {
  const page = readWireSteps(answer)
  return page?.steps.map(({ error, outputHasErrors, ...step }) => ({
    ...step,
    name: step.name || step.id,
    ...defined({ output: outputOf(step.output, outputHasErrors), error: readError(error) })
  }))
}

const readWireExplanation = reader(ExplanationCodec)

export const readExplanation = (answer: unknown): Explanation | undefined => {
  const wireExplanation = readWireExplanation(answer)
  if (wireExplanation === undefined) return undefined
  const { state, status, ...explanation } = wireExplanation
  return { ...explanation, status: statusOf(state, status) }
}
