/** How much is looked at, so that to ask costs an engine some milliseconds, however much there is. */

/** Dead letters of one projection or group are counted up to here. */
export const DEAD_LETTERS = 1000
/** Unfinished runs are counted up to here, and paused ones looked for among so many. */
export const LOOKED_AT = 5000
/** Of each kind of runs that are explained. */
export const SAMPLE = 40
/** Of those that are told. */
export const EXAMPLES = 5
/** How long a run may be ready before somebody should look at it, milliseconds. */
export const LATE_MS = 60_000
