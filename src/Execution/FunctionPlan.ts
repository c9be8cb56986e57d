/** What every turn of a function needs of its configuration, worked out once. */
import { resolveRetry, type RetryPolicy } from "../Backoff.ts"
import { callSite } from "../CallSite.ts"
import { type Duration, formatDuration, positiveDuration } from "../Duration.ts"
import { type AnyFunction, functionTimeout } from "../Function.ts"
import type { StepKind } from "../StepKind.ts"

/** Time for one attempt of a step: milliseconds, and as the user wrote it. */
export interface StepTimeout {
  readonly ms: number
  readonly text: string
}

export interface FunctionPlan {
  readonly functionId: string
  readonly retry: RetryPolicy
  readonly timeoutMs: number
  readonly stepTimeout: StepTimeout | undefined
  /** Where in the user's code steps were called, by kind and name, as far as it is known. */
  readonly callSites: Map<string, string>
  /** Recorded steps that runs were seen not to ask for, by run: said once, and not in each of their turns. */
  readonly unasked: Map<string, string>
  /** Whether it has been said that the handler's own sleeps are not durable. */
  toldOfSleeps: boolean
}

/** A handler that makes up step names without end must not fill the memory. */
const maxCallSites = 500
/** Nor must runs that never end. */
const maxUnasked = 1000

const plans = new WeakMap<AnyFunction, FunctionPlan>()

export const functionPlan = (fn: AnyFunction): FunctionPlan => {
  let plan = plans.get(fn)
  if (plan === undefined) {
    const { id, retry, stepTimeout } = fn.config
    plan = {
      functionId: id,
      retry: resolveRetry(retry, `retry of function "${id}"`),
      timeoutMs: functionTimeout(fn),
      stepTimeout:
        stepTimeout === undefined
          ? undefined
          : resolveStepTimeout(stepTimeout, `stepTimeout of function "${id}"`),
      callSites: new Map(),
      unasked: new Map(),
      toldOfSleeps: false
    }
    plans.set(fn, plan)
  }
  return plan
}

/** Throws `ValidationError` when the duration is not one, or not positive. */
export const resolveStepTimeout = (timeout: Duration, what: string): StepTimeout => {
  const ms = positiveDuration(timeout, what)
  return { ms, text: typeof timeout === "string" ? timeout : formatDuration(ms) }
}

/** Remembers where a step is called, the first time. `entry` is the function that the user's code called. */
export const rememberCallSite = (plan: FunctionPlan, kind: StepKind, name: string, entry: Function): void => {
  const key = `${kind}:${name}`
  if (plan.callSites.has(key) || plan.callSites.size >= maxCallSites) return
  plan.callSites.set(key, callSite(entry))
}

/** Where the step is called; empty when it is not known. */
export const callSiteOf = (plan: FunctionPlan, kind: StepKind, name: string): string =>
  plan.callSites.get(`${kind}:${name}`) ?? ""

/** Whether it is news that the run has not asked for these steps. One that has ended is forgotten. */
export const tellOfUnasked = (
  { unasked }: FunctionPlan,
  runId: string,
  steps: string,
  ended: boolean
): boolean => {
  const isNew = unasked.get(runId) !== steps
  if (ended) unasked.delete(runId)
  else {
    if (unasked.size >= maxUnasked) unasked.clear()
    unasked.set(runId, steps)
  }
  return isNew
}
