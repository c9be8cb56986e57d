/** The exit codes of commands, as listed in docs/cli.md. */

/**
 * 0: done, or ended in order by a signal or because the reader of the output is gone. 1: failed, refused, or
 * ended by a signal before what it waited for. 2: used incorrectly; the same call can never succeed. 3: done for some of many runs. 4: done for none of them.
 */
export type ExitCode = 0 | 1 | 2 | 3 | 4

/**
 * The error codes whose exit code is not 1. The exit code 2 is for errors that the caller must fix, on the
 * command line or in the file with the functions.
 */
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

/** The exit code for an error with this code. */
export const exitCodeOf = (code: string): ExitCode => exitCodes[code] ?? 1
