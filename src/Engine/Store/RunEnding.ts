/** A run that has ended in its first turn, whole: whoever waits for it need not read it. */
import type { RunStatus } from "../../RunStatus.ts"

/** What does not change of a run in its first turn. */
export interface Taken {
  readonly eventId: string
  /** The data of the event, as it is stored. */
  readonly data: string
  readonly workerId: string
  /** The `traceparent` of its event. */
  readonly trace?: string
  /** Epoch milliseconds. */
  readonly startedAt: number
}

/** Times are epoch milliseconds, texts are as they are stored. */
export interface RunEnding extends Taken {
  readonly id: string
  /** The key of its function. */
  readonly function: number
  readonly status: RunStatus
  readonly output: string | null
  readonly error: string | null
  readonly createdAt: number
  readonly endedAt: number
}

/** Characters of data, or of an output, that are kept so that nobody need read them. */
export const MOST_KEPT = 4096
