/** Waits for the end of a run over HTTP: asks the server to wait, and asks again until the run has ended. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { type IronflowError, TimeoutError, ValidationError } from "../Errors.ts"
import { MAX_WAIT_MS } from "../Protocol/Http/Turns.ts"
import * as runs from "../Protocol/Runs.ts"
import type { WireRun } from "../Protocol/Runs.ts"
import { isTerminal } from "../RunStatus.ts"
import { show, showMs } from "../Show.ts"
import type { ClientApi, EffectKind, Run, WaitForRunOptions } from "./Client.ts"
import type { OperationCalls } from "./OperationCalls.ts"
import * as Answers from "./HttpAnswers.ts"
import type { Raw } from "./NarrowErrors.ts"

interface WaitForRunCalls extends Pick<Raw<ClientApi<EffectKind>>, "explain" | "getRun"> {
  readonly ask: OperationCalls["ask"]
  /** The timeout of a request that does not wait, in milliseconds. */
  readonly timeoutMs: number
}

interface WaitResult {
  /** The run, if it has ended. */
  readonly run: Run | undefined
  /** Whether the server supports waiting. */
  readonly canWait: boolean
}

/** Makes the method `waitForRun` from calls to a server. */
export const makeWaitForRun = ({
  ask,
  explain,
  getRun,
  timeoutMs
}: WaitForRunCalls): Raw<ClientApi<EffectKind>>["waitForRun"] => {
  /** Waits for at most `waitMs` milliseconds. A server that cannot wait answers at once. */
  const wait = (runId: string, waitMs: number) =>
    ask<WireRun, WaitResult>(
      runs.waitForRun,
      "waitForRun",
      {
        variables: { id: runId },
        query: `?timeout=${Math.ceil(waitMs)}`,
        timeoutMs: waitMs + timeoutMs,
        whenUnsupported: () =>
          Effect.map(getRun(runId), (run) => ({
            run: isTerminal(run.status) ? run : undefined,
            canWait: false
          }))
      },
      (answer) => {
        const run = answer === undefined ? undefined : Answers.readRun(answer)
        // an empty answer means that the time is up; any other answer without a run cannot be read
        return answer !== undefined && run === undefined ? undefined : { run, canWait: true }
      }
    )

  const failTimedOut = (runId: string, timeout: number): Effect.Effect<never, IronflowError> =>
    Effect.flatMap(
      // the reason improves the message; if it cannot be read, the timeout is reported without it
      Effect.catch(
        Effect.map(explain(runId), ({ message }) => ` ${message}`),
        () => Effect.succeed("")
      ),
      (reason) =>
        Effect.fail(
          new TimeoutError(
            `Run ${runId} has not ended within ${showMs(timeout)}. Only the wait is over: the run itself is unchanged.${reason}`,
            timeout
          )
        )
    )

  return (runId, { timeout }: WaitForRunOptions = {}) =>
    Effect.gen(function* () {
      if (timeout !== undefined && !(timeout >= 0 && Number.isFinite(timeout))) {
        return yield* new ValidationError(
          `The timeout of waitForRun must be a number of milliseconds, at least 0, got ${show(timeout)}`
        )
      }
      const clock = yield* Clock.Clock
      const elapsedMs = stopwatch(clock)
      for (let pauseMs = 200; ; pauseMs = Math.min(pauseMs * 1.5, 2000)) {
        const remainingMs = timeout === undefined ? Number.POSITIVE_INFINITY : timeout - elapsedMs()
        const { canWait, run } = yield* wait(runId, Math.max(0, Math.min(remainingMs, MAX_WAIT_MS)))
        if (run !== undefined) return run
        if (timeout !== undefined && elapsedMs() >= timeout) return yield* failTimedOut(runId, timeout)
        if (!canWait) {
          yield* Effect.sleep(timeout === undefined ? pauseMs : Math.min(pauseMs, timeout - elapsedMs()))
        }
      }
    })
}

const stopwatch = (clock: Clock.Clock): (() => number) => {
  const startedAtNanos = clock.monotonicTimeNanosUnsafe()
  return () => Number(clock.monotonicTimeNanosUnsafe() - startedAtNanos) / 1e6
}
