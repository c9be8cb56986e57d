/**
 * The engine over HTTP: clients, existing ones included, and workers, on one port.
 *
 * Every request finds its route in a table, has its body read within limits, and is answered in the dialect of the route:
 * see `Protocol/Http`. Besides, there are `/openapi.json` and, for Prometheus, `/metrics`.
 *
 * Who may ask is decided by `Gate.ts`.
 */
import * as Http from "node:http"
import * as Https from "node:https"
import { constants, type ServerHttp2Stream } from "node:http2"
import type { Socket } from "node:net"
import { TLSSocket } from "node:tls"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { ServeError } from "effect/http/HttpServerError"
import { HttpServerRequest } from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { withLogLevel } from "../../EffectLogger.ts"
import { DEFAULT_ENVIRONMENT, DEFAULT_PORT } from "../../Constants.ts"
import { type Duration, formatDuration, positiveDuration } from "../../Duration.ts"
import { checkKeys, type Keys } from "../../OptionKeys.ts"
import { CONNECT_PATH } from "../../Protocol/Connect/Messages.ts"
import {
  type IronflowError,
  type StoreError,
  isIronflowError,
  ListenError,
  NodeVersionError,
  UnsupportedError,
  ValidationError
} from "../../Errors.ts"
import { runtimeProblem } from "../../NodeVersion.ts"
import * as Alarm from "../../Execution/Alarm.ts"
import { stepResultBytes } from "../../Limits.ts"
import { CHANNEL_HEADER, CHANNEL_PATH } from "../../Protocol/Http/Channel.ts"
import { type Access, readEngine } from "../../Protocol/Http/Access.ts"
import { descriptions as described, type Dialect, endpoints } from "../../Protocol/Http/Endpoints.ts"
import { defectResponse, type FailureResponse, failureResponse } from "../../Protocol/Http/Failures.ts"
import { show } from "../../Show.ts"
import { SDK_VERSION } from "../../Worker/Version.ts"
import { OWNER_LOOK_MS } from "../Dispatch.ts"
import { Engine } from "../Engine.ts"
import { type BodyLimits, parseJson, readBytes, readJson, type Room } from "./Body.ts"
import { clientRoutes } from "./ClientRoutes.ts"
import { ALPN_PROTOCOLS, BothVersions } from "./Http2.ts"
import {
  checkAllowedHosts,
  checkCall,
  checkCorsOrigins,
  checkWhole,
  Gate,
  isLoopback,
  type Visitor
} from "./Gate.ts"
import { type Arrival, Intake } from "../Intake.ts"
import { lastWords } from "./LastWords.ts"
import * as Metrics from "./Metrics.ts"
import { Pipelines } from "./Pipeline.ts"
import { checked } from "../../Client/HttpCalls.ts"
import { json, type Reply, type Route, Routes } from "./Route.ts"
import { noRoom, Unread, UNREAD_MS } from "./Unread.ts"
import { Waiting } from "./Waiting.ts"
import { workerRoutes } from "./WorkerRoutes.ts"
import { Workers } from "./Workers.ts"
import { ConnectServer } from "../Connect/ConnectServer.ts"
import {
  asksForStream,
  beginStream,
  endedStream,
  isPlainCall,
  readMessage,
  unsupportedType
} from "../Connect/EventStream.ts"
import { subscribeRoutes } from "../Connect/SubscribeRoutes.ts"
import * as WorkerRpcServer from "../Rpc/WorkerRpcServer.ts"
import { type ChannelCall, channelRoute } from "../Ws/Channel.ts"
import { subscriptionRoute } from "../Ws/SubscriptionRoute.ts"
import { Upgrades } from "../Ws/Upgrades.ts"
import { watchRoutes } from "../Ws/Watches.ts"

