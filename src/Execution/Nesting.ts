/** Detects calls from inside the body of a step, where further steps could not be recorded. */
import { AsyncLocalStorage } from "node:async_hooks"
import { NestedStepError } from "../Errors.ts"

/**
 * Identifies one turn. A socket or timer that outlives the body of a step may keep this token in memory, so the token
 * references nothing else.
 */
export interface TurnToken {
  readonly runId: string
}

interface Body {
  readonly token: TurnToken
  readonly stepName: string
  /** The number of the attempt, from 1. */
  readonly attempt: number
}

const bodies = new AsyncLocalStorage<Body>()

/** Runs the body of a step. Everything that the body starts counts as inside of the body, even what runs later. */
export const runInsideStep = <A>(token: TurnToken, stepName: string, attempt: number, body: () => A): A =>
  bodies.run({ token, stepName, attempt }, body)

/** The step of this turn in whose body the caller runs; `undefined` outside of bodies. */
export const enclosingStep = (
  token: TurnToken
): { readonly step: string; readonly attempt: number } | undefined => {
  const body = bodies.getStore()
  return body !== undefined && body.token === token
    ? { step: body.stepName, attempt: body.attempt }
    : undefined
}

/**
 * The error for a call of step `stepName`, if the call comes from the body of a step of the same turn. The steps of
 * another run are allowed: a body may start a turn of another run in this process.
 */
export const nestedStepError = (token: TurnToken, stepName: string): NestedStepError | undefined => {
  const body = bodies.getStore()
  return body !== undefined && body.token === token ? new NestedStepError(stepName, body.stepName) : undefined
}
