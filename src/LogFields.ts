/** What a log line is about, beside its message. The names are the same everywhere: on the console, in JSON, in the lines of a run. */

/** Absent fields do not apply: a line about a worker has no step. */
export interface LogFields {
  /** The id of the run. */
  readonly run?: string
  /** The id of the function. */
  readonly function?: string
  /** The name of the step. */
  readonly step?: string
  /** Of the step if there is one, else of the run: executions so far, this one included. */
  readonly attempt?: number
  /** The id of the worker. */
  readonly worker?: string
  /** The environment that the line is about. */
  readonly environment?: string
  /** What else a line says in one word: the id of a key, how often a run was lost. */
  readonly [name: string]: unknown
}

/** The levels of lines, from talkative to grave. */
export const lineLevels = ["debug", "info", "warn", "error"] as const
export type LineLevel = (typeof lineLevels)[number]