export interface HttpServerOptions {
  /** 9123 by default; 0 for any free one. */
  readonly port?: number
  /** `127.0.0.1` by default. As long as there are no API keys only loopback is allowed, unless `insecure` is set. */
  readonly host?: string
  /** Certificate and key in PEM: the server speaks HTTPS. */
  readonly tls?: { readonly cert: string | Uint8Array; readonly key: string | Uint8Array }
  /** Listens on any host without API keys, for everybody who reaches it. `false` by default. */
  readonly insecure?: boolean
  /** Origins whose pages are answered besides those of the server's own: `https://app.example.com`. None by default. */
  readonly corsOrigins?: ReadonlyArray<string>
  /**
   * Names under which browsers reach the server: `ironflow.example.com`, with a port for that one only. Those of loopback and
   * addresses always are; programs that are no browsers may use any.
   */
  readonly allowedHosts?: ReadonlyArray<string>
  /** Bytes of the body of a client's request; a little over the largest payload (4 MiB) by default. */
  readonly maxBodyBytes?: number
  /** Bytes of the body of a worker's request, which may carry several results; 16 MiB by default. */
  readonly maxReportBytes?: number
  /** Bytes of all headers of a request; 16 KiB by default. */
  readonly maxHeaderBytes?: number
  /** Milliseconds in which the headers, and then the body, have to arrive; 30000 by default, an hour at most. */
  readonly bodyTimeoutMs?: number
  /** Connections at once; more are closed. 10000 by default. */
  readonly maxConnections?: number
  /**
   * How long a worker may be silent before its runs go to others; `"15s"` by default, from 3 seconds to an hour. It aborts
   * them itself two seconds earlier.
   */
  readonly leaseTerm?: Duration
}

const serverKeys = {
  port: true,
  host: true,
  tls: { cert: true, key: true } satisfies Keys<NonNullable<HttpServerOptions["tls"]>>,
  insecure: true,
  corsOrigins: true,
  allowedHosts: true,
  maxBodyBytes: true,
  maxReportBytes: true,
  maxHeaderBytes: true,
  bodyTimeoutMs: true,
  maxConnections: true,
  leaseTerm: true
} satisfies Keys<HttpServerOptions>

type ResolvedOptions = Required<Omit<HttpServerOptions, "tls" | "leaseTerm">> &
  Pick<HttpServerOptions, "tls"> & { readonly leaseTerm: number }

const MIN_LEASE_MS = 3000
const MAX_LEASE_MS = 3_600_000
const MAX_BODY_TIMEOUT_MS = 3_600_000
/** In which a request has to arrive as a whole, as Node.js has it by default. */
const REQUEST_TIMEOUT_MS = 300_000

/** The engine's HTTP server, listening. */
export class HttpServerEngine extends Context.Service<
  HttpServerEngine,
  {
    readonly host: string
    readonly port: number
    /** `http://127.0.0.1:9123` */
    readonly url: string
  }
>()("@ironflow/node/HttpServerEngine") {}

/** How long a connection may carry no request when the server stops, milliseconds. */
const IDLE_GRACE_MS = 100

/** How long open requests may take to end when the server stops, milliseconds. */
const SHUTDOWN_MS = 1000

/**
 * Why there is no server: options are not acceptable (`ValidationError`), it cannot listen (`ListenError`), the runtime cannot carry
 * it (`NodeVersionError`), or the key in `IRONFLOW_BOOTSTRAP_KEY` cannot be stored (`StoreError`).
 */
export type HttpServerError = ValidationError | ListenError | NodeVersionError | StoreError

/** Serves the engine in context for the lifetime of the layer. */
export const layer = (
  options: HttpServerOptions = {}
): Layer.Layer<HttpServerEngine, HttpServerError, Engine> =>
  Layer.effect(HttpServerEngine, withLogLevel(make(options)))

