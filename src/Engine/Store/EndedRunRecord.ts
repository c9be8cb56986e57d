/**
 * What callers who wait for the end of a run need to know of the run, so that they need not read it. This record is kept only for
 * runs that ended in their first turn.
 */
import type { RunStatus } from "../../RunStatus.ts"

/** The data of a run that is known when its first turn begins. */
export interface FirstTurnFacts {
  readonly eventId: string
  /** The data of the event, as it is stored. */
  readonly data: string
  readonly workerId: string
  /** The `traceparent` of the event. */
  readonly trace?: string
  /** Epoch milliseconds. */
  readonly startedAt: number
}

/** A run that ended in its first turn. Times are epoch milliseconds; strings are as stored. */
export interface EndedRunRecord extends FirstTurnFacts {
  readonly id: string
  /** The key of the function of the run. */
  readonly function: number
  readonly status: RunStatus
  readonly output: string | null
  readonly error: string | null
  readonly createdAt: number
  readonly endedAt: number
}

/** A run whose event data or output is longer than this has no {@link EndedRunRecord}: callers read the run from the database. */
export const MAX_KEPT_CHARS = 4096
