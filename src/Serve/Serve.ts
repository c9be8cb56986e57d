/**
 * Push mode: an HTTP handler that runs one turn of a function for each request of an engine.
 *
 * {@link make} makes a handler for functions that may require services. `serve()` of the Promise API makes one for
 * functions that require none. Both handlers also receive webhook requests.
 *
 * ```ts
 * import { createServer } from "node:http"
 *
 * const { handler } = await Effect.runPromise(Serve.make({ functions: [processOrder] }))
 * createServer(handler).listen(3000)
 * ```
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as Tracer from "effect/Tracer"
import { parseTrace, TRACEPARENT } from "../Trace.ts"
import * as HttpClient from "effect/http/HttpClient"
import * as Random from "effect/Random"
import { type Connection, make as connect } from "../Client/HttpConnection.ts"
import {
  BodyError,
  FunctionNotFoundError,
  type IronflowError,
  isIronflowError,
  SignatureError,
  toError,
  TurnAbortedError,
  ValidationError,
  WebhookNotFoundError,
  withStatus
} from "../Errors.ts"
import { currentLogger } from "../EffectLogger.ts"
import type { AnyFunction, FunctionRequirements } from "../Function.ts"
import type { Logger } from "../Logger.ts"
import { currentVariables } from "../ConfigProviderVariables.ts"
import { isObject, safeJsonParse } from "../Json.ts"
import { checkShape } from "../JsonLimits.ts"
import { type Description, PUSH_TURNS_VERSION } from "../Protocol/Push.ts"
import { toRegistrations } from "../Protocol/Registration.ts"
import type { Job } from "../Protocol/Worker.ts"
import { exchangeOf, fetchRequest, webResponse } from "./FrameworkAdapters.ts"
import { showMs } from "../Show.ts"
import { RefusalLog } from "./RefusalLog.ts"
import { RequestBodyBudget } from "./RequestBodyBudget.ts"
import { bodyConsumedError, type ServeRequest, type ServeResponse } from "./Http.ts"
import {
  type ResolvedServeOptions,
  resolveServeOptions,
  type ServeHandler,
  type ServeOptions
} from "./Options.ts"
import { jobOf, readPushRequest } from "./LegacyPushRequests.ts"
import { readTurnJob } from "./TurnRequests.ts"
import { runTurn, type TurnSurroundings } from "./PushTurn.ts"
import { isSigned, SIGNATURE_HEADER } from "./Signature.ts"
import { BufferedTurn, LegacyPushTurn, ReportedTurn, type PushedTurn } from "./TurnSessions.ts"
import { checkMethod, receiveWebhook, webhookBytes, webhookIdOf } from "./Webhooks.ts"

export type { ServeRequest, ServeResponse } from "./Http.ts"
export type { HandlerContext, HandlerOptions, ServeHandler, ServeOptions } from "./Options.ts"

/** Answers the requests of an engine and of webhook senders. */
export interface ServeService {
  /** Answers a request. Interrupting the Effect aborts the steps that the request runs. */
  readonly handle: (request: ServeRequest) => Effect.Effect<ServeResponse>
  /** Answers a Fetch request, as {@link handle} does. */
  readonly fetch: (request: Request) => Effect.Effect<Response>
  /**
   * Answers a request of any framework: what `serve()` of the Promise API returns. It runs with the services that
   * {@link make} was given.
   *
   * ```ts
   * import { createServer } from "node:http"
   *
   * const { handler } = await Effect.runPromise(Serve.make({ functions: [processOrder] }))
   * createServer(handler).listen(3000)
   * ```
   */
  readonly handler: ServeHandler
}

/**
 * Makes a push handler. It logs to Effect's loggers, unless `logger` is given. Missing options are read from
 * the environment variables through the `ConfigProvider` in context. Fails with `ValidationError` when an
 * option is invalid.
 */
