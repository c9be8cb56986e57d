/**
 * Collects what a turn reports in the legacy protocol: the results of steps, and at the end of the turn at most one
 * wait.
 */
import { formatExactDuration } from "../Duration.ts"
import type { SerializedError } from "../Errors.ts"
import { stepId } from "../StepId.ts"
import { decodeJson } from "../Json.ts"
import { toLegacyOutput } from "../ResultEncoding.ts"
import type { StepResult, YieldInfo } from "../Protocol/Push.ts"
import type { Due, Job, Outcome, TurnOp } from "../Protocol/Worker.ts"
import { failedId, type Fence, type LegacyJob, type PendingStep, pendingId, retryId } from "./LegacyJob.ts"

type StepDone = Extract<TurnOp, { readonly _tag: "StepDone" }>
type StepRetry = Extract<TurnOp, { readonly _tag: "StepRetry" }>
type Suspending = Extract<TurnOp, { readonly _tag: "Sleep" | "WaitForEvent" | "Invoke" }>
type InvokeAsync = Extract<TurnOp, { readonly _tag: "InvokeAsync" }>

/** A suspended step, and when it is due. */
interface OpenStep {
  readonly name: string
  readonly dueAt: number
  readonly failures: number
  readonly wait: YieldInfo
  /**
   * Whether the run may wait for other steps first. `false` for an invocation: the server starts the invoked function
   * only when the run waits for it.
   */
  readonly canWaitLater: boolean
}

export class LegacyTurn {
  readonly job: Job
  readonly fence: Fence | undefined
  readonly startedAt: string
  /** When the lease was last known to hold, in milliseconds of a monotonic clock. */
  heldSince: number
  /** Results that the server has not yet stored. */
  steps: Array<StepResult> = []
  readonly #stepBase: number
  #storedCount = 0
  readonly #pendingSteps: ReadonlyMap<string, PendingStep>
  readonly #openSteps = new Map<string, OpenStep>()
  /** The wait that was chosen. It must be the same when the report is sent again. */
  #chosenWait: YieldInfo | undefined

  constructor({ fence, job, pendingSteps, stepBase }: LegacyJob, nowMs: number, heldSince: number) {
    this.job = job
    this.fence = fence
    this.heldSince = heldSince
    this.startedAt = iso(nowMs)
    this.#stepBase = stepBase
    this.#pendingSteps = pendingSteps
    // steps that wait for their next attempt are open from the start, since the turn does not report them again
    for (const { failures, name, pending: isWaiting, stepKey } of job.open) {
      const until = pendingSteps.get(stepKey)?.dueAt
      if (isWaiting && until !== undefined)
        this.#openSteps.set(stepKey, this.#retryStep(stepKey, name, failures, until))
    }
  }

  /** How many steps of the run the server has stored. */
  get stepOffset(): number {
    return this.#stepBase + this.#storedCount
  }

  /** Marks the first `count` results as stored. */
  markStored(count: number): void {
    this.steps = this.steps.slice(count)
    this.#storedCount += count
  }

  /** Adds the result of a finished step. */
  addResult(op: StepDone): void {
    const times = { startedAt: op.startedAt, endedAt: op.endedAt }
    if (op.outcome._tag === "Success") {
      this.#addCompleted(op.stepKey, op.name, toLegacyOutput(op.outcome.value), times)
      return
    }
    const { error } = op.outcome
    this.#addFailed(op, error, false, times)
    this.#addCompleted(failedId(op.stepKey), op.name, { error }, times)
  }

  /** Adds a failed attempt of a step whose next attempt is due later. */
  addRetry(op: StepRetry, nowMs: number): void {
    this.#addFailed(op, op.error, true, { startedAt: nowMs, endedAt: nowMs })
    this.#openSteps.set(op.stepKey, this.#retryStep(op.stepKey, op.name, op.failures, dueAt(op.due, nowMs)))
  }

