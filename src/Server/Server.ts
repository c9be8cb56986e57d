/**
 * The HTTP server of an engine, with one port for clients and workers, legacy ones included. This module puts
 * the parts of the server together, and starts and stops it.
 *
 * `NodeServer.ts` takes connections. `Exchange.ts` reads requests from them and sends the responses.
 * `RequestHandler.ts` makes the responses: it finds the route of a request in a table, reads the body within
 * limits, and answers in the dialect of the route. Other protocols on the port have their own folders.
 * `Http/AccessCheck.ts` decides who may call.
 */
import type * as Http from "node:http"
import type { ServerHttp2Stream } from "node:http2"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import { validated } from "../CheckAsEffect.ts"
import { withLogLevel } from "../EffectLogger.ts"
import { Engine } from "../Engine/Engine.ts"
import { InputBudget } from "../Engine/InputBudget.ts"
import { TAKEOVER_CHECK_MS } from "../Engine/Workers/TakeoverWatch.ts"
import {
  isIronflowError,
  type ListenError,
  NodeVersionError,
  type StoreError,
  type ValidationError
} from "../Errors.ts"
import * as Alarm from "../Execution/Alarm.ts"
import { runtimeProblem } from "../NodeVersion.ts"
import { workerStream } from "../Protocol/Workers.ts"
import { defectResponse, failureResponse, type FailureResponse } from "../Protocol/Http/Failures.ts"
import { type IncomingRequest, makeRequestHandler } from "./RequestHandler.ts"
import { ConnectServer } from "./Connect/ConnectServer.ts"
import { beginStream } from "./Connect/EventStream.ts"
import { subscribeRoutes } from "./Connect/SubscribeRoutes.ts"
import { descriptions } from "./Descriptions.ts"
import { bytesOf, type HttpRequest, httpRequest, respond, limitUnread } from "./Exchange.ts"
import { parseJson } from "./Http/Body.ts"
import { AccessCheck, isLoopback } from "./Http/AccessCheck.ts"
import { HttpVersions } from "./Http/Http2.ts"
import { Pipelines } from "./Http/Pipeline.ts"
import { tooManyUnreadError, UnreadMemory } from "./Http/UnreadResponses.ts"
import { ConsoleFolder, readConsole } from "./Http/ConsoleFiles.ts"
import { createServer, listenError, watchIdle } from "./NodeServer.ts"
import * as Metrics from "./Metrics.ts"
import { clientRoutes } from "./Routes/ClientRoutes.ts"
import { consolePath, consoleRoutes } from "./Routes/ConsoleRoutes.ts"
import { workerRoutes } from "./Routes/WorkerRoutes.ts"
import * as WorkerRpcServer from "./Rpc/WorkerRpcServer.ts"
import {
  checkHost,
  defaults as defaultLimits,
  type HttpServerOptions,
  resolveOptions
} from "./ServerOptions.ts"
import { type ChannelCall, channelRoute } from "./Ws/CallChannel.ts"
import { subscriptionRoute } from "./Ws/SubscriptionRoute.ts"
import { Upgrades } from "./Ws/Upgrades.ts"
import { watchRoutes } from "./Ws/Watches.ts"

export type { HttpServerOptions } from "./ServerOptions.ts"

/** The default limits of the server. */
export const defaults = defaultLimits

/** The HTTP server of an engine, while it listens. */
export class HttpServerEngine extends Context.Service<
  HttpServerEngine,
  {
    /** The host that the server listens at. */
    readonly host: string
    /** The port that the server listens at. */
    readonly port: number
    /** The URL of the server, such as `http://127.0.0.1:9123`. */
    readonly url: string
    /**
     * The URL of the console for browsers; `undefined` without a console. When `console.base` is set, this is only a
     * path, since the engine does not know the host name of the proxy.
     */
    readonly consoleUrl: string | undefined
    /** Makes `/ready` say that the server is about to stop. The server keeps answering. */
    readonly drain: Effect.Effect<void>
  }
>()("@ironflow/node/HttpServerEngine") {}

/** How long open requests may take to end when the server stops, in milliseconds. */
const SHUTDOWN_MS = 1000

/**
 * Why the server cannot start: its options are invalid (`ValidationError`), it cannot listen (`ListenError`), the
 * runtime is unsuitable (`NodeVersionError`), or the key in `IRONFLOW_BOOTSTRAP_KEY` cannot be stored (`StoreError`).
 */
export type HttpServerError = ValidationError | ListenError | NodeVersionError | StoreError

/** A server for the engine in context, for the lifetime of the layer. */
export const layer = (
  options: HttpServerOptions = {}
): Layer.Layer<HttpServerEngine, HttpServerError, Engine> =>
  Layer.effect(HttpServerEngine, withLogLevel(make(options)))

