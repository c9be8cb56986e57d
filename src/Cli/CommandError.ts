/** Errors that only occur in commands. */
import { IronflowError } from "../Errors.ts"

export type CommandErrorCode =
  | "USAGE"
  | "MODULE_NOT_FOUND"
  | "MODULE_INVALID"
  | "NO_FUNCTIONS"
  | "STDIN_UNREADABLE"
  | "STDOUT_UNWRITABLE"
  | "CHECKS_FAILED"
  | "NO_RUN_STARTED"
  | "RUN_NOT_COMPLETED"
  | "CANCELLED"
  | "BULK_STOPPED"
  | "SOME_RUNS"
  | "NO_RUNS"

/**
 * The command was used incorrectly, could not read its input or write its output, or did not achieve what it was called
 * for: a check failed, a run did not complete, or some runs were not changed.
 */
export class CommandError extends IronflowError {
  declare readonly _tag: "CommandError"
  declare readonly code: CommandErrorCode
  constructor(message: string, options: { readonly code: CommandErrorCode; readonly cause?: unknown }) {
    super(message, options)
  }
}
Object.defineProperty(CommandError.prototype, "_tag", { value: "CommandError" })
