/**
 * Runs the code of every step once more after it has succeeded. The same happens when a process dies after a step has
 * done its work and before the result is recorded.
 */
import { NonRetryableError, toError } from "../Errors.ts"
import { Attempt, type AttemptExit } from "../Execution/Attempt.ts"
import type { StepCode } from "../Execution/StepCall.ts"
import type { TurnProbe } from "../Execution/TurnProbe.ts"

/**
 * Which of the two results counts. With `"dropFirst"` the first result is lost, as after a crash. With `"keepFirst"`
 * the second result is lost. The same happens to a worker that has lost its lease, when another worker has already
 * recorded a result of the step.
 */
export type RepeatedSteps = "keepFirst" | "dropFirst"

export const repeatingProbe = (which: RepeatedSteps): TurnProbe => ({
  begin: (attempt, code) =>
    runOnce(attempt, code, (first, firstTx) => {
      // a step that failed has not finished: its retry policy runs it again anyway
      if (first._tag === "Failure") return attempt.end(first)
      runOnce(attempt, code, (second, secondTx) => {
        if (second._tag === "Failure")
          return attempt.end({ _tag: "Failure", error: notRepeatableError(attempt, second.error) })
        attempt.tx = which === "keepFirst" ? firstTx : secondTx
        attempt.end(which === "keepFirst" ? first : second)
      })
    })
})

const notRepeatableError = (attempt: Attempt, error: unknown): NonRetryableError =>
  new NonRetryableError(
    `Step "${attempt.call.name}" succeeded, and failed when \`repeatSteps\` ran its code again: ${toError(error).message}. ` +
      "Outside of tests a step runs again when its process dies before the result is recorded: make it idempotent, for example by its idempotencyKey",
    { code: "STEP_NOT_IDEMPOTENT", cause: error }
  )

/** Runs the code once. For a `step.tx`, `end` also receives the collected writes. */
const runOnce = (
  attempt: Attempt,
  code: StepCode,
  end: (exit: AttemptExit, tx: Attempt["tx"]) => void
): void => {
  const once = new Attempt(
    {
      idempotencyKey: () => attempt.idempotencyKey,
      attemptEnded: ({ tx }, exit) => {
        tx?.close()
        end(exit, tx)
      }
    },
    attempt.call,
    attempt.number,
    attempt.startedAt
  )
  attempt.interrupt = () => once.interrupt?.()
  const { signal } = attempt
  signal.addEventListener("abort", () => once.abort(toError(signal.reason)), { once: true })
  code.begin(once)
}
