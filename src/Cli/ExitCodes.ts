/** The exit codes of commands, as listed in docs/cli.md. */

/**
 * 0: done, or ended cleanly by a signal or because the reader of the output is gone. 1: failed or refused. 2: used
 * incorrectly; it cannot work without a change. 3: done to some of many runs. 4: done to none of them.
 */
export type ExitCode = 0 | 1 | 2 | 3 | 4

/** Exit codes of errors other than 1: 2 for errors that the caller must fix, on the command line or in the file. */
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

/** The exit code for an error of this code. */
export const exitCodeOf = (code: string): ExitCode => exitCodes[code] ?? 1
