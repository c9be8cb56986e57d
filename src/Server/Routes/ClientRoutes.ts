/** All calls of clients over HTTP. The calls about functions, workers and the server itself are made in this file. */
import * as Effect from "effect/Effect"
import { FunctionNotFoundError, type IronflowError, UnauthorizedError } from "../../Errors.ts"
import { type FunctionInfo, callSpecs as functionSpecs } from "../../Protocol/Functions.ts"
import { encoder } from "../../Protocol/ServerCodec.ts"
import { callSpecs as serverSpecs } from "../../Protocol/Server.ts"
import { callSpecs as workerSpecs } from "../../Protocol/Workers.ts"
import { SDK_VERSION } from "../../SdkVersion.ts"
import { checkRegistering } from "../../Engine/Access/WorkerAccess.ts"
import { capabilities } from "../../Engine/Capabilities.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { GiveUp } from "../../Engine/Runs/AwaitEnd.ts"
import { replyInTurns } from "../Http/PagedReply.ts"
import { fromLegacyRegistration } from "./LegacyRegistration.ts"
import { backupRoute } from "./BackupRoute.ts"
import { healthOf, readinessOf } from "./ServerHealth.ts"
import { bulkRoutes } from "./BulkRoutes.ts"
import { projectionRoutes } from "./ProjectionRoutes.ts"
import { keyEnvironment, type Call, type Route, json, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { consumerGroupRoutes } from "./ConsumerGroupRoutes.ts"
import { configRoutes } from "./ConfigRoutes.ts"
import { functionRoutes } from "./FunctionRoutes.ts"
import { kvRoutes } from "./KvRoutes.ts"
import { pushRoutes } from "./PushRoutes.ts"
import { accessRoutes } from "./AccessRoutes.ts"
import { secretRoutes } from "./SecretRoutes.ts"
import { streamRoutes } from "./StreamRoutes.ts"
import { eventRoutes } from "./EventRoutes.ts"
import { topicRoutes } from "./TopicRoutes.ts"
import { runRoutes } from "./RunRoutes.ts"
import { answerRoute, listRoute, bodyRoute, replyRoute } from "./CallRoute.ts"

export interface ServerState {
  /** When the server was started, in epoch milliseconds. */
  readonly startedAt: number
  /** Succeeds when the server is about to stop. Waiting calls then end. */
  readonly stopSignal: Effect.Effect<void>
  /** Whether the server is about to stop. */
  readonly isDraining: () => boolean
  /**
   * Makes a function that calls its listener after this many milliseconds, or when the server is about to stop: waiting
   * calls then end.
   */
  readonly giveUpAfter: (ms: number) => GiveUp
}

/** The routes of clients. */
export const clientRoutes = (
  engine: EngineService,
  { startedAt, stopSignal, giveUpAfter, isDraining }: ServerState
): ReadonlyArray<Route> => {
  const visibleFunctions = (call: Call) =>
    Effect.map(engine.client(call.environment).listFunctions(), (functions) =>
      functions.filter(({ id }) => call.shows(id))
    )

  const findFunction = (id: string, { environment }: Call): Effect.Effect<FunctionInfo, IronflowError> =>
    Effect.flatMap(engine.functions.get(environment, id), (found) =>
      found === undefined ? Effect.fail(new FunctionNotFoundError(id)) : Effect.succeed(found)
    )

  return [
    ...eventRoutes(engine, stopSignal),
    ...topicRoutes(engine),
    ...runRoutes(engine, giveUpAfter),
    ...bulkRoutes(engine),

    bodyRoute(functionSpecs.registerFunction, "RegisterFunction", (request, call) =>
      Effect.gen(function* () {
        const registration = yield* checked(() => {
          const registration = fromLegacyRegistration(request)
          checkRegistering(call.caller, call.environment, registration)
          return registration
        })
        const created = engine.functions.find(call.environment, registration.id) === undefined
        yield* engine.functions.register(call.environment, [registration])
        const fn = yield* findFunction(registration.id, call)
        return { function: fn, ...(created ? { created } : {}) }
      })
    ),
    bodyRoute(functionSpecs.getFunction, "GetFunction", ({ id }, call) => findFunction(id, call)),
    replyRoute(functionSpecs.listFunctions, (call) =>
      Effect.flatMap(visibleFunctions(call), (functions) => {
        const { length } = functions
        if (length === 0) return Effect.succeed(json({}))
        return replyInTurns(
          "functions",
          functions,
          (fn) => fn,
          (items) => `{"functions":[${items}],"totalCount":${length}}`
        )
      })
    ),
    listRoute(functionSpecs.restFunctions, visibleFunctions),
    answerRoute(functionSpecs.deleteFunction, (call) =>
      Effect.as(engine.client(call.environment).deleteFunction(variable(call, "id")), {})
    ),
    ...functionRoutes(engine),
    listRoute(workerSpecs.restWorkers, (call) =>
      Effect.map(engine.client(call.environment).listWorkers(), (workers) =>
        workers
          .filter(({ id }) => call.shows(id))
          .map((worker) => ({
            ...worker,
            functionIds: worker.functionIds.filter(
              (id) => call.caller?.isNotDenied("function:read", `function:${id}`, call.environment) ?? true
            )
          }))
      )
    ),
    answerRoute(serverSpecs.info, (call) =>
      Effect.sync(() => {
        const { activeJobs, workers } = engine.metrics()
        return {
          version: SDK_VERSION,
          startedAt: new Date(startedAt).toISOString(),
          functionCount: engine.functions.count(call.environment),
          activeRuns: activeJobs,
          connectedWorkers: workers
        }
      })
    ),
    answerRoute(serverSpecs.minutes, () =>
      Effect.map(engine.measured.minutes, (minutes) => ({
        minutes: minutes.map((minute) => ({ ...minute, at: new Date(minute.at).toISOString() }))
      }))
    ),
    answerRoute(serverSpecs.doctor, (call) =>
      keyEnvironment(call) === undefined
        ? Effect.map(engine.doctor, (checks) => ({ checks }))
        : Effect.fail(
            new UnauthorizedError(
              "Not permitted: the doctor reports on all environments, and this API key is bound to one. Use a key for all environments"
            )
          )
    ),
    answerRoute(serverSpecs.getCapabilities, () => Effect.succeed(capabilities)),
    answerRoute(serverSpecs.restCapabilities, () => Effect.succeed(capabilities)),
    answerRoute(serverSpecs.health, () => healthOf(engine)),
    replyRoute(serverSpecs.restHealth, () =>
      Effect.map(healthOf(engine), (health) =>
        json(
          encodeHealth({ ...health, version: SDK_VERSION }),
          // the status code is for clients that read nothing else
          health.status === "down" ? 503 : 200
        )
      )
    ),
    replyRoute(serverSpecs.ready, () =>
      Effect.map(readinessOf(engine, isDraining()), (readiness) =>
        json(encodeHealth({ ...readiness, version: SDK_VERSION }), readiness.status === "ready" ? 200 : 503)
      )
    ),

    backupRoute(engine, giveUpAfter),
    ...streamRoutes(engine),
    ...kvRoutes(engine),
    ...configRoutes(engine),
    ...secretRoutes(engine),
    ...consumerGroupRoutes(engine),
    ...projectionRoutes(engine, stopSignal),
    ...pushRoutes(engine, stopSignal),
    ...accessRoutes(engine)
  ]
}

const encodeHealth = encoder(serverSpecs.restHealth.answer!)