export const make = <const Functions extends ReadonlyArray<AnyFunction>>(
  options: ServeOptions<Functions>
): Effect.Effect<ServeService, ValidationError, FunctionRequirements<Functions[number]>> =>
  Effect.gen(function* () {
    const handlerLogger = options?.logger === undefined ? yield* currentLogger : undefined
    const variables = yield* currentVariables
    const resolved = yield* Effect.suspend(() => {
      try {
        return Effect.succeed(
          resolveServeOptions(
            handlerLogger === undefined ? options : { ...options, logger: handlerLogger },
            variables
          )
        )
      } catch (error) {
        return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
      }
    })
    return yield* makeResolved<FunctionRequirements<Functions[number]>>(resolved, handlerLogger)
  })

/**
 * Does what {@link make} does, with options that were checked. The `logger` of handlers writes to
 * `handlerLogger`; without one, to the console.
 */
export const makeResolved = <R>(
  options: ResolvedServeOptions,
  handlerLogger?: Logger
): Effect.Effect<ServeService, never, R> =>
  Effect.gen(function* () {
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<R>()
    const connection = yield* Effect.provide(connect(options.server), FetchHttpClient.layer)
    const handler = new Handler(options, withoutSpans(connection), {
      clock,
      context,
      logger: options.logger,
      ...(handlerLogger === undefined ? {} : { handlerLogger }),
      eventDefinitions: options.eventDefinitions,
      turnBudgetMs: options.turnBudgetMs
    })
    const runPromiseExit = Effect.runPromiseExitWith(context)
    return {
      handle: handler.handle,
      fetch: (request) => Effect.map(handler.handle(fetchRequest(request)), webResponse),
      handler: async (request, responseOrContext) => {
        const { request: plainRequest, respond, signal } = exchangeOf(request, responseOrContext)
        const exit = await runPromiseExit(
          handler.handle(plainRequest),
          signal === undefined ? {} : { signal }
        )
        if (Exit.isSuccess(exit)) return respond(exit.value)
        // the client is gone, and reads no response
        if (Cause.hasInterruptsOnly(exit.cause)) return respond(goneResponse)
        throw Cause.squash(exit.cause)
      }
    }
  })

const goneResponse: ServeResponse = { status: 499, headers: {}, body: "" }

/** The connection without trace spans for its requests, since reports are internal. */
const withoutSpans = ({ send, ...connection }: Connection): Connection => ({
  ...connection,
  send: (request) => Effect.provideService(send(request), HttpClient.TracerDisabledWhen, () => true)
})

/** After a report has failed, turns send their reports in their responses for this long, in milliseconds. */
const REPORT_PAUSE_MS = 30_000

/** Maximum number of started turns that are remembered. */
const MAX_REMEMBERED_TURNS = 10_000

class Handler {
  readonly #options: ResolvedServeOptions
  readonly #connection: Connection
  readonly #surroundings: TurnSurroundings
  readonly #bodyBudget: RequestBodyBudget
  readonly #refusals: RefusalLog
  /**
   * For each signed turn, by job id: the time after which the request of the turn is too old in any case, in
   * epoch milliseconds.
   */
  readonly #startedTurns = new Map<string, number>()
  /** Up to this time turns send their reports in their responses. */
  #reportsPausedUntil = Number.NEGATIVE_INFINITY

  constructor(options: ResolvedServeOptions, connection: Connection, surroundings: TurnSurroundings) {
    this.#options = options
    this.#connection = connection
    this.#surroundings = surroundings
    this.#bodyBudget = new RequestBodyBudget(options.maxBodyBytes)
    this.#refusals = new RefusalLog(options.logger)
  }