export const make = (
  options: HttpServerOptions
): Effect.Effect<HttpServerEngine["Service"], HttpServerError, Engine | Scope.Scope> =>
  Effect.gen(function* () {
    const resolved = yield* checked(() => resolveOptions(options))
    const problem = runtimeProblem(
      "an engine that listens",
      "Run it on Node.js, and whatever talks to it where you like; an engine inside the process, without `listen`, runs on Bun too"
    )
    if (problem !== undefined)
      return yield* Effect.fail(new NodeVersionError(problem, { code: "NODE_NEEDED" }))
    const engine = yield* Engine
    yield* engine.putBootstrapKey
    yield* checked(() => checkHost(resolved, engine.access.required))
    const gate = new Gate(engine.access, {
      ...resolved,
      exposed: !isLoopback(resolved.host),
      checkEnvironment: engine.checkEnvironment
    })
    const clock = yield* Clock.Clock
    const scope = yield* Scope.Scope
    const run = Effect.runForkWith(yield* Effect.context<never>())
    const closing = yield* Deferred.make<void>()
    const after = yield* Alarm.makeAfter
    const intake = new Intake(clock, after)
    const unread = new Unread(clock)
    const leaving = new Set<() => void>()
    const onClosing = (listener: () => void): (() => void) => {
      leaving.add(listener)
      return () => leaving.delete(listener)
    }
    const workers = new Workers(engine, clock, resolved.leaseTerm, (effect) =>
      Fiber.runIn(run(effect), scope)
    )
    const app = makeApp(resolved, gate, [
      ...descriptions(Metrics.make(engine, () => workers.openPolls)),
      ...workerRoutes(engine, workers, resolved.maxReportBytes),
      ...subscribeRoutes(engine, unread, onClosing),
      ...clientRoutes(engine, {
        startedAt: clock.currentTimeMillisUnsafe(),
        closing: Deferred.await(closing),
        giveUpAfter: (ms) => (listener) => {
          const cancel = after(ms, listener)
          const stay = onClosing(listener)
          return () => {
            cancel()
            stay()
          }
        }
      })
    ])

    const maxStreamBytes = Math.max(resolved.maxReportBytes, resolved.maxBodyBytes)
    const onBug = (what: string, cause: unknown): void => {
      Fiber.runIn(run(Effect.logError(`${what} because of a bug`, cause)), scope)
    }
    const upgrades = new Upgrades({
      flow: { intake, unread, after, timeoutMs: resolved.bodyTimeoutMs },
      gate,
      onBug,
      routes: [
        yield* WorkerRpcServer.make(workers, maxStreamBytes),
        channelRoute({
          answer: (call) => Effect.interruptible(app.answer(overChannel(call))),
          refuse: ({ url }, error) => app.refuse(url, error),
          // not in the scope, which would end calls before they hear that the server stops; they end with their sockets
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
      intake,
      unread,
      fork: (effect) => Fiber.runIn(run(effect), scope)
    })
    const versions = new BothVersions(server, {
      maxHeaderBytes: resolved.maxHeaderBytes,
      timeoutMs: resolved.bodyTimeoutMs,
      pipelines,
      take: (stream, headers) => {
        if (headers[":path"] !== CONNECT_PATH || headers[":method"] !== "POST") return false
        try {
          gate.checkOrigin({ headers })
          streams.open(stream, headers, () => gate.admit({ headers }))
        } catch (error) {
          if (!isIronflowError(error)) onBug("A request for a stream failed", error)
          refuseStream(
            stream,
            isIronflowError(error) ? failureResponse(error, "connect") : defectResponse("connect")
          )
        }
        return true
      }
    })
    const closeIdle = watchIdle(server, versions)
    const listening = yield* Effect.mapError(
      NodeHttpServer.make(() => server, { port, host, gracefulShutdownTimeout: SHUTDOWN_MS }),
      (error) => listenError(error, host, port)
    )
    // last: whoever is still there when the time is up
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        upgrades.close()
        versions.close()
        server.closeAllConnections()
      })
    )
    yield* listening.serve(
      Effect.flatMap(HttpServerRequest, (asked) => {
        // those of HTTP/2 have all of it that is used here
        const request = NodeHttpServerRequest.toIncomingMessage(asked) as HttpRequest
        const response = NodeHttpServerRequest.toServerResponse(asked) as Http.ServerResponse
        // a client that hangs up waits for nothing; what must not stop half way says so itself
        return Effect.map(
          Effect.interruptible(app.answer(overHttp(request, response, intake))),
          (answered) => {
            const hasRoom = unread.hasRoomFor(bytesOf(answered))
            const reply = hasRoom ? answered : app.refuse(request.url ?? "/", noRoom())
            whileUnread(unread, request, response, bytesOf(reply))
            // after that: it has another limit
            if (reply.body !== undefined) beginStream(request, response)
            return respond(reply, request, gate.corsHeaders(request))
          }
        )
      })
    )
    // in place of the listener that comes with the line above: ours refuses before it upgrades, and sees the bare sockets
    server.removeAllListeners("upgrade").on("upgrade", (request, socket, head) => {
      upgrades.upgrade(request, socket, Buffer.concat([head, pipelines.leave(socket)]))
    })
    // so does this one, which says "continue" when the body is read its own way, and never to us: Node says it at once
    server.removeAllListeners("checkContinue")
    yield* workers.watch
    // an engine that has nothing to write would not notice
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(OWNER_LOOK_MS), engine.checkOwner)))
    yield* Effect.forkScoped(Effect.catch(engine.lost, () => Effect.sync(() => workers.abandon())))
    yield* Effect.forkScoped(upgrades.watch)
    // first: those who wait for something are told to look elsewhere
    yield* Effect.addFinalizer(() =>
      Effect.andThen(
        Deferred.succeed(closing, undefined),
        Effect.sync(() => {
          workers.goAway()
          for (const leave of leaving) leave()
          upgrades.goAway()
          streams.goAway()
          versions.goAway()
          closeIdle()
        })
      )
    )

    const { address } = listening
    const actualPort = "port" in address ? address.port : port
    const shownHost = host.includes(":") ? `[${host}]` : host
    return HttpServerEngine.of({
      host,
      port: actualPort,
      url: `${tls === undefined ? "http" : "https"}://${shownHost}:${actualPort}`
    })
  })

