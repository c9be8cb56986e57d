/** Limits of the checks, so that a call costs an engine a few milliseconds, however much data there is. */

/** Up to this number, the dead letters of one projection or group are counted. */
export const MAX_COUNTED_DEAD_LETTERS = 1000
/** Up to this number, unfinished runs are counted. Paused runs are searched among this many of the newest unfinished runs. */
export const MAX_COUNTED_RUNS = 5000
/** How many of the oldest unfinished runs are explained, and how many of the paused ones. */
export const MAX_EXPLAINED_RUNS = 40
/** How many runs, projections, groups or bulk operations the message of one check names. */
export const MAX_EXAMPLES = 5
/** How long a run may be ready before the check reports it, milliseconds. */
export const LATE_MS = 60_000
