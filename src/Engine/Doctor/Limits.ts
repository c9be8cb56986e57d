/** Limits of the checks, so that a call costs an engine a few milliseconds, however much data there is. */

/** Up to this number, the dead letters of one projection or group are counted. */
export const MAX_COUNTED_DEAD_LETTERS = 1000
/** Up to this number, unfinished runs are counted. Paused runs are searched among as many. */
export const MAX_COUNTED_RUNS = 5000
/** How many runs of each kind are explained. */
export const MAX_EXPLAINED_RUNS = 40
/** How many of the explained runs are named. */
export const MAX_EXAMPLES = 5
/** How long a run may be ready before the check reports it, milliseconds. */
export const LATE_MS = 60_000