// ---------------------------------------------------------------------------------------------------------------------
// Listening
// ---------------------------------------------------------------------------------------------------------------------

/**
 * Watches which connections carry no request; returns what closes these, and from then on every other one when its request
 * has been answered. Node itself takes a connection that never had a request for a busy one, and waits for it.
 */
const watchIdle = (server: Http.Server | Https.Server, versions: BothVersions): (() => void) => {
  const idle = new Set<Socket>()
  let closing = false
  server.on(server instanceof Https.Server ? "secureConnection" : "connection", (socket: Socket) => {
    idle.add(socket)
    socket.once("close", () => idle.delete(socket))
  })
  server.on("request", ({ httpVersionMajor, socket }, response) => {
    if (httpVersionMajor > 1) return
    idle.delete(socket)
    response.once("close", () => {
      if (closing) socket.destroySoon()
      else if (!socket.destroyed) idle.add(socket)
    })
  })
  return () => {
    closing = true
    // a request may be on its way on one that looks idle
    setTimeout(() => {
      for (const socket of idle) if (!versions.has(socket)) socket.destroySoon()
    }, IDLE_GRACE_MS)
  }
}

/**
 * An idle connection stays open for so much longer than its client is told, milliseconds: a client that is late, or whose
 * request is on its way, must not find it closed.
 */
const KEEP_ALIVE_BUFFER_MS = 5000

/** What the server takes, unless the options say otherwise. */
export const defaults = {
  maxBodyBytes: stepResultBytes + 256 * 1024,
  maxReportBytes: 4 * stepResultBytes,
  maxHeaderBytes: 16 * 1024,
  bodyTimeoutMs: 30_000,
  maxConnections: 10_000
}

