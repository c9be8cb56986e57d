/** Replays recorded runs against the code of today. */
import * as Effect from "effect/Effect"
import { FunctionNotFoundError } from "../Errors.ts"
import type { AnyFunction } from "../Function.ts"
import type { RunHistory } from "../Protocol/History.ts"
import { type Divergence, replay } from "./Replay.ts"

/**
 * Where the function of the history parts from what is recorded; `undefined` when it does not. No step's code runs.
 * Fails with `FunctionNotFoundError` when none of the functions is that of the history.
 */
export const verifyEffect = (
  history: RunHistory,
  functions: ReadonlyArray<AnyFunction>
): Effect.Effect<Divergence | undefined, FunctionNotFoundError> =>
  Effect.suspend(() => {
    const fn = functions.find(({ config }) => config.id === history.functionId)
    return fn === undefined
      ? Effect.fail(new FunctionNotFoundError(history.functionId))
      : Effect.map(replay(fn, history), ({ divergence }) => divergence)
  })

/**
 * Replays a recorded history, such as `ironflow runs export` writes, against functions as they are now. Resolves to where
 * they part, or to `undefined`. Rejects with `FunctionNotFoundError` when none of the functions is that of the history.
 */
export const verify = async (
  history: RunHistory,
  functions: ReadonlyArray<AnyFunction>
): Promise<Divergence | undefined> => Effect.runPromise(verifyEffect(history, functions))
