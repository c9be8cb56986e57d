/** What happens to runs, told to those who look on as it is committed. Times are epoch milliseconds. */
import type { RunStatus } from "../../Client/Client.ts"
import type { Outcome, SerializedError } from "../../Protocol/Worker.ts"

export type RunActivity =
  | {
      readonly _tag: "RunStarted"
      readonly runId: string
      readonly functionId: string
      readonly environment: string
      readonly at: number
    }
  /** A step finished, or its failures are used up. */
  | {
      readonly _tag: "StepEnded"
      readonly runId: string
      readonly name: string
      readonly kind: string
      readonly outcome: Outcome
      readonly attempt: number
      readonly startedAt: number
      readonly endedAt: number
    }
  /** An execution of a step failed and the next one is due at `dueAt`. */
  | {
      readonly _tag: "StepFailed"
      readonly runId: string
      readonly name: string
      readonly failures: number
      readonly error: SerializedError
      readonly dueAt: number
    }
  /** Something outside of steps failed, and the run starts again from the top at `dueAt`. */
  | {
      readonly _tag: "RunFailed"
      readonly runId: string
      readonly error: SerializedError
      readonly dueAt: number
    }
  | { readonly _tag: "RunPaused"; readonly runId: string; readonly message: string }
  | {
      readonly _tag: "RunEnded"
      readonly runId: string
      readonly functionId: string
      readonly status: Extract<RunStatus, "completed" | "failed" | "cancelled">
      /** Its output, or why it failed or was cancelled. */
      readonly outcome: Outcome
      readonly createdAt: number
      readonly endedAt: number
    }
