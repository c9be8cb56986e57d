/** Replays recorded runs against the current code. */
import * as Effect from "effect/Effect"
import { FunctionNotFoundError, ServiceMissingError, type TimersFakedError } from "../Errors.ts"
import type { AnyFunction, FunctionRequirements } from "../Function.ts"
import { withFailureHandlers } from "../OnFailure.ts"
import type { RunnableFunction } from "../Promise/Worker.ts"
import type { RunHistory } from "../Protocol/History.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import * as RealTime from "./RealTime.ts"
import { type Divergence, missingService, replay } from "./Replay.ts"

/** Options of `verify`. */
export interface VerifyOptions {
  /** The event definitions that the worker has: they upcast events of earlier versions. */
  readonly eventDefinitions?: EventDefinitionRegistry | undefined
}

/**
 * Replays a recorded history with the current functions. Returns where the function of the history diverges from
 * the recorded steps; `undefined` when it does not diverge. No step's code runs, so only the services that the
 * handler itself requires must be provided. Pass the `eventDefinitions` of the worker, if the worker has some.
 *
 * ```ts
 * const divergenceOf = (history: Testing.RunHistory, eventDefinitions: EventDefinitionRegistry) =>
 *   Testing.verify(history, [processOrder], { eventDefinitions })
 * ```
 *
 * Fails with `FunctionNotFoundError` when none of the functions has the function id of the history, and with code
 * `SERVICE_MISSING` when the handler requires a service that its type does not name and that is not provided.
 */
export const verifyEffect = <const Functions extends ReadonlyArray<AnyFunction>>(
  history: RunHistory,
  functions: Functions,
  options: VerifyOptions = {}
): Effect.Effect<
  Divergence | undefined,
  FunctionNotFoundError | ServiceMissingError | TimersFakedError,
  FunctionRequirements<Functions[number]>
> => verifyUntyped(history, functions, options)

/** Does what {@link verifyEffect} does, for functions that are known only at run time. */
export const verifyUntyped = (
  history: RunHistory,
  functions: ReadonlyArray<AnyFunction>,
  { eventDefinitions }: VerifyOptions = {}
): Effect.Effect<Divergence | undefined, FunctionNotFoundError | ServiceMissingError | TimersFakedError> =>
  Effect.gen(function* () {
    const fn = withFailureHandlers(functions).find(({ config }) => config.id === history.functionId)
    if (fn === undefined) return yield* Effect.fail(new FunctionNotFoundError(history.functionId))
    yield* RealTime.ensureReal("verify()")
    const replayed = yield* replay(fn, history, eventDefinitions)
    const service = missingService(replayed)
    if (service === undefined) return replayed.divergence
    return yield* Effect.fail(
      new ServiceMissingError(
        `Run ${history.runId} of function "${history.functionId}" cannot be verified here: its handler needs the service "${service}" ` +
          "outside of its steps. Verify it in a test that provides the service, with Testing.verify of @ironflow/node/effect, or " +
          "provide the service inside the handler",
        { details: { functionId: history.functionId, service } }
      )
    )
  })

/**
 * Replays a recorded history, such as `ironflow runs export` writes, with the current functions. Resolves to the
 * place where the function diverges from the recorded steps; to `undefined` when it does not diverge. Rejects with
 * `FunctionNotFoundError` when none of the functions has the function id of the history. Pass the `eventDefinitions`
 * of the worker, if the worker has some.
 *
 * ```ts
 * const divergenceOf = (history: RunHistory, eventDefinitions: EventDefinitionRegistry) =>
 *   verify(history, [processOrder], { eventDefinitions })
 * ```
 */
export const verify = async (
  history: RunHistory,
  functions: ReadonlyArray<RunnableFunction>,
  options: VerifyOptions = {}
): Promise<Divergence | undefined> =>
  Effect.runPromise(verifyUntyped(history, functions, options), { scheduler: RealTime.scheduler })
