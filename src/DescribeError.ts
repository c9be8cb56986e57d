/** Describes the errors of runs and steps: which step has failed, and what it threw. */
import { messageOf } from "./Errors.ts"
import { isObject } from "./Json.ts"

/** An error in its stored form, or in the form that clients receive. */
export interface ReportedError {
  readonly message: string
  readonly name?: string
  readonly code?: string
  readonly stack?: string
  readonly data?: { readonly [key: string]: unknown }
  readonly details?: unknown
  readonly cause?: ReportedError
}

/** The error as a sentence: `step "charge" failed: TypeError: fetch failed`. */
export const describeError = (error: ReportedError): string => {
  const step = stepOf(error)
  const { message, name = "Error", data = {} } = thrownError(error)
  const text = messageOf({ message, name, data })
  const needsNoName = name === "Error" || text.startsWith(name)
  return `${step === undefined ? "" : `step "${step}" failed: `}${needsNoName ? text : `${name}: ${text}`}`
}

/** The name of the step that has failed; `undefined` when the error is not about a step. */
export const stepOf = ({ data, details, name }: ReportedError): string | undefined => {
  if (name !== "StepError") return undefined
  const step = isObject(details) ? details.stepName : data?.["stepName"]
  return typeof step === "string" ? step : undefined
}

/**
 * For a `StepError`, the error that the step threw: the `StepError` around it adds only the step. Any other error is
 * returned as it is.
 */
export const thrownError = (error: ReportedError): ReportedError =>
  stepOf(error) !== undefined && error.cause !== undefined ? error.cause : error
