/** Repeats calls while a server is away, for commands that continue when the server is back. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { isIronflowError } from "../Errors.ts"
import { failureOf } from "./FailureReport.ts"

const INTERVAL_MS = 1000
const FOREVER = Number.MAX_SAFE_INTEGER

/**
 * Repeats a call every second while it fails for a reason that may pass, such as a restart of the server. Prints the
 * first such error to standard error, except with `--json`. Gives up after `times` repetitions; by default it continues
 * until it is interrupted.
 */
export const keepTrying = <A, E, R>(
  call: Effect.Effect<A, E, R>,
  { times = FOREVER }: { readonly times?: number } = {}
): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    let isSilent = process.argv.includes("--json")
    const printOnce = (error: E) =>
      Effect.sync(() => {
        if (isSilent || !isTemporary(error)) return
        isSilent = true
        process.stderr.write(
          `${failureOf(Cause.fail(error))?.message} Trying again ${times === FOREVER ? "until the server answers" : "every second"}.\n`
        )
      })
    return Effect.retry(Effect.tapError(call, printOnce), {
      while: isTemporary,
      schedule: Schedule.spaced(INTERVAL_MS),
      times
    })
  })

/** Whether the same call may succeed later. */
export const isTemporary = (error: unknown): boolean => isIronflowError(error) && error.retryable
