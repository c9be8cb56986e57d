/** How a step of a run stands, as clients see it. */
export const stepStatuses = ["completed", "failed", "waiting", "running"] as const

/** What a step may be. */
export type StepStatus = (typeof stepStatuses)[number]
