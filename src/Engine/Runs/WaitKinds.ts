/** How the kinds of waits, and the wait of a whole run, are stored. */

/**
 * The numbers by which the kinds of waits are stored. They are part of the database. `runRetry` waits for the next attempt of the
 * whole run.
 */
export const WaitKind = { sleep: 1, event: 2, child: 3, retry: 4, runRetry: 5 } as const

/** The names of the kinds, in the order of their numbers. */
export const waitKinds = ["sleep", "event", "child", "retry", "run-retry"] as const

/** The step key of the wait for the next attempt of the whole run. */
export const RUN_ITSELF = ""
