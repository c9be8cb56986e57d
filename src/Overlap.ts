/** What a fire of a cron trigger does while the run of the fire before has not ended. */
export const overlaps = ["allow", "skip", "queue"] as const

/** It starts another run, is left out, or waits for the end of that run. */
export type Overlap = (typeof overlaps)[number]
