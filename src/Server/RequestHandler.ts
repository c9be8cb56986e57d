/**
 * Answers a request, whatever its transport: finds its route, authenticates the caller, and reads the body.
 */
import type * as Http from "node:http"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import { validated } from "../CheckAsEffect.ts"
import { DEFAULT_ENVIRONMENT } from "../Constants.ts"
import { type IronflowError, isIronflowError, UnsupportedError } from "../Errors.ts"
import type { Caller } from "../Engine/Access/Access.ts"
import { parseTrace } from "../Trace.ts"
import { type Dialect, dialectOf } from "../Protocol/Http/CallAddress.ts"
import { defectResponse, failureResponse, type FailureResponse } from "../Protocol/Http/Failures.ts"
import { WORKER_UNKNOWN } from "../Protocol/Http/Turns.ts"
import { callSpecs as streaming } from "../Protocol/Subscriptions.ts"
import type { Access } from "../Protocol/CallSpec.ts"
import {
  asksForStream,
  endedStream,
  isPlainCall,
  readMessage,
  unsupportedType
} from "./Connect/EventStream.ts"
import type { BodyLimits } from "./Http/Body.ts"
import { type AccessCheck, checkCall, checkBodyAccess, type Visitor } from "./Http/AccessCheck.ts"
import { type Call, json, type Reply, type Route } from "./Http/Route.ts"
import { Routes } from "./Http/Router.ts"
import { acceptsCached, ResponseCache } from "./Http/ResponseCache.ts"
import { WaitingCalls } from "./Http/WaitingCalls.ts"
import type { ResolvedOptions } from "./ServerOptions.ts"

/** A request, whatever its transport. */
export interface IncomingRequest {
  readonly method: string
  /** The path with its query. */
  readonly url: string
  readonly request: Http.IncomingMessage
  /** The `traceparent` of the request, not validated. */
  readonly trace: unknown
  /** An object that all requests of one connection share. */
  readonly connection: object
  /** The sender, if it was already authenticated. */
  readonly visitor?: Visitor
  readonly readJson: (limits: BodyLimits) => Effect.Effect<unknown, IronflowError>
  readonly readBytes: (limits: BodyLimits) => Effect.Effect<Buffer, IronflowError>
  /** Called when the body is not needed, or is needed no longer. */
  readonly release: () => void
}

interface RequestHandler {
  /** Answers every request: a failure becomes a reply too. The Effect is interrupted when the client hangs up. */
  readonly answer: (incoming: IncomingRequest) => Effect.Effect<Reply>
  readonly refuse: (url: string, error: IronflowError) => Reply
}

/** A call whose query is parsed on first use, since few routes read it. */
class ReceivedCall implements Call {
  readonly environment: string
  readonly caller: Caller | undefined
  readonly shows: (name: string) => boolean
  readonly body: unknown
  readonly variables: Call["variables"]
  readonly request: Http.IncomingMessage
  readonly #query: string
  #parsed: URLSearchParams | undefined

  constructor({ body, caller, environment, request, shows, variables }: Omit<Call, "query">, query: string) {
    this.environment = environment
    this.caller = caller
    this.shows = shows
    this.body = body
    this.variables = variables
    this.request = request
    this.#query = query
  }

