/** Makes the ops with which a turn reports its steps, and encodes the outcomes in them. */
import { withCallSite } from "../CallSite.ts"
import { encodedFailure, type SerializedError, serializeError } from "../Errors.ts"
import type { Outcome, TurnOp, TxWrite } from "../Protocol/Worker.ts"
import type { JsonText } from "../Json.ts"
import { checkSize, stepResultBytes } from "../Limits.ts"
import { encodeResult } from "../ResultEncoding.ts"
import type { Attempt, AttemptExit } from "./Attempt.ts"
import type { WaitOp } from "./UnseenEvents.ts"
import type { StepCall } from "./StepCall.ts"

/**
 * The number of an attempt, from 1 (0 for a step that never ran), and when it began and ended, in epoch
 * milliseconds.
 */
export interface Execution {
  readonly attempt: number
  readonly startedAt: number
  readonly endedAt: number
}

export const stepDoneOp = (
  { key, kind, name }: Pick<StepCall, "key" | "kind" | "name">,
  outcome: Outcome,
  execution: Execution
): TurnOp => ({ _tag: "StepDone", stepKey: key, name, kind, outcome, ...execution })

/** The op that applies the writes of a `step.tx` whose code has ended. */
export const transactOp = (
  { call, number, startedAt }: Attempt,
  value: JsonText | undefined,
  writes: ReadonlyArray<TxWrite>,
  endedAt: number
): TurnOp => ({
  _tag: "Transact",
  stepKey: call.key,
  name: call.name,
  value,
  writes,
  attempt: number,
  startedAt,
  endedAt
})

/** The op for an attempt that has failed and will be retried. */
export const stepRetryOp = (
  { failures, key, kind, name }: StepCall,
  error: SerializedError,
  afterMs: number
): TurnOp => ({ _tag: "StepRetry", stepKey: key, name, kind, failures, error, due: { afterMs } })

export type FailedExit = Extract<AttemptExit, { readonly _tag: "Failure" }>

/**
 * How the code of a step ended, with its result encoded. A result that cannot be stored becomes a failure.
 */
export const encodeExit = (
  exit: AttemptExit,
  stepName: string
): { readonly _tag: "Success"; readonly value: JsonText | undefined } | FailedExit => {
  if (exit._tag === "Failure") return exit
  try {
    const what = `Result of step "${stepName}"`
    return { _tag: "Success", value: checkSize(what, encodeResult(exit.value, what), stepResultBytes) }
  } catch (error) {
    return { _tag: "Failure", error }
  }
}

/** A failure in the form of the journal. `site` is the place where the step was called. */
export const storedFailure = ({ encoded, error }: FailedExit, site: string): SerializedError => {
  const thrownError = serializeError(error)
  const stack = withCallSite(thrownError.stack ?? `${thrownError.name}: ${thrownError.message}`, site)
  // a thrown value that is no error has no stack of its own; when the call site is unknown too, none is stored
  const errorWithSite =
    thrownError.stack === undefined && site === "" ? thrownError : { ...thrownError, stack }
  return withEncoding(errorWithSite, encoded)
}

/** The error, with the typed failure in encoded form if there is one. */
export const withEncoding = (stored: SerializedError, encoded: unknown): SerializedError =>
  encoded === undefined ? stored : { ...stored, data: { ...stored.data, [encodedFailure]: encoded } }

/**
 * The op of a wait for an event, as it is reported. A wait also accepts past events, back to the last event that an
 * equal wait has received. The op names the waits of `call.unseenWaits` that are in the journal by now: the engine then
 * treats these waits as if they had received nothing.
 */
export const waitToReport = (call: StepCall, op: WaitOp): WaitOp => {
  const unseen = call.unseenWaits
    ?.filter(({ pendingOutcome }) => pendingOutcome !== undefined)
    .map(({ key }) => key)
  call.unseenWaits = undefined
  return unseen === undefined || unseen.length === 0 ? op : { ...op, unseen }
}

/**
 * The outcome of a step whose op the engine has accepted without returning the outcome that it should have returned.
 */
export const unansweredOutcome: Outcome = {
  _tag: "Failure",
  error: {
    name: "ReportError",
    message:
      "The engine has accepted the step, but did not return its result. This is a bug of the engine: please report it",
    code: "STEP_NOT_ANSWERED",
    retryable: false
  }
}
