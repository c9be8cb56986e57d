/** What commands exit with: the table of docs/cli.md. */

/**
 * 0: done, or ended in good order by a signal or a reader that is gone. 1: it failed, or was refused. 2: it was not used right, and has to be
 * changed before it can work. 3: it was done to some of many runs, 4: to none.
 */
export type ExitCode = 0 | 1 | 2 | 3 | 4

/** The codes of errors that are no failures (1): 2 for what the caller has to put right, on the command line or in the file. */
export const exitCodes: { readonly [code: string]: ExitCode } = {
  USAGE: 2,
  VALIDATION_ERROR: 2,
  LIMIT_EXCEEDED: 2,
  INVALID_PATTERN: 2,
  MODULE_NOT_FOUND: 2,
  MODULE_INVALID: 2,
  NO_FUNCTIONS: 2,
  FUNCTION_REGISTRATION_FAILED: 2,
  SOME_RUNS: 3,
  NO_RUNS: 4
}

/** What a command exits with that has failed with an error of this code. */
export const exitCodeOf = (code: string): ExitCode => exitCodes[code] ?? 1