  /** Adds a suspended step. Returns the outcome if its wait is already over. */
  addSuspended(op: Suspending, nowMs: number): Outcome | undefined {
    const recordedDueAt = this.#pendingSteps.get(op.stepKey)?.dueAt
    if (op._tag === "Sleep" && recordedDueAt !== undefined && recordedDueAt <= nowMs) {
      return { _tag: "Success", value: undefined }
    }
    const id = stepId(this.job.runId, op.stepKey)
    this.#openSteps.set(op.stepKey, {
      name: op.name,
      failures: 0,
      canWaitLater: op._tag !== "Invoke",
      ...yieldOf(op, id, recordedDueAt, nowMs)
    })
    return undefined
  }

  withdraw(stepKey: string): void {
    this.#openSteps.delete(stepKey)
  }

  /** Records a wait whose time had already passed when the handler asked for it. */
  addPassedWait(stepKey: string, nowMs: number): void {
    this.#addCompleted(stepKey, stepKey, null, { startedAt: nowMs, endedAt: nowMs })
  }

  /** Adds the result of a published message. */
  addPublished(stepKey: string, name: string, output: unknown, nowMs: number): void {
    this.#addCompleted(stepKey, name, output, { startedAt: nowMs, endedAt: nowMs })
  }

  /** The wait that makes the server start a function, without waiting for the function's end. */
  asyncInvokeOf({ functionId, input, stepKey }: InvokeAsync): YieldInfo {
    return {
      type: "invoke_function_async",
      step_id: stepId(this.job.runId, stepKey),
      function_id: functionId,
      ...(input === undefined ? {} : { input: decodeJson(input) })
    }
  }

  /**
   * Chooses the open step for which the run waits: an invocation, so that the invoked function starts, or else the step
   * that is due first. For each other open step that is no invocation, adds a result that says when the step is due.
   * Returns `undefined` when no step is open.
   */
  chooseWait(stepKeys: ReadonlyArray<string>, nowMs: number): YieldInfo | undefined {
    if (this.#chosenWait !== undefined) return this.#chosenWait
    const open = stepKeys.flatMap((stepKey) => {
      const step = this.#openSteps.get(stepKey)
      return step === undefined ? [] : [{ stepKey, ...step }]
    })
    const chosenStep =
      open.find(({ canWaitLater }) => !canWaitLater) ??
      open.reduce<(typeof open)[number] | undefined>(
        (first, step) => (first === undefined || step.dueAt < first.dueAt ? step : first),
        undefined
      )
    for (const { dueAt, failures, canWaitLater, name, stepKey } of open) {
      if (!canWaitLater || stepKey === chosenStep?.stepKey) continue
      const output = { until: iso(dueAt), failures }
      this.#addCompleted(pendingId(stepKey), name, output, { startedAt: nowMs, endedAt: nowMs })
    }
    this.#chosenWait = chosenStep?.wait
    return this.#chosenWait
  }

  #retryStep(stepKey: string, name: string, failures: number, until: number): OpenStep {
    const step_id = stepId(this.job.runId, retryId(stepKey, failures))
    const wait = { type: "sleep", step_id, until: iso(until) } as const
    return { name, dueAt: until, failures, canWaitLater: true, wait }
  }

  #addCompleted(stepKey: string, name: string, output: unknown, times: Times): void {
    this.steps.push({
      ...this.#resultFields(stepKey, name, times),
      status: "completed",
      ...(output === undefined ? {} : { output })
    })
  }

  #addFailed(
    { name, stepKey }: { readonly stepKey: string; readonly name: string },
    { message, stack }: SerializedError,
    retryable: boolean,
    times: Times
  ): void {
    this.steps.push({
      ...this.#resultFields(stepKey, name, times),
      status: "failed",
      error: { message, retryable, ...(stack === undefined ? {} : { stack }) }
    })
  }

  #resultFields(stepKey: string, name: string, { endedAt, startedAt }: Times) {
    const isCompensation = stepKey.startsWith("compensate:")
    return {
      id: stepId(this.job.runId, stepKey),
      name,
      type: isCompensation ? ("compensate" as const) : ("invoke" as const),
      started_at: iso(startedAt),
      ended_at: iso(endedAt),
      duration_ms: Math.max(0, Math.round(endedAt - startedAt)),
      ...(isCompensation ? { compensation_for: name.replace(/^compensate:/, "") } : {})
    }
  }
}

interface Times {
  readonly startedAt: number
  readonly endedAt: number
}

const yieldOf = (
  op: Suspending,
  step_id: string,
  recordedDueAt: number | undefined,
  nowMs: number
): { readonly dueAt: number; readonly wait: YieldInfo } => {
  switch (op._tag) {
    case "Sleep": {
      const due = recordedDueAt ?? dueAt(op.due, nowMs)
      return { dueAt: due, wait: { type: "sleep", step_id, until: iso(due) } }
    }
    case "WaitForEvent": {
      const due = recordedDueAt ?? dueAt(op.timeout, nowMs)
      const timeout = formatExactDuration(Math.max(1000, due - nowMs))
      const event_filter = {
        event: op.event,
        ...(op.match === undefined ? {} : { match: op.match }),
        timeout
      }
      return { dueAt: due, wait: { type: "wait_for_event", step_id, event_filter } }
    }
    case "Invoke":
      return {
        dueAt: nowMs + op.timeoutMs,
        wait: {
          type: "invoke_function",
          step_id,
          function_id: op.functionId,
          ...(op.input === undefined ? {} : { input: decodeJson(op.input) }),
          invoke_timeout_ms: op.timeoutMs
        }
      }
  }
}

const dueAt = (due: Due, nowMs: number): number => ("at" in due ? due.at : nowMs + due.afterMs)

const iso = (epochMs: number): string => new Date(epochMs).toISOString()
