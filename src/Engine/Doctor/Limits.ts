/** Limits of the checks. With them, the checks cost an engine only a few milliseconds, however much data there is. */

/** Maximum number of dead letters of one projection or group that are counted. */
export const MAX_COUNTED_DEAD_LETTERS = 1000
/**
 * Maximum number of unfinished runs that are counted. Paused runs are looked for among this many of the newest unfinished runs.
 */
export const MAX_COUNTED_RUNS = 5000
/** This many of the oldest unfinished runs are explained at most, and as many paused runs. */
export const MAX_EXPLAINED_RUNS = 40
/** The message of a check names at most this many runs, projections, groups or bulk operations. */
export const MAX_EXAMPLES = 5
/** The check reports a run that has been ready for longer than this. */
export const MAX_READY_MS = 60_000