const resolveOptions = (options: HttpServerOptions): ResolvedOptions => {
  checkKeys(options, serverKeys, "The HTTP server")
  const resolved: ResolvedOptions = {
    port: DEFAULT_PORT,
    host: "127.0.0.1",
    insecure: false,
    ...defaults,
    ...options,
    corsOrigins: checkCorsOrigins(options.corsOrigins ?? []),
    allowedHosts: checkAllowedHosts(options.allowedHosts ?? []),
    leaseTerm: positiveDuration(options.leaseTerm ?? "15s", "leaseTerm of the engine")
  }
  const { leaseTerm, port } = resolved
  if (leaseTerm < MIN_LEASE_MS || leaseTerm > MAX_LEASE_MS) {
    throw new ValidationError(
      `\`leaseTerm\` must be from ${formatDuration(MIN_LEASE_MS)} to ${formatDuration(MAX_LEASE_MS)}, got ${formatDuration(leaseTerm)}`
    )
  }
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new ValidationError(`The port must be an integer from 0 to 65535, got ${show(port)}`)
  }
  for (const name of [
    "maxBodyBytes",
    "maxReportBytes",
    "maxHeaderBytes",
    "bodyTimeoutMs",
    "maxConnections"
  ] as const) {
    if (!Number.isSafeInteger(resolved[name]) || resolved[name] <= 0) {
      throw new ValidationError(`\`${name}\` must be a positive integer, got ${show(resolved[name])}`)
    }
  }
  if (resolved.bodyTimeoutMs > MAX_BODY_TIMEOUT_MS) {
    throw new ValidationError(
      `\`bodyTimeoutMs\` must be at most ${MAX_BODY_TIMEOUT_MS}, an hour, got ${resolved.bodyTimeoutMs}`
    )
  }
  return resolved
}

const checkHost = ({ host, insecure }: ResolvedOptions, hasKeys: boolean): void => {
  if (isLoopback(host) || insecure || hasKeys) return
  throw new ValidationError(
    `The engine does not listen on "${host}" without API keys: everybody who reaches the port could run and read everything. ` +
      "Make a key with `ironflow apikeys create` or IRONFLOW_BOOTSTRAP_KEY, listen on 127.0.0.1, or set `insecure: true` if something else guards the port"
  )
}

const createServer = (options: ResolvedOptions): Http.Server => {
  const limits: Http.ServerOptions = {
    maxHeaderSize: options.maxHeaderBytes,
    headersTimeout: options.bodyTimeoutMs,
    requestTimeout: Math.max(REQUEST_TIMEOUT_MS, 2 * options.bodyTimeoutMs),
    connectionsCheckingInterval: Math.min(5000, options.bodyTimeoutMs)
  }
  const { tls } = options
  const server =
    tls === undefined
      ? Http.createServer(limits)
      : Https.createServer({
          ...limits,
          handshakeTimeout: options.bodyTimeoutMs,
          cert: Buffer.from(tls.cert),
          key: Buffer.from(tls.key),
          ALPNProtocols: ALPN_PROTOCOLS
        })
  server.maxConnections = options.maxConnections
  server.keepAliveTimeoutBuffer = KEEP_ALIVE_BUFFER_MS
  server.on("clientError", answerMalformed)
  server.on("timeout", cut)
  // without its TLS nothing can be said on it
  server.on("tlsClientError", (_error: Error, socket: Socket) => socket.destroy())
  return server
}

/** Ends a connection that leaves unread what it was told, if there is such, so that the system keeps nothing of it either. */
const cut = (socket: Socket): void => {
  if (socket.writableLength > 0 && !(socket instanceof TLSSocket)) socket.resetAndDestroy()
  else socket.destroy()
}

/** Something that is no HTTP request, or whose headers are too large or too slow. */
const answerMalformed = (error: Error & { readonly code?: string }, socket: Socket): void => {
  if (!socket.writable) return void socket.destroy()
  const [status, message] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? ([431, "The headers are too large"] as const)
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? ([408, "The request did not arrive in time"] as const)
        : ([400, "This is not a valid HTTP request"] as const)
  lastWords(socket, { status, body: { error: message, message, code: "BAD_REQUEST" } })
}

