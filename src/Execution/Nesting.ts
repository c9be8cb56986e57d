/** Knows whether code runs inside the body of a step, where further step calls could never be remembered. */
import { AsyncLocalStorage } from "node:async_hooks"
import { NestedStepError } from "../Errors.ts"

/** Stands for one turn. Whatever outlives a body (a socket, a timer) may hold on to it, so it holds nothing itself. */
export interface TurnToken {
  readonly runId: string
}

interface Body {
  readonly token: TurnToken
  readonly stepName: string
  /** Executions of the step, this one included. */
  readonly attempt: number
}

const bodies = new AsyncLocalStorage<Body>()

/** Runs the body of a step; what it starts, and goes on after, counts as inside. */
export const insideStep = <A>(token: TurnToken, stepName: string, attempt: number, body: () => A): A =>
  bodies.run({ token, stepName, attempt }, body)

/** The step of the turn in whose body the caller is. */
export const bodyOf = (token: TurnToken): { readonly step: string; readonly attempt: number } | undefined => {
  const body = bodies.getStore()
  return body !== undefined && body.token === token
    ? { step: body.stepName, attempt: body.attempt }
    : undefined
}

/**
 * The error for a call of step `stepName` that comes from inside the body of a step of the same turn. A body may well
 * cause a turn of another run in this process, and its steps are no business of this one.
 */
export const nestedStep = (token: TurnToken, stepName: string): NestedStepError | undefined => {
  const body = bodies.getStore()
  return body !== undefined && body.token === token ? new NestedStepError(stepName, body.stepName) : undefined
}
