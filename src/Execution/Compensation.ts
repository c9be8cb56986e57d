/** What has to be undone, should the run fail for good, and in which order it was registered. */
import { CompensationLostError, serializeError } from "../Errors.ts"
import type { TurnOp } from "../Protocol/Worker.ts"
import type { Attempt } from "./Attempt.ts"
import type { FunctionPlan } from "./FunctionPlan.ts"
import type { Scope } from "./Scope.ts"
import { StepCall, type StepCode } from "./StepCall.ts"
import { compensationKey } from "../StepId.ts"
import { stepDone } from "./StepReports.ts"
import { showMs } from "../Show.ts"

export interface Compensation {
  /** Name of the step that it undoes. */
  readonly name: string
  readonly key: string
  /** Missing when this turn did not come to where it is registered. */
  readonly code: StepCode | undefined
}

export class Compensations {
  readonly #registered: Array<Compensation> = []
  #counts: Map<string, number> | undefined = undefined

  get size(): number {
    return this.#registered.length
  }

  /** In the order of registration. */
  get names(): ReadonlyArray<string> {
    return this.#registered.map(({ name }) => name)
  }

  register(name: string, code: StepCode): void {
    const counts = (this.#counts ??= new Map())
    const n = counts.get(name) ?? 0
    counts.set(name, n + 1)
    this.#registered.push({ name, key: compensationKey(name, n), code })
  }

  /** All of them in the order in which they run: last registered, first run. */
  inReverse(): ReadonlyArray<Compensation> {
    return this.#registered.toReversed()
  }

  /**
   * The compensations of an earlier turn, given by the step names in the order of registration, in the order in which
   * they run; with code where this turn has registered them again.
   */
  rebuilt(names: ReadonlyArray<string>): ReadonlyArray<Compensation> {
    const code = new Map(this.#registered.map((compensation) => [compensation.key, compensation.code]))
    const counts = new Map<string, number>()
    const planned = names.map((name): Compensation => {
      const n = counts.get(name) ?? 0
      counts.set(name, n + 1)
      const key = compensationKey(name, n)
      return { name, key, code: code.get(key) }
    })
    return planned.reverse()
  }
}

/** The code of a compensation: never without a timeout, since nothing else bounds it. */
export const compensationCode = (plan: FunctionPlan, begin: (attempt: Attempt) => void): StepCode => {
  const { retry, stepTimeout, timeoutMs } = plan
  return { begin, timeout: stepTimeout ?? { ms: timeoutMs, text: showMs(timeoutMs) }, retry }
}

/** What a compensation is called in the journal. */
const stepName = ({ name }: Compensation): string => `compensate:${name}`

/**
 * The step that undoes; `undefined` when there is no code for it. `done` is called when it has run, and says what went wrong if it
 * failed.
 */
export const compensationCall = (
  compensation: Compensation,
  scope: Scope,
  done: (failure: string | undefined) => void
): StepCall | undefined => {
  const { code, key, name } = compensation
  if (code === undefined) return undefined
  return new StepCall(key, stepName(compensation), "compensate", scope, code, (outcome) =>
    done(
      outcome._tag === "Success"
        ? undefined
        : `the compensation of step "${name}" failed: ${outcome.error.message}. ` +
            "What the step did has not been undone; the remaining compensations run"
    )
  )
}

/** What is recorded of a compensation that this turn did not register again, and so cannot run. `now` in epoch milliseconds. */
export const lostCompensation = (
  compensation: Compensation,
  now: number
): { readonly op: TurnOp; readonly message: string } => {
  const { key, name } = compensation
  const error = new CompensationLostError(
    `The compensation of step "${name}" could not be rebuilt: the handler did not register it in this turn. ` +
      "Undo the step by hand, or deploy code that registers it"
  )
  const outcome = { _tag: "Failure", error: serializeError(error, { stack: false }) } as const
  const execution = { attempt: 0, startedAt: now, endedAt: now }
  return {
    op: stepDone({ key, name: stepName(compensation), kind: "compensate" }, outcome, execution),
    message: error.message
  }
}
