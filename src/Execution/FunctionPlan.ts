/** The parts of a function's configuration that every turn needs, computed once. */
import { resolveRetry, type RetryPolicy } from "../Backoff.ts"
import { callSite } from "../CallSite.ts"
import { type Duration, formatDuration, positiveDuration } from "../Duration.ts"
import { type AnyFunction, functionTimeout } from "../Function.ts"
import type { StepKind } from "../StepKind.ts"

/** The timeout of one attempt of a step: in milliseconds, and as the user wrote it. */
export interface StepTimeout {
  readonly ms: number
  readonly text: string
}

export interface FunctionPlan {
  readonly functionId: string
  readonly retry: RetryPolicy
  readonly timeoutMs: number
  readonly stepTimeout: StepTimeout | undefined
  /** The places in the user's code where steps are called, as far as they are known, by kind and name of the step. */
  readonly callSites: Map<string, string>
  /**
   * The recorded steps that a run did not call again, as text, by run id. Kept so that these steps are logged once, and
   * not in every turn.
   */
  readonly uncalledSteps: Map<string, string>
  /** Whether the warning about sleeps outside of steps was logged. */
  hasWarnedOfSleeps: boolean
}

/** Maximum number of call sites in memory: a handler may use ever new step names. */
const MAX_CALL_SITES = 500
/** Maximum number of runs in {@link FunctionPlan.uncalledSteps}: a run that never ends would stay there forever. */
const MAX_UNCALLED = 1000

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
          : resolveStepTimeout(stepTimeout, `\`stepTimeout\` of function "${id}"`),
      callSites: new Map(),
      uncalledSteps: new Map(),
      hasWarnedOfSleeps: false
    }
    plans.set(fn, plan)
  }
  return plan
}

/** Parses a timeout. Throws `ValidationError` when it is not a duration, or not positive. */
export const resolveStepTimeout = (timeout: Duration, what: string): StepTimeout => {
  const ms = positiveDuration(timeout, what)
  return { ms, text: typeof timeout === "string" ? timeout : formatDuration(ms) }
}

/** Remembers where the step was first called. `entry` is the function that the user's code called. */
export const rememberCallSite = (plan: FunctionPlan, kind: StepKind, name: string, entry: Function): void => {
  const key = `${kind}:${name}`
  if (plan.callSites.has(key) || plan.callSites.size >= MAX_CALL_SITES) return
  plan.callSites.set(key, callSite(entry))
}

/** The place in the user's code where the step is called; empty when it is not known. */
export const callSiteOf = (plan: FunctionPlan, kind: StepKind, name: string): string =>
  plan.callSites.get(`${kind}:${name}`) ?? ""

/**
 * Remembers that these uncalled steps of the run are logged, or forgets the run when it has ended. Returns whether the
 * steps have not been logged before.
 */
export const rememberUncalled = (
  { uncalledSteps }: FunctionPlan,
  runId: string,
  steps: string,
  hasEnded: boolean
): boolean => {
  const isNew = uncalledSteps.get(runId) !== steps
  if (hasEnded) uncalledSteps.delete(runId)
  else {
    if (uncalledSteps.size >= MAX_UNCALLED) uncalledSteps.clear()
    uncalledSteps.set(runId, steps)
  }
  return isNew
}
