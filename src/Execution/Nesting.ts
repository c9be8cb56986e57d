/** Detects code inside the body of a step, where further step calls could not be remembered. */
import { AsyncLocalStorage } from "node:async_hooks"
import { NestedStepError } from "../Errors.ts"

/** Stands for one turn. A socket or timer that outlives a body may hold on to it, so it references nothing. */
export interface TurnToken {
  readonly runId: string
}

interface Body {
  readonly token: TurnToken
  readonly stepName: string
  /** The number of this attempt, from 1. */
  readonly attempt: number
}

const bodies = new AsyncLocalStorage<Body>()

/** Runs the body of a step. Everything that it starts counts as inside, also later. */
export const insideStep = <A>(token: TurnToken, stepName: string, attempt: number, body: () => A): A =>
  bodies.run({ token, stepName, attempt }, body)

/** The step of the turn in whose body the caller runs. */
export const bodyOf = (token: TurnToken): { readonly step: string; readonly attempt: number } | undefined => {
  const body = bodies.getStore()
  return body !== undefined && body.token === token
    ? { step: body.stepName, attempt: body.attempt }
    : undefined
}

/**
 * The error for a call of step `stepName` from inside the body of a step of the same turn. A body may start a turn of
 * another run in this process; the steps of that turn are allowed.
 */
export const nestedStep = (token: TurnToken, stepName: string): NestedStepError | undefined => {
  const body = bodies.getStore()
  return body !== undefined && body.token === token ? new NestedStepError(stepName, body.stepName) : undefined
}
