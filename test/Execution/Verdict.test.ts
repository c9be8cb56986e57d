import { assert, describe, it } from "@effect/vitest"
import { NonRetryableError, StepAbortedError, ValidationError } from "../../src/Errors.ts"
import {
  attemptVerdict,
  type FailedAttempt,
  type FailedHandler,
  handlerVerdict
} from "../../src/Execution/Verdict.ts"

const down = new Error("the service is down")
const declined = new NonRetryableError("the card was declined")
const stopRequest = new StepAbortedError("charge", "another branch has failed")

describe("a failed attempt of a step", () => {
  const failed: FailedAttempt = {
    error: down,
    abortReason: undefined,
    failures: 1,
    maxAttempts: 3,
    isStopped: false
  }
  for (const [what, given, verdict] of [
    ["is tried again", {}, "again"],
    ["is tried again when one more attempt is allowed", { failures: 2 }, "again"],
    ["has failed when it was the last attempt", { failures: 3 }, "failed"],
    ["has failed when it is the only attempt", { maxAttempts: 1 }, "failed"],
    ["has failed when its error is not retryable", { error: declined }, "failed"],
    ["has failed when its value cannot be stored", { error: new ValidationError("too large") }, "failed"],
    [
      "has failed when the thrown value is not an error, and it was the last attempt",
      { error: 7, failures: 3 },
      "failed"
    ],
    ["is tried again in another turn when its branch is stopped", { isStopped: true }, "stopped"],
    [
      "has failed in a stopped branch when it was the last attempt",
      { isStopped: true, failures: 3 },
      "failed"
    ],
    [
      "has failed in a stopped branch when its error is not retryable",
      { isStopped: true, error: declined },
      "failed"
    ],
    [
      "has no outcome when it failed because it was told to stop",
      { abortReason: stopRequest, error: stopRequest },
      "stopped"
    ],
    [
      "has no outcome when it failed because it was told to stop, even if it was the last attempt",
      { abortReason: stopRequest, error: new Error("gave up", { cause: stopRequest }), failures: 3 },
      "stopped"
    ],
    [
      "has failed when it was told to stop, but failed for another reason",
      { abortReason: stopRequest, error: declined },
      "failed"
    ]
  ] as ReadonlyArray<[string, Partial<FailedAttempt>, ReturnType<typeof attemptVerdict>]>) {
    it(what, () => assert.strictEqual(attemptVerdict({ ...failed, ...given }), verdict))
  }
})

describe("a failed handler", () => {
  const failed: FailedHandler = {
    error: down,
    isStepFailure: false,
    attempt: 1,
    maxAttempts: 3,
    compensations: 0
  }
  for (const [what, given, verdict] of [
    ["is tried again", {}, "again"],
    ["is tried again before it is compensated", { compensations: 2 }, "again"],
    ["has failed when it was the last attempt", { attempt: 3 }, "failed"],
    ["has failed when its error is not retryable", { error: declined }, "failed"],
    ["has failed when one of its steps has failed", { isStepFailure: true }, "failed"],
    ["is compensated when it was the last attempt", { attempt: 3, compensations: 2 }, "compensate"],
    ["is compensated when its error is not retryable", { error: declined, compensations: 1 }, "compensate"],
    [
      "is compensated when one of its steps has failed",
      { isStepFailure: true, compensations: 1 },
      "compensate"
    ]
  ] as ReadonlyArray<[string, Partial<FailedHandler>, ReturnType<typeof handlerVerdict>]>) {
    it(what, () => assert.strictEqual(handlerVerdict({ ...failed, ...given }), verdict))
  }
})
