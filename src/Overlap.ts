/** The policies for a cron fire while the run of the previous fire has not ended. */
export const overlaps = ["allow", "skip", "queue"] as const

/** `allow` starts another run, `skip` starts none, `queue` waits for the end of the previous run. */
export type Overlap = (typeof overlaps)[number]
