/** The compensations that a handler registers. They run in reverse order if the run fails for good. */
import { CompensationLostError, serializeError } from "../Errors.ts"
import type { TurnOp } from "../Protocol/Worker.ts"
import type { Attempt } from "./Attempt.ts"
import type { FunctionPlan } from "./FunctionPlan.ts"
import type { StepScope } from "./StepScope.ts"
import { StepCall, type StepCode } from "./StepCall.ts"
import { compensationKey } from "../StepId.ts"
import { stepDoneOp } from "./StepReports.ts"
import { showMs } from "../Show.ts"

export interface Compensation {
  /** Name of the step that is compensated. */
  readonly name: string
  /** The step key of the compensation. */
  readonly key: string
  /** Absent when the handler has not registered the compensation in this turn. */
  readonly code: StepCode | undefined
}

export class Compensations {
  readonly #registered: Array<Compensation> = []
  #counts: Map<string, number> | undefined = undefined

  get size(): number {
    return this.#registered.length
  }

  /** The names of the compensated steps, in the order of registration. */
  get names(): ReadonlyArray<string> {
    return this.#registered.map(({ name }) => name)
  }

  register(name: string, code: StepCode): void {
    const counts = (this.#counts ??= new Map())
    const n = counts.get(name) ?? 0
    counts.set(name, n + 1)
    this.#registered.push({ name, key: compensationKey(name, n), code })
  }

  /** All compensations in the order in which they run: the last registered one first. */
  inReverse(): ReadonlyArray<Compensation> {
    return this.#registered.toReversed()
  }

  /**
   * The compensations that an earlier turn registered, in the order in which they run. `names` are the names of the
   * compensated steps in the order of registration. A compensation has code only if this turn has registered it again.
   */
  rebuild(names: ReadonlyArray<string>): ReadonlyArray<Compensation> {
    const code = new Map(this.#registered.map((compensation) => [compensation.key, compensation.code]))
    const counts = new Map<string, number>()
    const compensations = names.map((name): Compensation => {
      const n = counts.get(name) ?? 0
      counts.set(name, n + 1)
      const key = compensationKey(name, n)
      return { name, key, code: code.get(key) }
    })
    return compensations.reverse()
  }
}

/**
 * Makes the code of a compensation. It has a timeout even if the function has no `stepTimeout`, since the timeout of
 * the turn does not apply to compensations.
 */
export const compensationCode = (plan: FunctionPlan, begin: (attempt: Attempt) => void): StepCode => {
  const { retry, stepTimeout, timeoutMs } = plan
  return { begin, timeout: stepTimeout ?? { ms: timeoutMs, text: showMs(timeoutMs) }, retry }
}

/** The name of a compensation in the journal. */
const stepName = ({ name }: Compensation): string => `compensate:${name}`

/**
 * Makes the step call of a compensation; `undefined` when the compensation has no code. `onDone` is called when the
 * compensation has run, with a message if it failed.
 */
export const compensationCall = (
  compensation: Compensation,
  scope: StepScope,
  onDone: (failure: string | undefined) => void
): StepCall | undefined => {
  const { code, key, name } = compensation
  if (code === undefined) return undefined
  return new StepCall(key, stepName(compensation), "compensate", scope, code, (outcome) =>
    onDone(
      outcome._tag === "Success"
        ? undefined
        : `the compensation of step "${name}" failed: ${outcome.error.message}. ` +
            "What the step did has not been undone; the remaining compensations run"
    )
  )
}

/**
 * Makes the record of a compensation that cannot run, because this turn has not registered it again. `now` is
 * in epoch milliseconds.
 */
export const lostCompensation = (
  compensation: Compensation,
  now: number
): { readonly op: TurnOp; readonly message: string } => {
  const { key, name } = compensation
  const error = new CompensationLostError(
    `The compensation of step "${name}" could not be rebuilt: the handler did not register it in this turn. ` +
      "This is final for the run: undo the step by hand. Keep compensations in the code while runs may need them"
  )
  const outcome = { _tag: "Failure", error: serializeError(error, { stack: false }) } as const
  const execution = { attempt: 0, startedAt: now, endedAt: now }
  return {
    op: stepDoneOp({ key, name: stepName(compensation), kind: "compensate" }, outcome, execution),
    message: error.message
  }
}
