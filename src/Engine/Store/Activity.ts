/** What happens to runs, told to those who look on as it is committed. Times are epoch milliseconds. */
import type { EndedStatus } from "../../RunStatus.ts"
import type { Outcome, SerializedError } from "../../Protocol/Worker.ts"

interface OfRun {
  readonly runId: string
  readonly functionId: string
  readonly environment: string
}

/** What a run is a fork of. */
export interface ForkedFrom {
  readonly runId: string
  /** The step, as it was named, up to which its steps are copied; absent where none are. */
  readonly step?: string
}

export type RunActivity =
  | (OfRun & {
      readonly _tag: "RunStarted"
      readonly at: number
      readonly forkedFrom?: ForkedFrom
    })
  /** A step finished, or its failures are used up. */
  | (OfRun & {
      readonly _tag: "StepEnded"
      readonly name: string
      readonly kind: string
      readonly outcome: Outcome
      /** The log has the text of the outcome: the event at this position, for which a wait has waited. */
      readonly received?: number
      readonly attempt: number
      readonly startedAt: number
      readonly endedAt: number
    })
  /** An execution of a step failed and the next one is due at `dueAt`. */
  | (OfRun & {
      readonly _tag: "StepFailed"
      readonly name: string
      readonly failures: number
      readonly error: SerializedError
      readonly dueAt: number
    })
  /** Something outside of steps failed, and the run starts again from the top at `dueAt`. */
  | (OfRun & {
      readonly _tag: "RunFailed"
      readonly error: SerializedError
      readonly dueAt: number
    })
  | (OfRun & { readonly _tag: "RunPaused"; readonly message: string })
  | (OfRun & { readonly _tag: "RunResumed"; readonly fromStep?: string })
  /** A run that had failed or been cancelled goes on. */
  | (OfRun & { readonly _tag: "RunRetried"; readonly fromStep?: string })
  /** Somebody gave a step another output. */
  | (OfRun & {
      readonly _tag: "StepPatched"
      readonly name: string
      readonly reason: string
    })
  | (OfRun & {
      readonly _tag: "RunEnded"
      readonly status: EndedStatus
      /** Its output, or why it failed or was cancelled. */
      readonly outcome: Outcome
      readonly createdAt: number
      readonly endedAt: number
    })

/** A worker has a run for the first time. It is told to those who look at everything, and is no part of a run's history. */
interface RunTaken extends OfRun {
  readonly _tag: "RunTaken"
  readonly at: number
}

export type Seen = RunActivity | RunTaken

/** What went wrong in a run, and what was done to one: it is always told, for logs and metrics. What goes well is not in it. */
export type Trouble = OfRun & { readonly worker?: string } & (
    | {
        /** An execution of a step failed; without `dueAt` there is no other one. */
        readonly _tag: "AttemptFailed"
        readonly step: string
        readonly attempt: number
        readonly error: SerializedError
        readonly dueAt?: number
      }
    /** Something outside of steps failed, and the run starts again from the top at `dueAt`. */
    | { readonly _tag: "TurnFailed"; readonly error: SerializedError; readonly dueAt: number }
    /** `losses`: how often its workers were lost without a step being completed in between. */
    | { readonly _tag: "LeaseLost"; readonly why: string; readonly losses: number }
    | { readonly _tag: "RunPaused"; readonly code: string; readonly message: string }
    | { readonly _tag: "RunFailed"; readonly error: SerializedError }
    | { readonly _tag: "RunCancelled"; readonly error: SerializedError }
  )
