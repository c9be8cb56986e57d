/** Limits of the checks, so that a call costs an engine a few milliseconds, however much data there is. */

/** Dead letters of one projection or group are counted up to this number. */
export const MAX_COUNTED_DEAD_LETTERS = 1000
/** Unfinished runs are counted up to this number, and paused ones are searched among this many. */
export const MAX_COUNTED_RUNS = 5000
/** How many runs of each kind are explained. */
export const MAX_EXPLAINED_RUNS = 40
/** How many of them are named. */
export const MAX_EXAMPLES = 5
/** How long a run may be ready before the check reports it, milliseconds. */
export const LATE_MS = 60_000
