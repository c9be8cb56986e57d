/** How `ironflow dev` handles functions whose code is gone: their events would start runs that no worker takes. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { ClientApi, EffectKind } from "../Client/Client.ts"
import type { Raw } from "../Client/NarrowErrors.ts"
import type { IronflowError } from "../Errors.ts"

export interface Gone {
  /** Functions that the previous worker had, and that were deleted because the new one lacks them. */
  readonly deleted: ReadonlyArray<string>
  /** Older functions that no live worker has. Another worker with them may start later, so they stay. */
  readonly orphaned: ReadonlyArray<string>
}

const kept: ReadonlySet<string> = new Set(["INVALID_STATE", "FUNCTION_NOT_FOUND"])

/** Returns a function that takes the functions of each new worker, and finds those that are gone. */
export const trackGoneFunctions = (client: Raw<ClientApi<EffectKind>>) => {
  let before: ReadonlyArray<string> | undefined
  return Effect.fnUntraced(function* (ids: ReadonlyArray<string>): Effect.fn.Return<Gone, IronflowError> {
    const gone = before?.filter((id) => !ids.includes(id)) ?? []
    const first = before === undefined
    before = ids
    const deleted: Array<string> = []
    for (const id of gone) {
      const outcome = yield* Effect.result(client.deleteFunction(id))
      if (Result.isSuccess(outcome)) deleted.push(id)
      // another worker has it too, or it was deleted already
      else if (!kept.has(outcome.failure.code)) return yield* outcome.failure
    }
    if (!first) return { deleted, orphaned: [] }
    const [functions, workers] = yield* Effect.all([client.listFunctions(), client.listWorkers()])
    const live = new Set(workers.flatMap(({ functionIds }) => functionIds))
    return { deleted, orphaned: functions.map(({ id }) => id).filter((id) => !live.has(id)) }
  })
}
