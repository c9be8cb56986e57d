/** The statuses of a step in clients. */
export const stepStatuses = ["completed", "failed", "waiting", "running"] as const

/** The status of a step. */
export type StepStatus = (typeof stepStatuses)[number]
