/** All statuses of runs. How they are stored and sent is derived from this list. */
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

/** The status of a run. */
export type RunStatus = (typeof runStatuses)[number]

/** The final statuses. A run leaves a final status only at the request of a client, such as a retry. */
export const endedStatuses = ["completed", "failed", "cancelled"] as const satisfies ReadonlyArray<RunStatus>

export type EndedStatus = (typeof endedStatuses)[number]

export const isTerminal = (status: RunStatus): status is EndedStatus =>
  (endedStatuses as ReadonlyArray<RunStatus>).includes(status)

export const isRunStatus = (text: string): text is RunStatus =>
  (runStatuses as ReadonlyArray<string>).includes(text)