  get query(): URLSearchParams {
    return (this.#parsed ??= new URLSearchParams(this.#query))
  }
}

export const makeRequestHandler = (
  options: ResolvedOptions,
  accessCheck: AccessCheck,
  allRoutes: ReadonlyArray<Route>,
  now: () => number
): RequestHandler => {
  const routes = new Routes(allRoutes)
  const waitingCalls = new WaitingCalls()
  const responseCache = new ResponseCache(now)
  const clientLimits = { maxBytes: options.maxBodyBytes, timeoutMs: options.bodyTimeoutMs }
  const workerLimits = {
    maxBytes: Math.max(options.maxReportBytes, options.maxBodyBytes),
    timeoutMs: options.bodyTimeoutMs,
    mayBeSealed: true
  }

  const isPublic = (method: string, path: string): boolean =>
    routes.find(method, path)?.route.access === "public"

  const answer = (
    incoming: IncomingRequest,
    path: string,
    query: string
  ): Effect.Effect<Reply, IronflowError> => {
    const { method, request } = incoming
    if (incoming.visitor === undefined) {
      accessCheck.checkOrigin(request, () => isPublic(method, path))
    }
    const preflight = accessCheck.preflight(request)
    if (preflight !== undefined) return Effect.succeed(preflight)
    const match = routes.find(method, path)
    const needsNoKey = match?.route.access === "public"
    // callers are authenticated before an unknown route is refused, so that a caller without a key does not learn which
    // routes exist
    const visitor = needsNoKey ? undefined : (incoming.visitor ?? accessCheck.admit(request))
    if (match === undefined) {
      return Effect.fail(
        new UnsupportedError(`There is nothing at ${method} ${path.slice(0, 256)}`, {
          code: "ROUTE_NOT_FOUND"
        })
      )
    }
    const { route, variables } = match
    // requests for work have effects, even those that use GET
    if (incoming.visitor === undefined && needsWorkerRights(route.access)) accessCheck.checkEffect(request)
    if (visitor !== undefined) checkCall(visitor, route.access, variables)
    const environment = visitor?.environment ?? DEFAULT_ENVIRONMENT
    const rule = route.access
    const parentSpan = parseTrace(incoming.trace)
    const mayWait = typeof rule === "object" && rule.mayWait === true
    const runCall = (body: unknown) => {
      const runRoute = (): Effect.Effect<Reply, IronflowError> =>
        route.answer(
          new ReceivedCall(
            {
              environment,
              caller: visitor?.caller,
              shows: (name: string) =>
                visitor === undefined ||
                typeof rule === "string" ||
                visitor.caller.may(rule.action, `${rule.resource.kind}:${name}`, environment),
              body,
              variables,
              request
            },
            query
          )
        )
      const untracedReply =
        visitor !== undefined && route.isCacheable === true && acceptsCached(incoming)
          ? responseCache.share(
              { caller: visitor.caller, environment, method, url: incoming.url, body },
              runRoute
            )
          : runRoute()
      const reply =
        parentSpan === undefined
          ? untracedReply
          : Effect.provideService(untracedReply, Tracer.ParentSpan, parentSpan)
      return visitor !== undefined && mayWait
        ? waitingCalls.run(
            incoming.connection,
            visitor.caller.whileAllowed(reply, () => checkBodyAccess(visitor, rule, variables, body))
          )
        : reply
    }
    // public routes and these methods read no body
    if (needsNoKey || method === "GET" || method === "DELETE") {
      incoming.release()
      return runCall(undefined)
    }
    const limits = route.fromWorker ? workerLimits : clientLimits
    return Effect.flatMap(readBody(incoming, route.bodyForm, limits), (body) =>
      Effect.flatten(
        validated(() => {
          if (visitor !== undefined) checkBodyAccess(visitor, rule, variables, body)
          const answered = runCall(body)
          // a call that waits may take long, and no longer needs the body
          if (mayWait) incoming.release()
          return answered
        })
      )
    )
  }

  /**
   * Whether the failure of a call is sent as the end of a stream. For a page that may not call it is not, since the
   * page could read the error there.
   */
  const failsAsStream = (request: Http.IncomingMessage, path: string): boolean => {
    if (!streamPaths.has(path) || !asksForStream(request)) return false
    try {
      accessCheck.checkOrigin(request)
      return true
    } catch (error) {
      if (isIronflowError(error)) return false
      throw error
    }
  }

  return {
    refuse: (url, error) => replyTo(failureResponse(error, dialectOf(url))),
    answer: (incoming) => {
      const { method, url } = incoming
      const queryMark = url.indexOf("?")
      // a client whose base URL ends with a slash sends two slashes
      const path = (queryMark === -1 ? url : url.slice(0, queryMark)).replace(/^\/{2,}/, "/")
      const answered = Effect.flatten(
        validated(() => answer(incoming, path, queryMark === -1 ? "" : url.slice(queryMark + 1)))
      )
      const refresh = accessCheck.requiredRefresh(incoming.request, incoming.visitor !== undefined)
      return Effect.catchCause(
        refresh === undefined || isPublic(method, path) ? answered : Effect.andThen(refresh, answered),
        // the query is not logged, since it may hold a key
        (cause) =>
          replyToFailure(
            cause,
            dialectOf(path),
            `${method} ${path}`,
            failsAsStream(incoming.request, path) ? endedStream : replyTo
          )
      )
    }
  }
}

const readBody = (
  { readBytes, readJson, request }: IncomingRequest,
  bodyForm: Route["bodyForm"],
  limits: BodyLimits
): Effect.Effect<unknown, IronflowError> => {
  if (bodyForm === "bytes") return readBytes(limits)
  if (bodyForm === "json") return readJson(limits)
  if (asksForStream(request))
    return Effect.flatMap(readBytes(limits), (body) => validated(() => readMessage(body)))
  // any other content type is refused only here, so that a caller without permission is refused for that reason first
  return isPlainCall(request) ? readJson(limits) : Effect.fail(unsupportedType(request))
}

/** Paths of calls that are answered with a stream. */
const streamPaths: ReadonlySet<string> = new Set(Object.values(streaming).map(({ path }) => path))

const needsWorkerRights = (rule: Access): boolean =>
  typeof rule === "object" && (rule.action === "worker:run" || rule.action === "projection:run")

const replyToFailure = (
  cause: Cause.Cause<IronflowError>,
  dialect: Dialect,
  what: string,
  reply: (failure: FailureResponse) => Reply
): Effect.Effect<Reply> => {
  // the client has hung up, so that no response is needed
  if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
  const error = Cause.squash(cause)
  if (isIronflowError(error)) {
    const failureReply = reply(failureResponse(error, dialect))
    return Effect.succeed(
      error.code === WORKER_UNKNOWN ? { ...failureReply, closesConnection: true } : failureReply
    )
  }
  return Effect.as(
    Effect.logError(`${what} failed because of a bug: please report this`, cause),
    reply(defectResponse(dialect))
  )
}

const replyTo = ({ body, status }: FailureResponse): Reply => json(body, status)