  readonly handle = (request: ServeRequest): Effect.Effect<ServeResponse> =>
    Effect.matchCauseEffect(
      Effect.suspend(() => {
        // the events of a webhook belong to the trace of its sender
        const caller = parseTrace(request.headers[TRACEPARENT])
        const answer = this.#answer(request)
        return caller === undefined ? answer : Effect.provideService(answer, Tracer.ParentSpan, caller)
      }),
      {
        onSuccess: Effect.succeed,
        onFailure: (cause) => {
          if (Cause.hasInterruptsOnly(cause)) return Effect.interrupt
          const error = Cause.squash(cause)
          const { logger } = this.#options
          if (!isIronflowError(error)) {
            logger.error("A request could not be answered because of an unexpected error", error)
            return Effect.succeed(
              this.#errorResponse(500, "INTERNAL_ERROR", "The request could not be answered")
            )
          }
          const status = statusOf(error)
          const webhook = this.#webhookOf(request)
          if (status >= 500) logger.error(error.message, error.cause)
          else if (webhook === undefined) logger.debug(error.message)
          else {
            const known = this.#options.webhooks.has(webhook) ? webhook : undefined
            this.#refusals.add(known, status, error, this.#surroundings.clock.currentTimeMillisUnsafe())
          }
          return Effect.succeed(this.#errorResponse(status, error.code, error.message))
        }
      }
    )

  #answer(request: ServeRequest): Effect.Effect<ServeResponse, IronflowError> {
    const webhook = this.#webhookOf(request)
    return webhook === undefined
      ? Effect.map(this.#answerEngine(request), (body) => this.#response(200, body))
      : this.#answerWebhook(webhook, request)
  }

  /** The id of the webhook that a request is for; `undefined` for a request of an engine. */
  #webhookOf({ url }: ServeRequest): string | undefined {
    return this.#options.webhooks.size === 0 ? undefined : webhookIdOf(url)
  }

