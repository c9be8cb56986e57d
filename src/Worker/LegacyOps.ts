/**
 * Applies the ops that a turn reports, when the server is a legacy server. The results go into the updates of a
 * polling worker, or into the single response of a push handler.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import {
  type ConnectionError,
  type IronflowError,
  type SerializedError,
  serializeError,
  UnsupportedError
} from "../Errors.ts"
import { stepId } from "../StepId.ts"
import type { JsonText } from "../Json.ts"
import type { YieldInfo } from "../Protocol/Push.ts"
import type { Outcome, TurnAck, TurnOp, TurnReport } from "../Protocol/Worker.ts"
import { plainResult } from "../ResultEncoding.ts"
import { continuationKey } from "./LegacyJob.ts"
import type { LegacyTurn } from "./LegacyTurn.ts"

/** How a turn ends in the legacy protocol. */
export type LegacyEnd =
  | { readonly status: "completed"; readonly output: JsonText | undefined }
  | { readonly status: "yielded"; readonly yield: YieldInfo }
  | { readonly status: "failed"; readonly error: SerializedError; readonly retryable: boolean }

type Outcomes = ReadonlyArray<Outcome | undefined>

/** How results reach the server. */
export interface LegacySink {
  /** Reports how the turn ends. */
  readonly end: (
    turn: LegacyTurn,
    end: LegacyEnd,
    outcomes: Outcomes
  ) => Effect.Effect<TurnAck, ConnectionError>
  /** Publishes a message, and returns the outcome of its step. */
  readonly publish: (
    turn: LegacyTurn,
    op: Extract<TurnOp, { readonly _tag: "Publish" }>,
    nowMs: number
  ) => Effect.Effect<Outcome, ConnectionError>
  /** Starts a run and does not wait for its end. If the start ends the turn, returns the answer to the report. */
  readonly invokeAsync: (
    turn: LegacyTurn,
    op: Extract<TurnOp, { readonly _tag: "InvokeAsync" }>,
    outcomes: Outcomes
  ) => Effect.Effect<TurnAck | undefined, ConnectionError>
  /** Releases the run unchanged. */
  readonly release: (turn: LegacyTurn, outcomes: Outcomes) => Effect.Effect<TurnAck, ConnectionError>
}

/** A report that is being applied. If the report is sent again, only the ops from `nextOp` on are applied. */
export interface ReportInProgress {
  readonly report: TurnReport
  nextOp: number
  readonly outcomes: Array<Outcome | undefined>
}

export const beginReport = (report: TurnReport): ReportInProgress => ({ report, nextOp: 0, outcomes: [] })

/** Applies the remaining ops of a report. Returns the answer to the report when no op may follow. */
export const applyOps = (
  sink: LegacySink,
  turn: LegacyTurn,
  work: ReportInProgress,
  clock: Clock.Clock
): Effect.Effect<TurnAck | undefined, ConnectionError> =>
  Effect.gen(function* () {
    const { ops } = work.report
    for (; work.nextOp < ops.length; work.nextOp++) {
      const nowMs = clock.currentTimeMillisUnsafe()
      const end = yield* applyOp(sink, turn, ops[work.nextOp]!, work.outcomes, nowMs)
      if (end !== undefined) return end
    }
    return undefined
  })

/** Applies an op, and adds its outcome to `outcomes`. Returns the answer to the report when no op may follow. */
const applyOp = (
  sink: LegacySink,
  turn: LegacyTurn,
  op: TurnOp,
  outcomes: Array<Outcome | undefined>,
  nowMs: number
): Effect.Effect<TurnAck | undefined, ConnectionError> => {
  const continueWith = (outcome?: Outcome) => {
    outcomes.push(outcome)
    return Effect.succeed(undefined)
  }
  switch (op._tag) {
    case "StepDone":
      turn.addResult(op)
      return continueWith()
    case "StepRetry":
      turn.addRetry(op, nowMs)
      return continueWith()
    case "Sleep":
    case "WaitForEvent":
    case "Invoke":
      return continueWith(turn.addSuspended(op, nowMs))
    case "Settle":
      turn.addPassedWait(op.stepKey, nowMs)
      return continueWith()
    case "Withdraw":
      turn.withdraw(op.stepKey)
      return continueWith()
    case "Compensate":
      return continueWith()
    case "Publish":
      return Effect.flatMap(sink.publish(turn, op, nowMs), continueWith)
    case "Transact":
      // does not happen: the jobs of a legacy server do not allow transactions, so their turns report none
      return continueWith({ _tag: "Failure", error: serializeError(noTransactionsError(op.name)) })
    case "InvokeAsync":
      return Effect.flatMap(sink.invokeAsync(turn, op, outcomes), (ack) =>
        ack === undefined ? continueWith() : Effect.succeed(ack)
      )
    case "Complete":
      return sink.end(turn, { status: "completed", output: op.output }, outcomes)
    case "RetryRun":
      return sink.end(turn, { status: "failed", error: op.error, retryable: true }, outcomes)
    case "Fail":
      return sink.end(turn, { status: "failed", error: op.error, retryable: false }, outcomes)
    case "Pause":
      return sink.end(
        turn,
        {
          status: "failed",
          error: { name: "NondeterminismError", message: op.message, code: op.code },
          retryable: false
        },
        outcomes
      )
    case "Suspend":
      // when no reported step is open, the run has nothing to wait for: another turn finds out what to do
      return sink.end(
        turn,
        { status: "yielded", yield: turn.chooseWait(op.open, nowMs) ?? continuation(turn, nowMs) },
        outcomes
      )
    case "Release":
      return sink.release(turn, outcomes)
  }
}

/** A wait that only makes the run continue in another turn: a sleep until now, with a unique step key. */
export const continuation = ({ job }: LegacyTurn, nowMs: number): YieldInfo => ({
  type: "sleep",
  step_id: stepId(job.runId, continuationKey(job.jobId)),
  until: new Date(nowMs).toISOString()
})

/** The output of a run as a field of this name; no field when there is no output. */
export const outputField = <Name extends string>(
  name: Name,
  output: JsonText | undefined
): { readonly [field in Name]?: unknown } =>
  // the type has this field and no other
  output === undefined ? {} : ({ [name]: plainResult(output) } as { readonly [field in Name]?: unknown })

const noTransactionsError = (stepName: string): IronflowError =>
  new UnsupportedError(
    `Step "${stepName}" cannot run: the server of this worker does not have \`step.tx\`, which stores the writes together with the step. ` +
      "Write with `step.run` and an idempotency key instead"
  )
