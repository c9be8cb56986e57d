/** Limits of the checks, so that a call costs an engine a few milliseconds, however much data there is. */

/** Maximum number of dead letters of one projection or group that are counted. */
export const MAX_COUNTED_DEAD_LETTERS = 1000
/** Maximum number of unfinished runs that are counted. Paused runs are searched among so many of the newest unfinished runs. */
export const MAX_COUNTED_RUNS = 5000
/** How many of the oldest unfinished runs are explained, and how many of the paused runs. */
export const MAX_EXPLAINED_RUNS = 40
/** How many runs, projections, groups or bulk operations the message of one check names. */
export const MAX_EXAMPLES = 5
/** How long a run may be ready before the check reports it. */
export const LATE_MS = 60_000