  #answerWebhook(id: string, request: ServeRequest): Effect.Effect<ServeResponse, IronflowError> {
    const { environment, logger, maxBodyBytes, webhooks, webhookTimeoutMs } = this.#options
    const webhook = webhooks.get(id)
    if (webhook === undefined) {
      return Effect.fail(new WebhookNotFoundError(id))
    }
    const body = Effect.andThen(
      checkMethod(id, request.method),
      readBody(request, Math.min(webhookBytes, maxBodyBytes), this.#bodyBudget)
    )
    return Effect.flatMap(body, (bytes) =>
      Effect.map(receiveWebhook(webhook, request, bytes, this.#connection, webhookTimeoutMs), (outcome) => {
        switch (outcome._tag) {
          case "Answered":
            return {
              ...outcome.response,
              headers: { ...outcome.response.headers, [ENVIRONMENT_HEADER]: environment }
            }
          case "Ignored":
            logger.debug(`Webhook "${id}" ignores a request: its \`transform\` returned nothing`)
            return this.#response(200, { status: "ignored" })
          case "Stored": {
            // the data of the events is left out, since proxies may read the response
            const events = outcome.events.map(({ data: _, ...event }) => event)
            return this.#response(200, {
              status: "accepted",
              ...(events.length === 1 ? { event: events[0] } : { events })
            })
          }
        }
      })
    )
  }

  #answerEngine(request: ServeRequest): Effect.Effect<unknown, IronflowError> {
    return Effect.gen({ self: this }, function* () {
      const { clock } = this.#surroundings
      const body = yield* this.#readVerified(request)
      if (!isObject(body)) return yield* Effect.fail(notAnObjectError())
      const nowMs = clock.currentTimeMillisUnsafe()
      if (typeof body.sent_at === "number") yield* this.#checkAge(body.sent_at, nowMs)
      switch (body.type) {
        case "describe":
          return this.#describe()
        case "turn":
          return yield* this.#runTurn(yield* this.#readTurn(body, nowMs))
        default:
          return yield* this.#runLegacy(body, nowMs)
      }
    })
  }

  /** Verifies the signature of the body, if the handler has a signing key, and parses the body as JSON. */
  #readVerified(request: ServeRequest): Effect.Effect<unknown, IronflowError> {
    const { keys, maxBodyBytes } = this.#options
    const budget = this.#bodyBudget
    return Effect.gen(function* () {
      if (keys === undefined && request.parsedBody !== undefined) return request.parsedBody
      const header = request.headers[SIGNATURE_HEADER]
      if (keys !== undefined && header === undefined) {
        return yield* Effect.fail(
          new SignatureError(
            "The request has no X-Ironflow-Signature header, and this handler has a signing key: " +
              "set the same key on the Ironflow engine that sends the requests",
            {
              code: "SIGNATURE_MISSING"
            }
          )
        )
      }
      const bytes = yield* readBody(request, maxBodyBytes, budget)
      if (keys !== undefined && !isSigned(bytes, header ?? "", keys)) {
        return yield* Effect.fail(
          new SignatureError(
            "The signature does not match the body of the request: the Ironflow engine that sent the request may have another signing key"
          )
        )
      }
      const body = yield* Effect.try({
        try: () =>
          safeJsonParse<unknown>(
            checkShape("the body of the request", Buffer.from(bytes).toString("utf8")),
            notJson
          ),
        catch: (cause) =>
          withStatus(new ValidationError(toError(cause).message, { code: "LIMIT_EXCEEDED", cause }), 400)
      })
      return body === notJson
        ? yield* Effect.fail(
            new BodyError("The body of the request is not JSON", { code: "INVALID_JSON", status: 400 })
          )
        : body
    })
  }

  #checkAge(sentAt: number, nowMs: number): Effect.Effect<void, IronflowError> {
    const { keys, maxRequestAgeMs } = this.#options
    if (keys === undefined || Math.abs(nowMs - sentAt) <= maxRequestAgeMs) return Effect.void
    return Effect.fail(
      new SignatureError(
        `The request was signed ${Math.round(Math.abs(nowMs - sentAt) / 1000)} s ${nowMs > sentAt ? "ago" : "ahead of this clock"}, and ` +
          `${maxRequestAgeMs / 1000} s are allowed: a clock is wrong, or an old request was sent again`,
        { code: "SIGNATURE_EXPIRED" }
      )
    )
  }

  #describe(): Description {
    const { environment, functions } = this.#options
    return {
      type: "description",
      capabilities: { turns: PUSH_TURNS_VERSION },
      environment,
      functions: toRegistrations(functions.values())
    }
  }

  #readTurn(body: { readonly [field: string]: unknown }, nowMs: number): Effect.Effect<Job, IronflowError> {
    let job: Job
    try {
      job = readTurnJob(body.job)
    } catch (error) {
      return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
    }
    if (this.#options.keys === undefined) return Effect.succeed(job)
    // without a time, the request could be sent again at any later time
    if (typeof body.sent_at !== "number") {
      return Effect.fail(new ValidationError("A signed turn must have a numeric `sent_at`"))
    }
    for (const [jobId, until] of this.#startedTurns) {
      if (until > nowMs && this.#startedTurns.size < MAX_REMEMBERED_TURNS) break
      this.#startedTurns.delete(jobId)
    }
    if (this.#startedTurns.has(job.jobId)) {
      return Effect.fail(
        new SignatureError(`The turn ${job.jobId} was already started: this request was sent a second time`, {
          code: "SIGNATURE_REPLAYED"
        })
      )
    }
    this.#startedTurns.set(job.jobId, nowMs + 2 * this.#options.maxRequestAgeMs)
    return Effect.succeed(job)
  }

  #runTurn(job: Job): Effect.Effect<unknown, IronflowError> {
    const { logger, isServerKnown } = this.#options
    const { clock } = this.#surroundings
    const onUnreachable = (error: IronflowError): void => {
      const now = clock.currentTimeMillisUnsafe()
      const isNews = now >= this.#reportsPausedUntil
      this.#reportsPausedUntil = now + REPORT_PAUSE_MS
      if (!isNews) return
      logger.warn(
        `${error.message}. For ${showMs(REPORT_PAUSE_MS)}, turns send their reports with their responses instead`
      )
    }
    const session =
      isServerKnown && clock.currentTimeMillisUnsafe() >= this.#reportsPausedUntil
        ? new ReportedTurn(this.#connection, job, onUnreachable)
        : new BufferedTurn()
    return this.#run(job, session)
  }

  #runLegacy(body: unknown, nowMs: number): Effect.Effect<unknown, IronflowError> {
    return Effect.gen({ self: this }, function* () {
      const { environment, isServerKnown } = this.#options
      const randomId = yield* Random.nextIntBetween(0, 2 ** 48)
      const legacyJob = yield* Effect.suspend(() => {
        try {
          return Effect.succeed(
            jobOf(readPushRequest(body), `push_${randomId.toString(36)}`, environment, nowMs)
          )
        } catch (error) {
          return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
        }
      })
      const connection = isServerKnown ? this.#connection : undefined
      return yield* this.#run(
        legacyJob.job,
        new LegacyPushTurn(legacyJob, this.#surroundings.clock, connection)
      )
    })
  }

  #run(job: Job, session: PushedTurn): Effect.Effect<unknown, IronflowError> {
    const fn = this.#options.functions.get(job.functionId)
    if (fn === undefined) return Effect.fail(new FunctionNotFoundError(job.functionId))
    return Effect.flatMap(runTurn(fn, job, session, this.#surroundings), (end) => {
      const response = session.response()
      if (response !== undefined) return Effect.succeed(response)
      return Effect.fail(
        new TurnAbortedError(`The turn of run ${job.runId} did not end`, {
          code: "TURN_ABORTED",
          status: 500,
          cause: end._tag === "Aborted" ? end.reason : undefined
        })
      )
    })
  }

  #errorResponse(status: number, code: string, message: string): ServeResponse {
    return this.#response(status, { error: { message, code } })
  }

  #response(status: number, body: unknown): ServeResponse {
    return {
      status,
      headers: {
        "content-type": "application/json",
        [ENVIRONMENT_HEADER]: this.#options.environment,
        ...(status === 405 ? { allow: "POST" } : {}),
        ...(status === 502 || status === 503 ? { "retry-after": "10" } : {})
      },
      body: JSON.stringify(body)
    }
  }
}

