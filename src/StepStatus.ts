/** How a step of a run stands, as clients see it. */
export const stepStatuses = ["completed", "failed", "waiting", "running"] as const

export type StepStatus = (typeof stepStatuses)[number]
