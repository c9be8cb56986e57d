/** What is answered to a request, by whatever it travels: its route is found, whoever asks is let in, its body is read. */
import type * as Http from "node:http"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"
import { askedFor } from "../AskedFor.ts"
import { checked } from "../Client/HttpCalls.ts"
import { DEFAULT_ENVIRONMENT } from "../Constants.ts"
import { type IronflowError, isIronflowError, UnsupportedError } from "../Errors.ts"
import { parseTrace } from "../Trace.ts"
import { type Dialect, dialectOf } from "../Protocol/Http/Endpoints.ts"
import { defectResponse, failureResponse, type FailureResponse } from "../Protocol/Http/Failures.ts"
import { WORKER_UNKNOWN } from "../Protocol/Http/Turns.ts"
import { rows as streaming } from "../Protocol/Subscriptions.ts"
import type { Access } from "../Protocol/Row.ts"
import {
  asksForStream,
  endedStream,
  isPlainCall,
  readMessage,
  unsupportedType
} from "./Connect/EventStream.ts"
import type { BodyLimits } from "./Http/Body.ts"
import { checkCall, checkWhole, type Gate, type Visitor } from "./Http/Gate.ts"
import { type Call, json, type Reply, type Route, Routes } from "./Http/Route.ts"
import { Waiting } from "./Http/Waiting.ts"
import type { ResolvedOptions } from "./ServerOptions.ts"

/** A request by whatever it travels. */
export interface Asked {
  readonly method: string
  /** With its query. */
  readonly url: string
  readonly request: Http.IncomingMessage
  /** The `traceparent` that came with it, whatever that is. */
  readonly trace: unknown
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

/** Few ask for it. */
const withQuery = askedFor<string, Pick<Call, "query">>({ query: (text) => new URLSearchParams(text) })

export const makeApp = (options: ResolvedOptions, gate: Gate, all: ReadonlyArray<Route>): App => {
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
    const caller = parseTrace(asked.trace)
    const waits = typeof rule === "object" && rule.waits === true
    const call = (body: unknown) => {
      const answered = route.answer(
        withQuery(
          {
            environment,
            caller: visitor?.caller,
            shows: (name: string) =>
              visitor === undefined ||
              typeof rule === "string" ||
              visitor.caller.may(rule.action, `${rule.subject.kind}:${name}`, environment),
            body,
            variables,
            request
          },
          query
        )
      )
      const reply =
        caller === undefined ? answered : Effect.provideService(answered, Tracer.ParentSpan, caller)
      return visitor !== undefined && waits
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
          if (waits) asked.release()
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
const streamPaths: ReadonlySet<string> = new Set(Object.values(streaming).map(({ path }) => path))

const isWork = (rule: Access): boolean =>
  typeof rule === "object" && (rule.action === "worker:run" || rule.action === "projection:run")

const replyToFailure = (
  cause: Cause.Cause<IronflowError>,
  dialect: Dialect,
  what: string,
  reply: (failure: FailureResponse) => Reply
): Effect.Effect<Reply> => {
  // the client has hung up
  if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
  const error = Cause.squash(cause)
  if (isIronflowError(error)) {
    const refused = reply(failureResponse(error, dialect))
    return Effect.succeed(error.code === WORKER_UNKNOWN ? { ...refused, isMisled: true } : refused)
  }
  return Effect.as(Effect.logError(`${what} failed because of a bug`, cause), reply(defectResponse(dialect)))
}

const replyTo = ({ body, status }: FailureResponse): Reply => json(body, status)
