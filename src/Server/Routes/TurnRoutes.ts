/** Calls over HTTP of workers that exchange turns, which are workers of this package. */
import * as Effect from "effect/Effect"
import { checked } from "../../CheckAsEffect.ts"
import { logLeftOut } from "../../Engine/Workers/LogLeftOut.ts"
import { permittedReports } from "../../Engine/Access/WorkerAccess.ts"
import type { RemoteWorkers } from "../../Engine/Workers/RemoteWorkers.ts"
import type { WorkerConnection } from "../../Engine/Workers/WorkerConnection.ts"
import type { IronflowError } from "../../Errors.ts"
import type { JsonText } from "../../Json.ts"
import { decoder } from "../../Protocol/ServerCodec.ts"
import type { CallSpec } from "../../Protocol/CallSpec.ts"
import { isSealed } from "../../Protocol/Seal.ts"
import { readReports } from "../../Protocol/TurnReports.ts"
import { callSpecs } from "../../Protocol/Workers.ts"
import {
  keyEnvironment,
  type Call,
  checkWorkerEnvironment,
  noContent,
  type Route,
  variable
} from "../Http/Route.ts"
import { checkSeal, encodeDelivered, sealAnswer } from "../Workers/TurnMessages.ts"
import { watchedConnection } from "../Workers/WatchedConnections.ts"
import { replyRoute } from "./CallRoute.ts"

const readPoll = decoder(callSpecs.pollTurns.body!, "Poll")
const readLate = decoder(callSpecs.lateTurn.body!, "Late")

export const turnRoutes = (workers: RemoteWorkers): ReadonlyArray<Route> => {
  /** Makes a route. `answer` receives the worker, and returns the JSON of the response if there is one. */
  const turnRoute = <A extends { readonly session: string }>(
    spec: CallSpec,
    read: (body: unknown) => A,
    answer: (
      worker: WorkerConnection,
      request: A,
      call: Call
    ) => Effect.Effect<JsonText | void, IronflowError>
  ): Route =>
    replyRoute(spec, (call) =>
      Effect.gen(function* () {
        const request = yield* checked(() => read(call.body))
        const worker = yield* workers.turnWorker(variable(call, "id"), request.session, keyEnvironment(call))
        yield* checked(() => {
          checkWorkerEnvironment(call, worker.environment, worker.workerId)
          checkSeal(worker, isSealed(call.body))
        })
        const text = yield* answer(worker, request, call)
        return typeof text === "string" ? { status: 200, text: sealAnswer(worker, text) } : noContent
      })
    )

  return [
    turnRoute(callSpecs.pollTurns, readPoll, (worker, request, call) =>
      Effect.map(worker.poll(request, watchedConnection(call.request.socket)), encodeDelivered)
    ),
    turnRoute(callSpecs.reportTurns, readReports, (worker, { leftOut, ...request }, call) => {
      const { toAnswers, reports } = permittedReports(call.caller, worker.environment, request.reports)
      return Effect.andThen(
        logLeftOut(`worker ${worker.workerId}`, leftOut),
        Effect.map(worker.report({ ...request, reports }), (acks) =>
          JSON.stringify({ acks: toAnswers(acks) })
        )
      )
    }),
    turnRoute(callSpecs.lateTurn, readLate, (worker, request) => worker.late(request))
  ]
}
