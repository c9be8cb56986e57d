/**
 * Connects a worker to a server over plain HTTP requests.
 *
 * With an engine of this package the worker exchanges turns as `Protocol/Http/Turns.ts` describes: it holds one
 * poll open and sends its reports beside the poll. With a legacy server it works as `LegacyTransport.ts` describes.
 * The answer to the registration shows which kind of server it is.
 *
 * When the server cannot be reached, the worker keeps trying. Turns in flight continue, and are dropped
 * before their leases end.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { validated } from "../CheckAsEffect.ts"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import { Channels } from "../Client/Channel.ts"
import { type Connection, make as connect } from "../Client/HttpConnection.ts"
import { type AccessError, type IronflowError, ValidationError } from "../Errors.ts"
import { resolveEffectLogger } from "../EffectLogger.ts"
import { currentVariables } from "../ConfigProviderVariables.ts"
import {
  type WorkerHandlers,
  type WorkerRegistration,
  type WorkerSession,
  WorkerTransport
} from "../Protocol/Worker.ts"
import * as LegacyTransport from "./LegacyTransport.ts"
import { Outage } from "./Outage.ts"
import { register, type RegistrationAnswer } from "./PollingRegistration.ts"
import { PollingSession } from "./PollingSession.ts"
import { type PollingOptions, type ResolvedPollingOptions, resolvePollingOptions } from "./PollingOptions.ts"
import { isAccessError } from "./AccessErrors.ts"
import { monotonicMs, requestedEnvironment, type ServerLink } from "./ServerLink.ts"

export type { PollingOptions } from "./PollingOptions.ts"

/** Connects workers to the configured server. Fails with `ValidationError` when the options are invalid. */
export const layer = (
  options: PollingOptions = {}
): Layer.Layer<WorkerTransport, ValidationError, HttpClient.HttpClient> =>
  Layer.effect(
    WorkerTransport,
    Effect.gen(function* () {
      const http = yield* HttpClient.HttpClient
      const channels = yield* Channels
      const caller = "WorkerTransport.layerPolling"
      const variables = yield* currentVariables
      const given = { ...options, logger: yield* resolveEffectLogger(options.logger) }
      yield* validated(() => resolvePollingOptions(given, undefined, caller, variables))
      return WorkerTransport.of({
        open: (registration, handlers) =>
          Effect.flatMap(
            validated(() =>
              resolvePollingOptions(given, requestedEnvironment(registration), caller, variables)
            ),
            (resolved) => open(resolved, registration, handlers)
          ).pipe(
            Effect.provideService(HttpClient.HttpClient, http),
            Effect.provideService(Channels, channels)
          )
      })
    })
  )

/** Makes what all parts of a worker's connection share. Its background work ends with the scope. */
export const linkTo = (
  options: ResolvedPollingOptions,
  registration: WorkerRegistration,
  handlers: WorkerHandlers
): Effect.Effect<ServerLink, never, Scope.Scope | HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const scope = yield* Scope.Scope
    const run = Effect.runForkWith(yield* Effect.context<never>())
    let registrations = 0
    return {
      connection: withoutSpans(yield* connect(options.server)),
      options,
      registration,
      handlers,
      outage: new Outage(options.logger, options.server.url, options.reconnectMs),
      nextRegistration: () => ++registrations,
      clock: yield* Clock.Clock,
      fork: (effect) => {
        const fiber = Fiber.runIn(run(effect), scope)
        // nothing awaits this fiber, so a bug that ends it would otherwise not be noticed
        fiber.addObserver((exit) => {
          if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return
          options.logger.error(
            `Worker ${registration.workerId} is broken because of a bug in this package: please report this, and restart the worker. ` +
              Cause.pretty(exit.cause)
          )
        })
        return fiber
      }
    }
  })

/** Makes an id that distinguishes this worker from other workers with the same worker id. */
export const newInstance = ({ workerId }: WorkerRegistration): Effect.Effect<string> =>
  Effect.map(Random.nextIntBetween(0, 36 ** 8), (randomNumber) => `${workerId}-${randomNumber.toString(36)}`)

/** Registers the worker, and opens its session. */
export const open = (
  options: ResolvedPollingOptions,
  registration: WorkerRegistration,
  handlers: WorkerHandlers
): Effect.Effect<WorkerSession, ValidationError | AccessError, Scope.Scope | HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const link = yield* linkTo(options, registration, handlers)
    const instance = yield* newInstance(registration)
    const registerUntilReached = (): Effect.Effect<RegistrationAnswer, ValidationError | AccessError> =>
      Effect.catch(register(link, instance, []), (error) =>
        isRefusal(error)
          ? Effect.fail(error)
          : Effect.flatMap(Effect.sleep(link.outage.attemptFailed(error)), registerUntilReached)
      )
    const sentAt = monotonicMs(link.clock)
    const registered = yield* registerUntilReached()
    link.outage.attemptSucceeded()
    if (registered === undefined) return yield* LegacyTransport.open(link)

    const session = new PollingSession(link, instance, registered, sentAt)
    yield* Effect.addFinalizer(() => session.deregister)
    session.start()
    return session
  })

/** A connection whose requests have no spans, since polls and reports are internal. */
const withoutSpans = ({ send, ...connection }: Connection): Connection => ({
  ...connection,
  send: (request) => Effect.provideService(send(request), HttpClient.TracerDisabledWhen, () => true)
})

/** Whether the server would refuse the same request every time. */
export const isRefusal = (error: IronflowError): error is ValidationError | AccessError =>
  error instanceof ValidationError || isAccessError(error)
