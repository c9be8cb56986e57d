/** What a cron trigger does when it fires while the run of its previous fire has not ended. */
export const overlaps = ["allow", "skip", "queue"] as const

/** `allow` starts another run, `skip` starts none, and `queue` starts one when the previous run has ended. */
export type Overlap = (typeof overlaps)[number]
