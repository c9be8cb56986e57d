/** The reasons that `explain` gives, and where it is written what to do about each: `docs/reasons.md` has a section for every one. */

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

/** Where a reason is told of, in the folder of this package; `undefined` for one that a newer server has. */
export const pageOfReason = (code: string): string | undefined =>
  reasonCodes.some((one) => one === code) ? `docs/reasons.md#${code.toLowerCase()}` : undefined