const ENVIRONMENT_HEADER = "x-ironflow-environment"

const notJson = Symbol("not JSON")

const notAnObjectError = (): ValidationError =>
  new ValidationError("This is not a push request: the body must be an object")

const readBody = (
  request: ServeRequest,
  maxBytes: number,
  budget: RequestBodyBudget
): Effect.Effect<Uint8Array, IronflowError> =>
  Effect.suspend(() => {
    const arriving = budget.begin()
    return Effect.ensuring(
      Effect.tryPromise({
        try: () => request.readBody(maxBytes, arriving.hold),
        catch: (error) => (isIronflowError(error) ? error : bodyConsumedError("a middleware"))
      }).pipe(
        Effect.timeoutOrElse({ duration: BODY_TIMEOUT_MS, orElse: () => Effect.fail(bodyTooSlowError()) })
      ),
      Effect.sync(arriving.end)
    )
  })

/**
 * How long a body may take to arrive, in milliseconds. A body that never ends would keep its part of the body
 * budget for ever.
 */
const BODY_TIMEOUT_MS = 30_000

const bodyTooSlowError = (): BodyError =>
  new BodyError(
    `The body of the request did not arrive within ${showMs(BODY_TIMEOUT_MS)} of its headers: send it again`,
    {
      code: "BODY_TIMEOUT",
      status: 408
    }
  )

const statusOf = (error: IronflowError): number => {
  if (error.status !== undefined) return error.status
  if (error instanceof ValidationError) return 400
  if (error instanceof SignatureError) return 401
  return error instanceof FunctionNotFoundError ? 404 : 500
}
