/**
 * Push endpoints: handlers in other processes, registered by URL. The engine calls an endpoint to run its functions, with one
 * request for each turn. A turn is a part of a run, and lasts until the run ends or has to wait.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import type { EngineError, StoreError, ValidationError } from "../../Errors.ts"
import * as Alarm from "../../Execution/Alarm.ts"
import type { TurnUpdate } from "../../Protocol/Push.ts"
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { providedOr } from "../../ConfigProviderVariables.ts"
import { Functions } from "../Functions/Functions.ts"
import { Store } from "../Store/Store.ts"
import { Turns } from "../Turns/Turns.ts"
import { LiveWorkers } from "../Runs/LiveWorkers.ts"
import { Workers } from "../Workers/Workers.ts"
import { type EndpointInfo, PushEndpoints, type Registered, type Updated } from "./Endpoints.ts"
import { makeSettings, PushSettings } from "./PushSettings.ts"

/** Push endpoints. The engine calls an endpoint from the registration of the endpoint until its removal. */
export interface PushService {
  /**
   * Requests the functions of the handler at the URL, and registers them. Fails with `ValidationError` when the URL, its address
   * or a function is not allowed, or the handler was not made with this package, and with code `ENDPOINT_UNAVAILABLE` when the
   * handler does not answer, or answers with an error.
   */
  readonly register: (
    environment: string,
    url: string,
    /** Throws an `IronflowError` when the functions may not be registered. */
    check?: (functions: ReadonlyArray<FunctionRegistration>) => void
  ) => Effect.Effect<Registered, EngineError>
  readonly list: (environment: string) => ReadonlyArray<EndpointInfo>
  /** Removes the endpoint, so that it is no longer called. Returns whether it existed. */
  readonly remove: (environment: string, url: string) => Effect.Effect<boolean, ValidationError | StoreError>
  /**
   * Handles the reports and requests of a handler during its turn. Whoever knows the job id of the turn may send them. If an
   * environment is given, the job must be one of that environment.
   */
  readonly update: (
    jobId: string,
    update: TurnUpdate,
    environment?: string
  ) => Effect.Effect<Updated, StoreError>
}

export class Push extends Context.Service<Push, PushService>()("@ironflow/node/Engine/Push") {}

/** Calls the endpoints of registered functions, and follows changes of the registered functions. */
export const layer: Layer.Layer<Push, ValidationError, Store | Functions | Turns | Workers | LiveWorkers> =
  Layer.effect(
    Push,
    Effect.gen(function* () {
      const functions = yield* Functions
      const { connectEndpoint } = yield* Workers
      const live = yield* LiveWorkers
      const runFork = Effect.runForkWith(yield* Effect.context<never>())
      const scope = yield* Scope.Scope
      const endpoints = new PushEndpoints({
        store: yield* Store,
        functions,
        turns: yield* Turns,
        settings: yield* providedOr(PushSettings, (variables) => makeSettings({}, variables)),
        clock: yield* Clock.Clock,
        after: yield* Alarm.makeScheduleTimeout,
        fork: (effect) => Fiber.runIn(runFork(effect), scope),
        connect: connectEndpoint,
        workers: (environment) => live.workers(environment)
      })
      const stop = functions.follow(endpoints.sync)
      yield* Effect.addFinalizer(() => Effect.andThen(Effect.sync(stop), endpoints.close))
      yield* Effect.catch(endpoints.sync, (error) =>
        Effect.logError("The push endpoints could not be opened, so their runs wait", error)
      )
      return Push.of({
        register: (environment, url, check) => endpoints.register(environment, url, check),
        list: (environment) => endpoints.list(environment),
        remove: (environment, url) => endpoints.remove(environment, url),
        update: (jobId, update, environment) => endpoints.update(jobId, update, environment)
      })
    })
  )
