/** The reasons of `explain`, and the documentation of each: `docs/reasons.md` has a section for every one. */

export const reasonCodes = [
  "RUNNING",
  "STUCK",
  "WORKER_STOPPING",
  "READY",
  "SLEEPING",
  "WAITING_FOR_EVENT",
  "WAITING_FOR_CHILD",
  "WAITING_FOR_RETRY",
  "NO_WORKER",
  "NO_WORKER_OF_VERSION",
  "ENDPOINT_UNAVAILABLE",
  "NO_CAPACITY",
  "CONCURRENCY_LIMIT",
  "ACTOR_BUSY",
  "PAUSED",
  "FUNCTION_PAUSED",
  "DAMAGED",
  "COMPLETED",
  "FAILED",
  "CANCELLED"
] as const

export type ReasonCode = (typeof reasonCodes)[number]

/**
 * The path to the documentation of a reason, relative to this package; `undefined` for an unknown reason of a newer
 * server.
 */
export const pageOfReason = (code: string): string | undefined =>
  reasonCodes.some((reason) => reason === code) ? `docs/reasons.md#${code.toLowerCase()}` : undefined
