/** Reports why a command failed, in one line, and determines its exit code. */
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import { type CliError, isCliError } from "effect/cli/CliError"
import { isObject } from "../Json.ts"
import { levelFromEnvironment } from "../Logger.ts"
import { type ExitCode, exitCodeOf } from "./ExitCodes.ts"
import { toCommandLineWords } from "./CommandLineWords.ts"
import { oneLine } from "./Output.ts"

export interface Failure {
  readonly code: string
  readonly message: string
  readonly exitCode: ExitCode
}

/** The failure that a cause holds. `undefined` when the user asked for help, or a signal has stopped the command. */
export const failureOf = (cause: Cause.Cause<unknown>): Failure | undefined => {
  if (Cause.hasInterruptsOnly(cause)) return undefined
  const error = Cause.squash(cause)
  if (isCliError(error)) {
    if (error._tag !== "ShowHelp")
      return { code: "USAGE", message: messageOf(error), exitCode: exitCodeOf("USAGE") }
    if (error.errors.length === 0) return undefined
    return {
      code: "USAGE",
      message:
        `${error.errors.map((one) => sentence(messageOf(one))).join(" ")} ` +
        `See \`${error.commandPath.join(" ")} --help\`.`,
      exitCode: exitCodeOf("USAGE")
    }
  }
  // `QuitError` of `effect/Terminal`: the user has pressed Ctrl-C at a prompt
  if (isObject(error) && error._tag === "QuitError") {
    return { code: "CANCELLED", message: "Cancelled: nothing was changed.", exitCode: 1 }
  }
  // checks the shape and not the class, since the user's file may use another copy of this package
  if (error instanceof Error && "code" in error && typeof error.code === "string" && "retryable" in error) {
    return {
      code: error.code,
      message: `${sentence(oneLine(toCommandLineWords(error.message)))}${listHint(error.code)}`,
      exitCode: exitCodeOf(error.code)
    }
  }
  const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return {
    code: "UNEXPECTED",
    message: `${sentence(oneLine(reason))} This error is unexpected: set IRONFLOW_LOG_LEVEL=debug to see where it comes from.`,
    exitCode: 1
  }
}

const messageOf = (error: CliError): string =>
  error._tag === "InvalidValue" && error.kind === "flag" && error.value.trim() === ""
    ? // an empty value is often an unset shell variable; a command that ignored the flag could do more than was meant
      `--${error.option} is empty: give it a value, or leave it out`
    : oneLine(joinSuggestions(error.message).replace("a string representing a finite number", "a number"))

/** `effect/cli` puts each suggestion on a line of its own; this function joins the suggestions with "or". */
const joinSuggestions = (message: string): string =>
  message.replace(
    /\s*Did you mean this\?\s*([^]*)$/,
    (_, names: string) =>
      `: did you mean ${names
        .trim()
        .split(/\s*\n\s*/)
        .join(" or ")}?`
  )

/** Prints the failure to standard error. With `IRONFLOW_LOG_LEVEL=debug`, prints all known details too. */
export const report = (cause: Cause.Cause<unknown>, json: boolean): Effect.Effect<void> => {
  const failure = failureOf(cause)
  if (failure === undefined) return Effect.void
  const { code, message } = failure
  const print = Console.error(json ? JSON.stringify({ error: { code, message } }) : `Error: ${message}`)
  return levelFromEnvironment() === "debug"
    ? Effect.andThen(print, Console.error(Cause.pretty(cause)))
    : print
}

/** For each code of something that was not found: the command that lists what exists. */
const listCommands: { readonly [code: string]: string } = {
  API_KEY_NOT_FOUND: "apikeys list",
  BUCKET_NOT_FOUND: "kv buckets",
  BULK_NOT_FOUND: "bulk list",
  CONFIG_NOT_FOUND: "config list",
  CONSUMER_GROUP_NOT_FOUND: "groups list",
  ENDPOINT_NOT_FOUND: "functions endpoints",
  EVENT_NOT_FOUND: "events list",
  FUNCTION_NOT_FOUND: "functions list",
  ORG_NOT_FOUND: "orgs list",
  POLICY_NOT_FOUND: "policies list",
  PROJECTION_NOT_FOUND: "projections list",
  ROLE_NOT_FOUND: "roles list",
  RUN_NOT_FOUND: "runs list",
  SECRET_NOT_FOUND: "secrets list",
  STREAM_NOT_FOUND: "streams list"
}

const listHint = (code: string): string =>
  Object.hasOwn(listCommands, code) ? ` \`ironflow ${listCommands[code]}\` shows what exists.` : ""

const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`)
