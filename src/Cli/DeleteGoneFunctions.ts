/**
 * Deletes functions whose code is gone, for `ironflow dev`. Otherwise events would go on starting runs of these
 * functions, which no worker takes.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { ClientApi, EffectKind } from "../Client/Client.ts"
import type { Raw } from "../Client/NarrowErrors.ts"
import type { IronflowError } from "../Errors.ts"

export interface GoneFunctions {
  /** Functions that the previous worker had and the new worker lacks. They were deleted. */
  readonly deleted: ReadonlyArray<string>
  /**
   * Registered functions that no live worker has when the first worker of `ironflow dev` starts. They are not
   * deleted: a worker that has them may start later.
   */
  readonly orphaned: ReadonlyArray<string>
}

/** The error codes for a function that another worker has, or that was deleted already. */
const toleratedCodes: ReadonlySet<string> = new Set(["INVALID_STATE", "FUNCTION_NOT_FOUND"])

/**
 * Returns a function to be called with the function ids of each new worker. It deletes the functions that the previous
 * worker had and the new worker lacks. For the first worker it deletes nothing, and finds the registered functions that no
 * worker has.
 */
export const makeDeleteGoneFunctions = (client: Raw<ClientApi<EffectKind>>) => {
  let previousIds: ReadonlyArray<string> | undefined
  return Effect.fnUntraced(function* (
    ids: ReadonlyArray<string>
  ): Effect.fn.Return<GoneFunctions, IronflowError> {
    const missingIds = previousIds?.filter((id) => !ids.includes(id)) ?? []
    const isFirstCall = previousIds === undefined
    previousIds = ids
    const deleted: Array<string> = []
    for (const id of missingIds) {
      const outcome = yield* Effect.result(client.deleteFunction(id))
      if (Result.isSuccess(outcome)) deleted.push(id)
      else if (!toleratedCodes.has(outcome.failure.code)) return yield* outcome.failure
    }
    if (!isFirstCall) return { deleted, orphaned: [] }
    const [functions, workers] = yield* Effect.all([client.listFunctions(), client.listWorkers()])
    const live = new Set(workers.flatMap(({ functionIds }) => functionIds))
    return { deleted, orphaned: functions.map(({ id }) => id).filter((id) => !live.has(id)) }
  })
}
