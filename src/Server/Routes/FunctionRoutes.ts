/** Calls of clients over HTTP that pause, resume and run registered functions, and that list their versions. */
import * as Effect from "effect/Effect"
import type { EngineService } from "../../Engine/Engine.ts"
import { FunctionNotFoundError } from "../../Errors.ts"
import { type FunctionInfo, callSpecs } from "../../Protocol/Functions.ts"
import { encodeRun } from "../../Protocol/Runs.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { answerRoute, bodyRoute } from "./CallRoute.ts"
import { readableRun } from "./RunRoutes.ts"

export const functionRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const operations = (call: Call) => engine.operations.in(call.environment, call.caller)
  const id = (call: Call): string => variable(call, "id")
  const nonEmpty = (text: string | undefined): string | undefined => text || undefined
  return [
    bodyRoute(callSpecs.pauseFunction, "PauseFunction", ({ by, reason }, call) =>
      Effect.map(
        operations(call).pauseFunction(id(call), {
          ...(nonEmpty(by) === undefined ? {} : { by: by! }),
          ...(nonEmpty(reason) === undefined ? {} : { reason: reason! })
        }),
        (fn) => readableFunction(call, fn)
      )
    ),
    answerRoute(callSpecs.resumeFunction, (call) =>
      Effect.map(operations(call).resumeFunction(id(call)), (fn) => readableFunction(call, fn))
    ),
    bodyRoute(callSpecs.runFunction, "RunFunction", ({ data, idempotencyKey }, call) =>
      Effect.map(
        operations(call).runFunction(id(call), data, idempotencyKey === undefined ? {} : { idempotencyKey }),
        (run) => encodeRun(readableRun(call, run))
      )
    ),
    answerRoute(callSpecs.functionHistory, (call) =>
      Effect.map(engine.client(call.environment).functionHistory(id(call)), (versions) => ({ versions }))
    ),
    answerRoute(callSpecs.liveVersions, (call) => {
      const functionId = call.query.get("function_id") || undefined
      if (functionId !== undefined && !call.shows(functionId))
        return Effect.fail(new FunctionNotFoundError(functionId))
      return Effect.map(engine.client(call.environment).liveVersions(functionId), (versions) => ({
        versions: versions
          .filter(({ functionId }) => call.shows(functionId))
          .map((version) => ({
            ...version,
            workerIds: version.workerIds.filter(
              (worker) =>
                call.caller?.isNotDenied("worker:read", `worker:${worker}`, call.environment) ?? true
            )
          }))
      }))
    })
  ]
}

/**
 * What a caller who may pause a function sees of it. The triggers and `searchBy` are left out if the caller may not
 * read the function.
 */
const readableFunction = ({ caller, environment }: Call, fn: FunctionInfo): FunctionInfo => {
  if (caller?.may("function:read", `function:${fn.id}`, environment) !== false) return fn
  const { searchBy: _, ...rest } = fn
  return { ...rest, triggers: [] }
}
