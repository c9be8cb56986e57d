/** What observers are told about runs, after each commit. Times are epoch milliseconds. */
import type { EndedStatus } from "../../RunStatus.ts"
import type { Outcome, SerializedError } from "../../Protocol/Worker.ts"

/** The run of an activity. */
interface RunReference {
  readonly runId: string
  readonly functionId: string
  readonly environment: string
}

/** The run that a fork was made from. */
export interface ForkedFrom {
  readonly runId: string
  /** Name of a step, as the caller gave it: the fork has copies of the steps before this step. Absent when no steps are copied. */
  readonly step?: string
}

export type RunActivity =
  | (RunReference & {
      readonly _tag: "RunStarted"
      readonly at: number
      readonly forkedFrom?: ForkedFrom
    })
  /** A step succeeded, or failed in its last attempt. */
  | (RunReference & {
      readonly _tag: "StepEnded"
      readonly name: string
      readonly kind: string
      readonly outcome: Outcome
      /** Set when the data of the outcome is in the log: the position of the event that the step waited for. */
      readonly received?: number
      readonly attempt: number
      readonly startedAt: number
      readonly endedAt: number
    })
  /** An attempt of a step failed; the next attempt is due at `dueAt`. `failures` is how many attempts have failed. */
  | (RunReference & {
      readonly _tag: "StepFailed"
      readonly name: string
      readonly failures: number
      readonly error: SerializedError
      readonly dueAt: number
    })
  /** Something outside of steps failed; the run starts again from the top at `dueAt`. */
  | (RunReference & {
      readonly _tag: "RunFailed"
      readonly error: SerializedError
      readonly dueAt: number
    })
  | (RunReference & { readonly _tag: "RunPaused"; readonly message: string })
  | (RunReference & { readonly _tag: "RunResumed"; readonly fromStep?: string })
  /** A run that had failed or been cancelled goes on. */
  | (RunReference & { readonly _tag: "RunRetried"; readonly fromStep?: string })
  /** A client replaced the output of a step. */
  | (RunReference & {
      readonly _tag: "StepPatched"
      readonly name: string
      readonly reason: string
    })
  | (RunReference & {
      readonly _tag: "RunEnded"
      readonly status: EndedStatus
      /** The output of the run, or why the run failed or was cancelled. */
      readonly outcome: Outcome
      readonly createdAt: number
      readonly endedAt: number
    })

/**
 * A worker has claimed a run for the first time. Observers of all activity are told of this, but the history of the run does not
 * show it.
 */
interface RunTaken extends RunReference {
  readonly _tag: "RunTaken"
  readonly at: number
}

export type ObservedActivity = RunActivity | RunTaken

/** What went wrong in a run, and what follows. Listeners are always told of this, also without observers: for logs and metrics. */
export type RunFailureEvent = RunReference & { readonly worker?: string } & (
    | {
        /** An attempt of a step failed. The next attempt is due at `dueAt`; without `dueAt`, it was the last attempt. */
        readonly _tag: "AttemptFailed"
        readonly step: string
        readonly attempt: number
        readonly error: SerializedError
        readonly dueAt?: number
      }
    /** Something outside of steps failed; the run starts again from the top at `dueAt`. */
    | { readonly _tag: "TurnFailed"; readonly error: SerializedError; readonly dueAt: number }
    /** The lease was lost. `losses` is how often this has happened to the run since its last completed step. */
    | { readonly _tag: "LeaseLost"; readonly why: string; readonly losses: number }
    | { readonly _tag: "RunPaused"; readonly code: string; readonly message: string }
    | { readonly _tag: "RunFailed"; readonly error: SerializedError }
    | { readonly _tag: "RunCancelled"; readonly error: SerializedError }
  )
