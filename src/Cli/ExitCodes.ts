/** The exit codes of commands, as listed in docs/cli.md. */

/**
 * - 0: the command has done what it was called for. Also for a command that waits for no result, such as `serve`, when it was
 *   stopped by a signal or by the end of the program that reads its output.
 * - 1: the command failed or was refused. Also for a command that waits for a result, when it was stopped in one of these ways
 *   before it had the result; and for any command that only a second signal could end.
 * - 2: the command line, or the file with the functions, must be corrected first.
 * - 3: the command has changed some of the runs, and not the others.
 * - 4: the command has changed no run.
 */
export type ExitCode = 0 | 1 | 2 | 3 | 4

/**
 * The exit codes of the errors whose exit code is not 1. The exit code 2 is for errors that the caller must fix, on the
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