const listenError = (error: ServeError, host: string, port: number): ListenError => {
  const { cause } = error
  const code = cause instanceof Error && "code" in cause ? cause.code : undefined
  if (code === "EADDRINUSE") {
    return new ListenError(
      `Port ${port} on ${host} is in use by another program, perhaps another Ironflow engine. ` +
        "Stop it, or choose another port with `port` (0 takes any that is free)",
      { code: "PORT_IN_USE", details: { host, port }, cause: error }
    )
  }
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new ListenError(`The engine cannot listen on ${host}, port ${port}: ${reason}`, {
    code: "LISTEN_FAILED",
    details: { host, port },
    cause: error
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// Requests
// ---------------------------------------------------------------------------------------------------------------------

/** A request of HTTP/1.1, or one of HTTP/2 with its stream. */
type HttpRequest = Http.IncomingMessage & { readonly stream?: ServerHttp2Stream }

/** A request by whatever it travels. */
interface Asked {
  readonly method: string
  /** With its query. */
  readonly url: string
  readonly request: Http.IncomingMessage
  /** What all that comes on the same connection shares. */
  readonly line: object
  /** Who sends it, if that is known already. */
  readonly visitor?: Visitor
  readonly readJson: (limits: BodyLimits) => Effect.Effect<unknown, IronflowError>
  readonly readBytes: (limits: BodyLimits) => Effect.Effect<Buffer, IronflowError>
  /** Nobody wants the body, or not any more. */
  readonly release: () => void
}

interface App {
  /** Answers whatever comes; interrupted when the client hangs up. */
  readonly answer: (asked: Asked) => Effect.Effect<Reply>
  readonly refuse: (url: string, error: IronflowError) => Reply
}

const makeApp = (options: ResolvedOptions, gate: Gate, all: ReadonlyArray<Route>): App => {
  const routes = new Routes(all)
  const waiting = new Waiting()
  const client = { maxBytes: options.maxBodyBytes, timeoutMs: options.bodyTimeoutMs }
  const worker = {
    maxBytes: Math.max(options.maxReportBytes, options.maxBodyBytes),
    timeoutMs: options.bodyTimeoutMs,
    mayBeSealed: true
  }

  const answer = (asked: Asked, path: string, query: string): Effect.Effect<Reply, IronflowError> => {
    const { method, request } = asked
    if (asked.visitor === undefined) {
      gate.checkOrigin(request, () => routes.find(method, path)?.route.access === "public")
    }
    const preflight = gate.preflight(request)
    if (preflight !== undefined) return Effect.succeed(preflight)
    const found = routes.find(method, path)
    const isPublic = found?.route.access === "public"
    // without a key nobody learns what there is
    const visitor = isPublic ? undefined : (asked.visitor ?? gate.admit(request))
    if (found === undefined) {
      return Effect.fail(
        new UnsupportedError(`There is nothing at ${method} ${path.slice(0, 256)}`, {
          code: "ROUTE_NOT_FOUND"
        })
      )
    }
    const { route, variables } = found
    // taking work is a GET
    if (asked.visitor === undefined && isWork(route.access)) gate.checkEffect(request)
    if (visitor !== undefined) checkCall(visitor, route.access, variables)
    const environment = visitor?.environment ?? DEFAULT_ENVIRONMENT
    const rule = route.access
    const call = (body: unknown) => {
      const reply = route.answer({
        environment,
        caller: visitor?.caller,
        shows: (name) =>
          visitor === undefined ||
          rule === "public" ||
          visitor.caller.may(rule.action, `${rule.subject.kind}:${name}`, environment),
        body,
        variables,
        request,
        // few ask for it
        get query() {
          return new URLSearchParams(query)
        }
      })
      return visitor !== undefined && rule !== "public" && rule.waits === true
        ? waiting.on(
            asked.line,
            Effect.raceFirst(
              reply,
              visitor.caller.until(() => checkWhole(visitor, rule, variables, body))
            )
          )
        : reply
    }
    // whoever may be anybody has nothing to say that were worth the reading
    if (isPublic || method === "GET" || method === "DELETE") {
      asked.release()
      return call(undefined)
    }
    const limits = route.fromWorker ? worker : client
    return Effect.flatMap(readBody(asked, route.reads, limits), (body) =>
      Effect.flatten(
        checked(() => {
          if (visitor !== undefined) checkWhole(visitor, rule, variables, body)
          const answered = call(body)
          // it may wait for long, and has read what it was told
          if (rule !== "public" && rule.waits === true) asked.release()
          return answered
        })
      )
    )
  }

  /** Whether the failure of a call is said as the end of a stream: not to the page of somebody else, which is to hear nothing. */
  const hearsOfStream = (request: Http.IncomingMessage, path: string): boolean => {
    if (!streamPaths.has(path) || !asksForStream(request)) return false
    try {
      gate.checkOrigin(request)
      return true
    } catch (error) {
      if (isIronflowError(error)) return false
      throw error
    }
  }

  return {
    refuse: (url, error) => replyTo(failureResponse(error, dialectOf(url))),
    answer: (asked) => {
      const { method, url } = asked
      const mark = url.indexOf("?")
      // clients whose base URL ends with a slash send two of them
      const path = (mark === -1 ? url : url.slice(0, mark)).replace(/^\/{2,}/, "/")
      return Effect.catchCause(
        Effect.flatten(checked(() => answer(asked, path, mark === -1 ? "" : url.slice(mark + 1)))),
        // the query of a request may hold a key
        (cause) =>
          replyToFailure(
            cause,
            dialectOf(path),
            `${method} ${path}`,
            hearsOfStream(asked.request, path) ? endedStream : replyTo
          )
      )
    }
  }
}

const readBody = (
  { readBytes, readJson, request }: Asked,
  reads: Route["reads"],
  limits: BodyLimits
): Effect.Effect<unknown, IronflowError> => {
  if (reads === "bytes") return readBytes(limits)
  if (reads === "json") return readJson(limits)
  if (asksForStream(request))
    return Effect.flatMap(readBytes(limits), (body) => checked(() => readMessage(body)))
  // who may not ask hears of that, and not of how to ask
  return isPlainCall(request) ? readJson(limits) : Effect.fail(unsupportedType(request))
}

/** Paths of calls that are answered with a stream. */
const streamPaths: ReadonlySet<string> = new Set(
  Object.values(endpoints).flatMap((endpoint) => ("streams" in endpoint ? [endpoint.path] : []))
)

/** What describes the server itself. */
const descriptions = (metrics: ReturnType<typeof Metrics.make>): ReadonlyArray<Route> => {
  let openApi: string | undefined
  // few ask for it
  const document = Effect.promise(async () => {
    if (openApi === undefined) {
      const { default: made } = await import("../../Protocol/Http/openapi.json", { with: { type: "json" } })
      openApi = JSON.stringify({ ...made, info: { ...made.info, version: SDK_VERSION } })
    }
    return openApi
  })
  return [
    {
      endpoint: described.metrics,
      access: readEngine,
      fromWorker: false,
      reads: "json",
      answer: () =>
        Effect.map(metrics, (text) => ({
          status: 200,
          text,
          type: "text/plain; version=0.0.4; charset=utf-8"
        }))
    },
    {
      endpoint: described.openApi,
      access: readEngine,
      fromWorker: false,
      reads: "json",
      answer: () => Effect.map(document, (text) => ({ status: 200, text }))
    }
  ]
}

const isWork = (rule: Access): boolean =>
  rule !== "public" && (rule.action === "worker:run" || rule.action === "projection:run")

const refuseStream = (stream: ServerHttp2Stream, { body, status }: FailureResponse): void => {
  // half of an answer cannot be taken back, and nobody hears a stream that is closed
  if (stream.headersSent || stream.closed) return void stream.close()
  stream.respond({ ":status": status, "content-type": "application/json" })
  stream.end(JSON.stringify(body))
}

const dialectOf = (path: string): Dialect => (path.startsWith("/ironflow.v1.") ? "connect" : "rest")

const respond = (
  { body, status, text, type = "application/json", headers }: Reply,
  request: Http.IncomingMessage,
  corsHeaders: { readonly [name: string]: string } | undefined
): HttpServerResponse.HttpServerResponse => {
  const all = {
    ...headers,
    ...corsHeaders,
    [CHANNEL_HEADER]: CHANNEL_PATH,
    // what is left of a body that was not read would be taken for the next request
    ...(request.complete || !hasBody(request) ? {} : { connection: "close" })
  }
  if (body !== undefined) {
    return HttpServerResponse.raw(body, { status, contentType: type, headers: all })
  }
  return text === undefined
    ? HttpServerResponse.empty({ status, headers: all })
    : HttpServerResponse.text(text, { status, contentType: type, headers: all })
}

const replyToFailure = (
  cause: Cause.Cause<IronflowError>,
  dialect: Dialect,
  what: string,
  reply: (failure: FailureResponse) => Reply
): Effect.Effect<Reply> => {
  // the client has hung up
  if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
  const error = Cause.squash(cause)
  if (isIronflowError(error)) return Effect.succeed(reply(failureResponse(error, dialect)))
  return Effect.as(Effect.logError(`${what} failed because of a bug`, cause), reply(defectResponse(dialect)))
}

const replyTo = ({ body, status }: FailureResponse): Reply => json(body, status)

const overHttp = (request: HttpRequest, response: Http.ServerResponse, intake: Intake): Asked => {
  let arrival: Arrival | undefined
  const release = (): void => arrival?.end()
  const line = request.stream?.session ?? request.socket
  const room: Room = {
    intake,
    line,
    onArrival: (begun) => {
      arrival = begun
      response.once("close", release)
    }
  }
  return {
    method: request.method ?? "GET",
    url: request.url ?? "/",
    request,
    line,
    readJson: (limits) => readJson(request, limits, room),
    readBytes: (limits) => readBytes(request, limits, room),
    release: () => {
      release()
      // what nobody takes of a stream of HTTP/2 stays in memory until it ends
      if (arrival === undefined && request.stream !== undefined) request.resume()
    }
  }
}

/** What an answer takes until it is read. Characters that are not of Latin-1 take several bytes. */
const bytesOf = ({ text = "" }: Reply): number =>
  text.length > SMALL_ANSWER ? Buffer.byteLength(text) : text.length

/** Sees to it that an answer is read: within a time, and within the memory that there is for all. */
const whileUnread = (
  unread: Unread,
  { complete, socket, stream }: HttpRequest,
  response: Http.ServerResponse,
  length: number
): void => {
  if (stream === undefined) {
    // Node puts it off as long as something leaves, and sets another limit afterwards
    socket.setTimeout(UNREAD_MS)
    if (length <= SMALL_ANSWER) return
  } else {
    stream.setTimeout(UNREAD_MS, () => cutSession(stream))
    // whatever is left of the body
    if (!complete) response.once("finish", () => stream.close())
  }
  const line = unread.line(() => (stream === undefined ? cut(socket) : cutSession(stream)))
  line.set(length)
  response.once("close", () => line.set(0))
}

/** A connection of HTTP/1.1 has one answer at a time: such a small one is not worth counting. */
const SMALL_ANSWER = 64 * 1024

const cutSession = ({ session }: ServerHttp2Stream): void =>
  session?.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM)

/** What a channel carries has arrived whole, and is within its limits, which are narrower. */
const overChannel = ({ body, method, request, url, visitor }: ChannelCall): Asked => ({
  method,
  url,
  request,
  line: request.socket,
  visitor,
  readJson: (limits) => parseJson(body, limits),
  readBytes: () => Effect.sync(() => Buffer.from(body)),
  release: () => undefined
})

const hasBody = ({ headers }: Http.IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0
