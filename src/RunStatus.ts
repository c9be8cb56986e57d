/** The statuses of runs: this list is the only one. How they are stored and how they travel is derived from it. */
export const runStatuses = [
  "pending",
  "running",
  "waiting",
  "compensating",
  "paused",
  "completed",
  "failed",
  "cancelled"
] as const

export type RunStatus = (typeof runStatuses)[number]

/** The statuses that a run never leaves by itself. */
export type EndedStatus = Extract<RunStatus, "completed" | "failed" | "cancelled">

export const isTerminal = (status: RunStatus): status is EndedStatus =>
  status === "completed" || status === "failed" || status === "cancelled"

export const isRunStatus = (text: string): text is RunStatus =>
  (runStatuses as ReadonlyArray<string>).includes(text)
