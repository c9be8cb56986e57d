/** Errors of runs and steps as they are told: the step that failed, and what it threw. */
import { messageOf } from "./Errors.ts"
import { isObject } from "./Json.ts"

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

/** The error in words: `step "charge" failed: TypeError: fetch failed`. */
export const tell = (error: ToldError): string => {
  const step = stepOf(error)
  const { message, name = "Error", data = {} } = thrownBy(error)
  const text = messageOf({ message, name, data })
  const isNamed = name === "Error" || text.startsWith(name)
  return `${step === undefined ? "" : `step "${step}" failed: `}${isNamed ? text : `${name}: ${text}`}`
}

/** The step whose failure the error tells. */
export const stepOf = ({ data, details, name }: ToldError): string | undefined => {
  if (name !== "StepError") return undefined
  const step = isObject(details) ? details.stepName : data?.["stepName"]
  return typeof step === "string" ? step : undefined
}

/** What the step threw: the error around it says nothing more. */
export const thrownBy = (error: ToldError): ToldError =>
  stepOf(error) !== undefined && error.cause !== undefined ? error.cause : error
