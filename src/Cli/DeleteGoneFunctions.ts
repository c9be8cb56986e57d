/**
 * Deletes functions whose code is gone, for `ironflow dev`. Their events would start runs that no worker
 * takes.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { ClientApi, EffectKind } from "../Client/Client.ts"
import type { Raw } from "../Client/NarrowErrors.ts"
import type { IronflowError } from "../Errors.ts"

export interface Gone {
  /** Functions that the previous worker had and the new one lacks. They were deleted. */
  readonly deleted: ReadonlyArray<string>
  /**
   * Registered functions that no live worker has when the first worker starts. They are not deleted: a worker
   * that has them may start later.
   */
  readonly orphaned: ReadonlyArray<string>
}

/** The error codes for a function that another worker has, or that was deleted already. */
const toleratedCodes: ReadonlySet<string> = new Set(["INVALID_STATE", "FUNCTION_NOT_FOUND"])

/**
 * Returns a function to call with the function ids of each new worker. It deletes those that the previous
 * worker had and the new one lacks. At its first call it deletes nothing, and finds those that no worker has.
 */
export const makeDeleteGone = (client: Raw<ClientApi<EffectKind>>) => {
  let before: ReadonlyArray<string> | undefined
  return Effect.fnUntraced(function* (ids: ReadonlyArray<string>): Effect.fn.Return<Gone, IronflowError> {
    const gone = before?.filter((id) => !ids.includes(id)) ?? []
    const first = before === undefined
    before = ids
    const deleted: Array<string> = []
    for (const id of gone) {
      const outcome = yield* Effect.result(client.deleteFunction(id))
      if (Result.isSuccess(outcome)) deleted.push(id)
      else if (!toleratedCodes.has(outcome.failure.code)) return yield* outcome.failure
    }
    if (!first) return { deleted, orphaned: [] }
    const [functions, workers] = yield* Effect.all([client.listFunctions(), client.listWorkers()])
    const live = new Set(workers.flatMap(({ functionIds }) => functionIds))
    return { deleted, orphaned: functions.map(({ id }) => id).filter((id) => !live.has(id)) }
  })
}
