/** The statuses of a step, as clients receive them. */
export const stepStatuses = ["completed", "failed", "waiting", "running"] as const

/** The status of a step. */
export type StepStatus = (typeof stepStatuses)[number]