/** Makes a server for the engine in context, which listens until the scope closes. */
export const make = (
  options: HttpServerOptions
): Effect.Effect<HttpServerEngine["Service"], HttpServerError, Engine | Scope.Scope> =>
  Effect.gen(function* () {
    const resolved = yield* validated(() => resolveOptions(options))
    const problem = runtimeProblem(
      "an engine that listens",
      "Run the engine on Node.js; its clients and workers may run elsewhere. An engine inside the process, without `listen`, runs on Bun too"
    )
    if (problem !== undefined)
      return yield* Effect.fail(new NodeVersionError(problem, { code: "NODE_NEEDED" }))
    const engine = yield* Engine
    yield* engine.management.putBootstrapKey
    // reads changes by other engines, one of which may have stored the same key a moment ago
    if (engine.access.freshness !== undefined) yield* engine.access.freshness.refresh
    yield* validated(() => checkHost(resolved, engine.access.needsKey))
    const accessCheck = new AccessCheck(engine.access, {
      ...resolved,
      exposed: !isLoopback(resolved.host),
      checkEnvironment: engine.functions.checkEnvironment
    })
    const clock = yield* Clock.Clock
    const scope = yield* Scope.Scope
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const stopSignal = yield* Deferred.make<void>()
    let isDraining = false
    const drain = Effect.sync(() => void (isDraining = true))
    const scheduleTimeout = yield* Alarm.makeScheduleTimeout
    const inputBudget = new InputBudget(clock, scheduleTimeout)
    const unread = new UnreadMemory(clock)
    const closingListeners = new Set<() => void>()
    const onClosing = (listener: () => void): (() => void) => {
      closingListeners.add(listener)
      return () => closingListeners.delete(listener)
    }
    const workers = yield* engine.workers.atPort(resolved.leaseTerm)
    const { consoleBase } = resolved
    const consoleFolder = yield* ConsoleFolder
    const routes = [
      ...(consoleBase === undefined
        ? []
        : consoleRoutes({
            access: engine.access,
            base: consoleBase,
            readFiles: () => readConsole(consoleFolder, consolePath(consoleBase))
          })),
      ...descriptions(Metrics.make(engine.measured, () => workers.openPollCount)),
      ...workerRoutes(engine, workers, resolved.maxReportBytes),
      ...subscribeRoutes(engine, unread, onClosing),
      ...clientRoutes(engine, {
        startedAt: clock.currentTimeMillisUnsafe(),
        stopSignal: Deferred.await(stopSignal),
        isDraining: () => isDraining,
        giveUpAfter: (ms) => (listener) => {
          const cancel = scheduleTimeout(ms, listener)
          const stopListening = onClosing(listener)
          return () => {
            cancel()
            stopListening()
          }
        }
      })
    ]
    const requestHandler = makeRequestHandler(resolved, accessCheck, routes, () =>
      clock.currentTimeMillisUnsafe()
    )

    const maxStreamBytes = Math.max(resolved.maxReportBytes, resolved.maxBodyBytes)
    const onBug = (what: string, cause: unknown): void => {
      Fiber.runIn(run(Effect.logError(`${what} because of a bug: please report this`, cause)), scope)
    }
    const upgrades = new Upgrades({
      run: (effect) => void Fiber.runIn(run(effect), scope),
      flow: { inputBudget, unread, scheduleTimeout, timeoutMs: resolved.bodyTimeoutMs },
      accessCheck,
      onBug,
      onUpgraded: (socket) => idle.onUpgraded(socket),
      routes: [
        yield* WorkerRpcServer.make(workers, maxStreamBytes),
        channelRoute({
          answer: (call) => Effect.interruptible(requestHandler.answer(channelRequest(call))),
          refuse: ({ url }, error) => requestHandler.refuse(url, error),
          // calls do not run in the scope, which would end them before they learn that the server stops; they end
          // with their sockets
          run,
          onClosing
        }),
        ...watchRoutes(engine, (effect) => run(effect)),
        subscriptionRoute(engine, (ms, f) => {
          const fiber = run(Effect.forever(Effect.andThen(Effect.sleep(ms), Effect.sync(f))))
          Fiber.runIn(fiber, scope)
          return () => fiber.interruptUnsafe()
        })
      ]
    })

    const { host, port, tls } = resolved
    const server = createServer(resolved)
    const pipelines = new Pipelines(server)
    const streams = new ConnectServer({
      engine,
      workers,
      maxMessageBytes: maxStreamBytes,
      inputBudget,
      unread,
      fork: (effect) => Fiber.runIn(run(effect), scope)
    })
    const versions = new HttpVersions(server, {
      maxHeaderBytes: resolved.maxHeaderBytes,
      timeoutMs: resolved.bodyTimeoutMs,
      pipelines,
      take: (stream, headers) => {
        if (headers[":path"] !== workerStream.path || headers[":method"] !== workerStream.method) return false
        const admit = (): void => {
          // the client hung up while the access records were read again
          if (stream.closed || stream.destroyed) return
          try {
            accessCheck.checkOrigin({ headers })
            streams.open(stream, headers, () => accessCheck.admit({ headers }))
          } catch (error) {
            if (!isIronflowError(error)) onBug("A request for a stream failed", error)
            refuseStream(
              stream,
              isIronflowError(error) ? failureResponse(error, "connect") : defectResponse("connect")
            )
          }
        }
        const refresh = accessCheck.requiredRefresh({ headers }, false)
        if (refresh === undefined) admit()
        else {
          const admitted = Effect.match(refresh, {
            onSuccess: admit,
            onFailure: (error) => refuseStream(stream, failureResponse(error, "connect"))
          })
          Fiber.runIn(run(admitted), scope)
        }
        return true
      }
    })
    const idle = watchIdle(server, versions)
    const boundServer = yield* Effect.mapError(
      NodeHttpServer.make(() => server, { port, host, gracefulShutdownTimeout: SHUTDOWN_MS }),
      (error) => listenError(error, host, port)
    )
    // ends the calls that are still open: finalizers run in reverse order, so this one runs after the finalizer of
    // `serve`, which waits for open calls as long as `gracefulShutdownTimeout`
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        upgrades.close()
        versions.close()
        server.closeAllConnections()
      })
    )
    yield* boundServer.serve(
      Effect.flatMap(HttpServerRequest, (serverRequest) => {
        // an HTTP/2 request has all properties of an HTTP/1.1 request that are used here
        const request = NodeHttpServerRequest.toIncomingMessage(serverRequest) as HttpRequest
        const response = NodeHttpServerRequest.toServerResponse(serverRequest) as Http.ServerResponse
        // a call is interrupted when its client hangs up, and a call that must not stop halfway is
        // uninterruptible
        return Effect.map(
          Effect.interruptible(requestHandler.answer(httpRequest(request, response, inputBudget))),
          (answer) => {
            const hasRoom = unread.makeRoomFor(bytesOf(answer))
            const reply = hasRoom ? answer : requestHandler.refuse(request.url ?? "/", tooManyUnreadError())
            limitUnread(unread, request, response, bytesOf(reply))
            // after `limitUnread`, since `beginStream` removes the timeout that `limitUnread` sets
            if (reply.body !== undefined) beginStream(request, response)
            return respond(reply, request, accessCheck.corsHeaders(request))
          }
        )
      })
    )
    // `serve` has added a listener for upgrades. This one replaces it: it can refuse a request before the upgrade, and
    // receives the raw socket.
    server.removeAllListeners("upgrade").on("upgrade", (request, socket, head) => {
      upgrades.upgrade(request, socket, Buffer.concat([head, pipelines.leave(socket)]))
    })
    // the listener of `serve` sends "continue" only when the body is read through Effect's request, which is not done
    // here; without a listener Node sends "continue" at once
    server.removeAllListeners("checkContinue")
    yield* workers.watch
    // an engine that writes nothing would not notice by itself that another engine has taken the database over
    yield* Effect.forkScoped(
      Effect.forever(Effect.andThen(Effect.sleep(TAKEOVER_CHECK_MS), engine.checkOwner))
    )
    yield* Effect.forkScoped(upgrades.endDeadSockets)
    // runs first when the server stops, so that waiting calls learn of the stop
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        Effect.andThen(drain, Deferred.succeed(stopSignal, undefined)),
        Effect.sync(() => {
          workers.goAway()
          for (const listener of closingListeners) listener()
          upgrades.goAway()
          streams.goAway()
          versions.goAway()
          idle.close()
        })
      )
    )

    const { address } = boundServer
    const actualPort = "port" in address ? address.port : port
    const shownHost = host.includes(":") ? `[${host}]` : host
    const url = `${tls === undefined ? "http" : "https"}://${shownHost}:${actualPort}`
    return HttpServerEngine.of({
      host,
      port: actualPort,
      drain,
      url,
      consoleUrl:
        consoleBase === undefined ? undefined : (consoleBase === "" ? url : "") + consolePath(consoleBase)
    })
  })

const refuseStream = (stream: ServerHttp2Stream, { body, status }: FailureResponse): void => {
  // a response that has begun cannot be replaced, and nobody reads a stream that is closed
  if (stream.headersSent || stream.closed) return void stream.close()
  stream.respond({ ":status": status, "content-type": "application/json" })
  stream.end(JSON.stringify(body))
}

/**
 * The request of a call over a WebSocket. The call has arrived completely, and within the limits of the socket, which
 * are narrower than those for an HTTP body.
 */
const channelRequest = ({ body, method, request, trace, url, visitor }: ChannelCall): IncomingRequest => ({
  method,
  url,
  request,
  trace,
  connection: request.socket,
  visitor,
  readJson: (limits) => parseJson(body, limits),
  readBytes: () => Effect.sync(() => Buffer.from(body)),
  release: () => undefined
})
