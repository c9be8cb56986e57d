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

/** What a run may be. */
export type RunStatus = (typeof runStatuses)[number]

/** The statuses that a run never leaves by itself. */
export const endedStatuses = ["completed", "failed", "cancelled"] as const satisfies ReadonlyArray<RunStatus>

export type EndedStatus = (typeof endedStatuses)[number]

export const isTerminal = (status: RunStatus): status is EndedStatus =>
  (endedStatuses as ReadonlyArray<RunStatus>).includes(status)

export const isRunStatus = (text: string): text is RunStatus =>
  (runStatuses as ReadonlyArray<string>).includes(text)
