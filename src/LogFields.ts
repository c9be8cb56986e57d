/**
 * The fields of a log line, besides its message. Their names are the same on the console, in JSON, and in the
 * log lines of a run.
 */

/** The fields of a log line. A field that does not apply is absent: a line about a worker has no `step`. */
export interface LogFields {
  /** The id of the run. */
  readonly run?: string
  /** The id of the function. */
  readonly function?: string
  /** The name of the step. */
  readonly step?: string
  /** The current attempt of the step, or else of the run, from 1. */
  readonly attempt?: number
  /** The id of the worker. */
  readonly worker?: string
  /** The environment in which this happens. */
  readonly environment?: string
  /** Other short facts, such as the id of an API key, or how often a run was lost. */
  readonly [name: string]: unknown
}

/** Levels of log lines, from the least to the most important. */
export const lineLevels = ["debug", "info", "warn", "error"] as const
export type LineLevel = (typeof lineLevels)[number]
