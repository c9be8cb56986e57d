/**
 * Runs the branches of a `parallel` or `map` call, and limits how many of them run at once. With `failFast`, the first
 * branch that fails stops the others, and its failure is recorded as the verdict of the call.
 */
import { deserializeError, type SerializedError, serializeError, ValidationError } from "../Errors.ts"
import { checkKeys } from "../OptionKeys.ts"
import type { Outcome } from "../Protocol/Worker.ts"
import { show } from "../Show.ts"
import { type mapKeys, parallelKeys, type ParallelOptions } from "../Step.ts"
import { BranchGroup, StepScope } from "./StepScope.ts"
import { StepCall } from "./StepCall.ts"
import { branchScope, verdictKey } from "../StepId.ts"
import type { TurnMachine } from "./TurnMachine.ts"
import { errorWithoutSecrets } from "./SecretsInText.ts"

/**
 * How a branch ended. `cause` is the failure in the form of the API (Effect or Promise) that ran the branch.
 */
export type BranchExit =
  | { readonly _tag: "Success"; readonly value: unknown }
  | { readonly _tag: "Failure"; readonly error: unknown; readonly cause?: unknown }

export interface ParallelCall {
  readonly name: string
  /** The number of branches. */
  readonly count: number
  readonly concurrency: number
  readonly failFast: boolean
  /** Starts a branch. The branch calls `end` once, when it has ended. */
  readonly begin: (index: number, scope: StepScope, end: (exit: BranchExit) => void) => void
  /** Called when all branches have ended. With `failFast` it is called only if all branches have succeeded. */
  readonly succeed: (exits: ReadonlyArray<BranchExit>) => void
  /**
   * Called only with `failFast`, when a branch has failed and the running steps of the call have ended. Receives the
   * failure.
   */
  readonly fail: (failure: Extract<BranchExit, { readonly _tag: "Failure" }>) => void
}

/**
 * Starts the branches. Returns a function that cancels the call. `entry` is the function that the user's code
 * called.
 */
export const runBranches = (
  turn: TurnMachine,
  scope: StepScope,
  parallel: ParallelCall,
  entry: Function
): (() => void) => {
  const { concurrency, count, failFast, name } = parallel
  turn.steps.outcomes.noteCallIn(scope)
  const prefix = scope.keys.nextParallel(name)
  const startedAt = turn.host.clock.currentTimeMillisUnsafe()
  const group = new BranchGroup(scope)
  const exits: Array<BranchExit> = []
  const failures: Array<Extract<BranchExit, { readonly _tag: "Failure" }>> = []
  let nextIndex = 0
  let runningCount = 0
  let endedCount = 0
  let isStarting = false
  let isCancelled = false

  const verdictCall = new StepCall(
    verdictKey(prefix),
    name,
    "parallel",
    scope,
    verdictCode,
    (outcome: Outcome) => {
      if (outcome._tag !== "Failure") return
      isCancelled = true
      parallel.fail(failureOfCall(failures, outcome.error))
    }
  )

  const isVerdictRecorded = failFast && turn.steps.addRecordedCall(verdictCall, entry)

  const startMore = (): void => {
    // a branch may end inside `begin`: the loop below then starts the next branch
    if (isStarting) return
    isStarting = true
    while (
      nextIndex < count &&
      runningCount < concurrency &&
      !(failFast && failures.length > 0) &&
      !isCancelled
    ) {
      const index = nextIndex++
      runningCount++
      parallel.begin(index, new StepScope(group, branchScope(prefix, index)), (exit) =>
        branchEnded(index, exit)
      )
    }
    isStarting = false
  }

  const branchEnded = (index: number, exit: BranchExit): void => {
    if (isCancelled) return
    exits[index] = exit
    runningCount--
    endedCount++
    if (exit._tag === "Failure") failures.push(exit)
    if (failFast && failures.length > 0) {
      // a verdict that is already in the journal is delivered at its place there, and not now
      if (exit._tag === "Failure" && failures.length === 1 && !isVerdictRecorded) {
        turn.steps.stop(group, `another branch of "${name}" has failed`, recordVerdict)
      }
    } else if (endedCount < count) {
      startMore()
    } else if (!isVerdictRecorded) {
      parallel.succeed(exits)
    }
  }

  const recordVerdict = (): void => {
    const [first] = failures
    if (isCancelled || first === undefined) return
    const error = errorWithoutSecrets(turn.job, serializeError(first.error))
    turn.steps.outcomes.record(verdictCall, { _tag: "Failure", error }, 1, startedAt)
  }

  if (isVerdictRecorded) turn.steps.shut(group)
  if (count === 0) parallel.succeed([])
  else startMore()

  return () => {
    isCancelled = true
    turn.steps.withdraw(verdictCall)
  }
}

/**
 * The failure with which the call ends: the failure of the branch whose error equals the recorded verdict, or else the
 * recorded error.
 */
const failureOfCall = (
  failures: ReadonlyArray<Extract<BranchExit, { readonly _tag: "Failure" }>>,
  recordedError: SerializedError
): Extract<BranchExit, { readonly _tag: "Failure" }> => {
  const matchingFailure = failures.find(({ error }) => {
    const { message, name } = serializeError(error, { stack: false })
    return name === recordedError.name && message === recordedError.message
  })
  return matchingFailure ?? { _tag: "Failure", error: deserializeError(recordedError) }
}

/** Stands in for the code of a verdict: a verdict is recorded, and never executed. */
const verdictCode = {
  begin: () => undefined,
  timeout: undefined,
  retry: { maxAttempts: 1, initialDelayMs: 0, backoffFactor: 1, maxDelayMs: 0 }
}

/** Checks the options of `parallel` and `map`, and fills in defaults. */
export const checkParallel = (
  name: string,
  branches: unknown,
  options: ParallelOptions | undefined,
  keys: typeof mapKeys | typeof parallelKeys = parallelKeys
): { readonly concurrency: number; readonly failFast: boolean } => {
  if (!Array.isArray(branches)) {
    throw new ValidationError(
      `The parallel call "${name}" needs an array with one element per branch, got ${show(branches)}`
    )
  }
  checkKeys(options, keys, `Step "${name}"`)
  const { concurrency, onError } = options ?? {}
  if (concurrency !== undefined && (!Number.isSafeInteger(concurrency) || concurrency < 1)) {
    throw new ValidationError(
      `\`concurrency\` of the parallel call "${name}" must be an integer, at least 1, got ${show(concurrency)}`
    )
  }
  if (onError !== undefined && onError !== "failFast" && onError !== "allSettled") {
    throw new ValidationError(
      `\`onError\` of the parallel call "${name}" must be "failFast" or "allSettled", got ${show(onError)}`
    )
  }
  return { concurrency: concurrency ?? Number.POSITIVE_INFINITY, failFast: onError !== "allSettled" }
}
