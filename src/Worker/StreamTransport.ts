/**
 * Connects a worker to a server over a stream, when the server supports a kind of stream that the worker may use, and
 * else by polling.
 *
 * The worker asks the server which transports it has: `GET /api/v1/capabilities`. When the server offers no
 * stream that the worker can open, the worker polls, and logs one line about it.
 */
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { Channels } from "../Client/Channel.ts"
import { isFromServer, serverFailureOf } from "../Client/HttpFailures.ts"
import type { AccessError, IronflowError, ValidationError } from "../Errors.ts"
import { resolveEffectLogger } from "../EffectLogger.ts"
import { currentVariables } from "../ConfigProviderVariables.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { restCapabilities } from "../Protocol/Server.ts"
import {
  type WorkerHandlers,
  type WorkerRegistration,
  type WorkerSession,
  WorkerTransport
} from "../Protocol/Worker.ts"
import { isRefusal, linkTo, newInstance, open as openPolling } from "./PollingTransport.ts"
import { validated } from "../CheckAsEffect.ts"
import { type PollingOptions, type ResolvedPollingOptions, resolvePollingOptions } from "./PollingOptions.ts"
import { isAccessError } from "./AccessErrors.ts"
import { isSuccess, requestedEnvironment, type ServerLink } from "./ServerLink.ts"
import { StreamSession, type Streams } from "./StreamSession.ts"

/** A kind of streams, loaded when a server supports it. */
export interface StreamsOption {
  /** The name of this kind of stream among the `transports` of a server. */
  readonly transport: string
  /** Loads the code. Returns `undefined`, with a log line, when this process cannot open such streams. */
  readonly load: (link: ServerLink) => Effect.Effect<Streams | undefined, ValidationError>
}

/** Connects workers over the first of the `choices` that the server supports, or else by polling. */
export const layer = (
  options: PollingOptions,
  choices: ReadonlyArray<StreamsOption>,
  caller: string
): Layer.Layer<WorkerTransport, ValidationError, HttpClient.HttpClient> =>
  Layer.effect(
    WorkerTransport,
    Effect.gen(function* () {
      const http = yield* HttpClient.HttpClient
      const channels = yield* Channels
      const variables = yield* currentVariables
      const given = { ...options, logger: yield* resolveEffectLogger(options.logger) }
      yield* validated(() => resolvePollingOptions(given, undefined, caller, variables))
      return WorkerTransport.of({
        open: (registration, handlers) =>
          Effect.flatMap(
            validated(() =>
              resolvePollingOptions(given, requestedEnvironment(registration), caller, variables)
            ),
            (resolved) => open(resolved, choices, registration, handlers)
          ).pipe(
            Effect.provideService(HttpClient.HttpClient, http),
            Effect.provideService(Channels, channels)
          )
      })
    })
  )

const open = (
  options: ResolvedPollingOptions,
  choices: ReadonlyArray<StreamsOption>,
  registration: WorkerRegistration,
  handlers: WorkerHandlers
): Effect.Effect<WorkerSession, ValidationError | AccessError, Scope.Scope | HttpClient.HttpClient> =>
  Effect.gen(function* () {
    const link = yield* linkTo(options, registration, handlers)
    const streams = yield* chooseStreams(link, choices)
    if (streams === undefined) {
      options.logger.info(
        `Worker ${registration.workerId} polls the server at ${options.server.url}: the server offers no stream that ` +
          "this worker can open"
      )
      return yield* openPolling(options, registration, handlers)
    }
    const instance = yield* newInstance(registration)
    const session = yield* retryUntilReached(link, StreamSession.open(link, streams, instance))
    if (session === undefined) {
      options.logger.info(
        `The server at ${options.server.url} does not exchange turns over its stream; ` +
          `worker ${registration.workerId} polls instead`
      )
      return yield* openPolling(options, registration, handlers)
    }
    yield* Effect.addFinalizer(() => session.deregister)
    session.start()
    return session
  })

/** Repeats `attempt` while the server cannot be reached. */
const retryUntilReached = <A>(
  link: ServerLink,
  attempt: Effect.Effect<A, IronflowError>
): Effect.Effect<A, ValidationError | AccessError> => {
  const attemptAgain = (): Effect.Effect<A, ValidationError | AccessError> =>
    Effect.matchEffect(attempt, {
      onSuccess: (value) => {
        link.outage.attemptSucceeded()
        return Effect.succeed(value)
      },
      onFailure: (error) =>
        isRefusal(error)
          ? Effect.fail(error)
          : Effect.flatMap(Effect.sleep(link.outage.attemptFailed(error)), attemptAgain)
    })
  return attemptAgain()
}

const chooseStreams = (
  link: ServerLink,
  choices: ReadonlyArray<StreamsOption>
): Effect.Effect<Streams | undefined, ValidationError | AccessError> =>
  Effect.gen(function* () {
    const transports = yield* retryUntilReached(link, transportsOf(link))
    for (const { load, transport } of choices) {
      if (!transports.has(transport)) continue
      const streams = yield* load(link)
      if (streams !== undefined) return streams
    }
    return undefined
  })

/** Asks the server over which transports it exchanges turns. */
const transportsOf = ({ connection }: ServerLink): Effect.Effect<ReadonlySet<unknown>, IronflowError> => {
  const { method, path } = restCapabilities
  const what = "The request for the capabilities of the server"
  return Effect.flatMap(
    connection.send({ method, path, what }),
    (answer): Effect.Effect<ReadonlySet<unknown>, IronflowError> => {
      if (isSuccess(answer)) return Effect.succeed(readTransports(answer.text))
      const error = serverFailureOf(answer, what)
      const { status } = answer
      const isCallRefused =
        status === 404 ||
        status === 405 ||
        (status >= 400 && status < 500 && status !== 408 && status !== 429 && isFromServer(answer))
      // a server that cannot tell its transports has no streams
      return isCallRefused && !isAccessError(error) ? Effect.succeed(new Set()) : Effect.fail(error)
    }
  )
}

const readTransports = (text: string): ReadonlySet<unknown> => {
  const body = safeJsonParse(text)
  if (!isObject(body) || !Array.isArray(body.features) || !Array.isArray(body.transports)) return new Set()
  return body.features.includes("turns") ? new Set<unknown>(body.transports) : new Set()
}
