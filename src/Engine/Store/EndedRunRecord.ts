/** The full ending of a run that ended in its first turn. With it, callers that wait for the end need not read the run. */
import type { RunStatus } from "../../RunStatus.ts"

/** The parts of a run that do not change in its first turn. */
export interface FirstTurnFacts {
  readonly eventId: string
  /** The data of the event, as it is stored. */
  readonly data: string
  readonly workerId: string
  /** The `traceparent` of its event. */
  readonly trace?: string
  /** Epoch milliseconds. */
  readonly startedAt: number
}

/** Times are epoch milliseconds; strings are as stored. */
export interface EndedRunRecord extends FirstTurnFacts {
  readonly id: string
  /** The key of its function. */
  readonly function: number
  readonly status: RunStatus
  readonly output: string | null
  readonly error: string | null
  readonly createdAt: number
  readonly endedAt: number
}

/** Maximum number of characters of data, and of output, that are kept for this. */
export const MAX_KEPT_CHARS = 4096
