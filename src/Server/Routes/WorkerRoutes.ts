/**
 * Calls of workers over HTTP. A worker registers as one that exchanges turns, or as a legacy worker, which
 * takes jobs.
 */
import * as Effect from "effect/Effect"
import { checked } from "../../CheckAsEffect.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { RemoteWorkers } from "../../Engine/Workers/RemoteWorkers.ts"
import type { IronflowError } from "../../Errors.ts"
import { checkName } from "../../Limits.ts"
import { ENVIRONMENT_HEADER } from "../../Protocol/Http/CallAddress.ts"
import { TURNS_VERSION } from "../../Protocol/Http/Turns.ts"
import { isSealed } from "../../Protocol/Seal.ts"
import { type RegisterRequest, callSpecs } from "../../Protocol/Workers.ts"
import {
  keyEnvironment,
  type Call,
  checkWorkerEnvironment,
  type Reply,
  type Route,
  variable
} from "../Http/Route.ts"
import { sealAnswer } from "../Workers/TurnMessages.ts"
import { registerTurns } from "../Workers/TurnRegistration.ts"
import { legacyJobRoutes, registerLegacy } from "./LegacyJobRoutes.ts"
import { answerRoute, replyRoute, withBody } from "./CallRoute.ts"
import { turnRoutes } from "./TurnRoutes.ts"

/** The routes of workers. `maxBodyBytes` is the largest body of their requests. */
export const workerRoutes = (
  engine: EngineService,
  workers: RemoteWorkers,
  maxBodyBytes: number
): ReadonlyArray<Route> => {
  const register = (request: RegisterRequest, call: Call): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const workerId = yield* checked(() => checkName("worker id", variable(call, "id")))
      return (request.capabilities?.turns ?? 0) >= TURNS_VERSION
        ? yield* Effect.map(
            registerTurns(workers, request, {
              environment: environmentIn(call),
              workerId,
              isSealed: isSealed(call.body),
              connection: call.request.socket,
              transport: "polling",
              maxBodyBytes,
              caller: call.caller
            }),
            ({ response, worker }): Reply => ({
              status: 200,
              text: sealAnswer(worker, JSON.stringify(response))
            })
          )
        : yield* registerLegacy(engine, workers, call, workerId, request)
    })

  const deregister = (call: Call): Effect.Effect<void, IronflowError> =>
    Effect.gen(function* () {
      const id = variable(call, "id")
      yield* checked(() => {
        const environment = workers.environmentOf(id, keyEnvironment(call))
        if (environment !== undefined) checkWorkerEnvironment(call, environment, id)
      })
      yield* workers.dismiss(id, call.query.get("session"), keyEnvironment(call))
    })

  return [
    replyRoute(callSpecs.registerWorker, withBody(callSpecs.registerWorker, "Register", register)),
    answerRoute(callSpecs.deregisterWorker, (call) => Effect.as(deregister(call), undefined)),
    ...turnRoutes(workers),
    ...legacyJobRoutes(engine, workers)
  ]
}

/** The environment that the request names, or that its key is bound to; `undefined` when there is neither. */
const environmentIn = (call: Call): string | undefined =>
  call.request.headers[ENVIRONMENT_HEADER] === undefined && keyEnvironment(call) === undefined
    ? undefined
    : call.environment
