/** Reads the answers of push endpoints. */
import { EndpointUnavailableError, type IronflowError, isIronflowError } from "../../Errors.ts"
import { isObject, numberOf, safeJsonParse } from "../../Json.ts"
import { checkShape } from "../../JsonLimits.ts"
import type { Attempts } from "../../Protocol/LegacyJobs.ts"
import { type LeftOut, readTurnReport } from "../../Protocol/TurnReports.ts"
import type { FunctionRegistration, Job, TurnReport } from "../../Protocol/Worker.ts"
import { readPushResponse } from "../../Protocol/LegacyHandlers.ts"
import type { PostAnswer } from "./HttpPost.ts"

/** What an endpoint says about itself. */
export interface EndpointDescription {
  /**
   * Whether the endpoint is one of this package, and so runs whole turns. `undefined` when the answer is not a description.
   */
  readonly turns: boolean | undefined
  readonly functions: ReadonlyArray<FunctionRegistration>
  /**
   * What the endpoint answered, as a clause. Set only when the answer is not a description, but may come from an unhealthy
   * endpoint of this package. Such an answer does not prove that the endpoint is of another package.
   */
  readonly doubt?: string
}

/** The error for an endpoint that accepts no turns now. */
export const unavailableError = (problem: string): IronflowError =>
  new EndpointUnavailableError(problem, { retryable: true })

/** The parsed answer; `undefined` when it is not JSON, an error when it exceeds the limits of JSON. */
export const bodyOf = ({ text }: PostAnswer): unknown => {
  try {
    return safeJsonParse(checkShape("the answer", text))
  } catch (error) {
    if (isIronflowError(error)) return error
    throw error
  }
}

const codeIn = (body: unknown): unknown =>
  isObject(body) && isObject(body.error) ? body.error.code : undefined

/** Whether this is the answer of an app that does not have the function of the turn. */
export const lacksFunction = (body: unknown): boolean => codeIn(body) === "FUNCTION_NOT_FOUND"

/**
 * Why an endpoint with this answer accepts no turns now; `undefined` when it accepts turns, even if not those of every function.
 */
export const unavailableReason = ({ status }: PostAnswer, body: unknown): string | undefined => {
  const code = codeIn(body)
  if (lacksFunction(body)) return undefined
  const isProblem =
    code === "BODY_CONSUMED" ||
    (status >= 300 && status < 400) ||
    [401, 403, 404, 405, 429, 502, 503, 504].includes(status)
  return isProblem ? `it answered ${status}${reasonIn(body)}` : undefined
}

/** The reason in the answer, on one line. */
export const reasonIn = (body: unknown): string => {
  const message = isObject(body) && isObject(body.error) ? body.error.message : undefined
  return typeof message === "string" ? `: ${message.slice(0, 500).replace(/\s+/g, " ")}` : ""
}

/** Reads the answer to `describe`. Returns an error when the endpoint accepts no turns now. */
export const readDescription = (answer: PostAnswer): EndpointDescription | IronflowError => {
  const body = bodyOf(answer)
  if (isIronflowError(body)) return unavailableError(`its answer is not acceptable: ${body.message}`)
  if (answer.status === 200 && isObject(body) && body.type === "description") {
    const turns = isObject(body.capabilities) && numberOf(body.capabilities.turns) >= 1
    // each function is checked when it is registered
    const functions = Array.isArray(body.functions)
      ? (body.functions as ReadonlyArray<FunctionRegistration>)
      : []
    return { turns, functions }
  }
  const unknown = { turns: undefined, functions: [] }
  const problem =
    unavailableReason(answer, body) ??
    (answer.status >= 500 ? `it answered ${answer.status}${reasonIn(body)}` : undefined)
  if (problem === undefined) return unknown
  // an endpoint of another package, which does not know this request, may fail, or say that it has no function with an empty name
  return [404, 405, 500].includes(answer.status) && codeIn(body) !== "BODY_CONSUMED"
    ? { ...unknown, doubt: problem }
    : unavailableError(problem)
}

/**
 * How a turn was requested. A handler of another package gets a segment of a turn, with the attempts that the engine knows.
 * Other handlers get the whole turn.
 */
export type RequestKind =
  { readonly turns: true } | { readonly turns: false; readonly attempts: Attempts | undefined }

/** Reads the report in the answer to a turn. Throws `ValidationError` when the answer has no report. */
export const readReport = (
  job: Job,
  body: unknown,
  kind: RequestKind,
  nowMs: number
): LeftOut & { readonly report: TurnReport } => {
  if (isIronflowError(body)) throw body
  const { jobId, runId } = job
  if (!kind.turns)
    return { leftOut: [], report: { jobId, runId, ops: readPushResponse(runId, body, kind.attempts, nowMs) } }
  const { logs, ops } = isObject(body) ? body : {}
  return readTurnReport({ jobId, runId, ops, logs }, "The answer")
}
