/** What clients ask over HTTP: the calls of `IronflowService` and `PubSubService`, and their REST siblings. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type {
  ClientApi,
  EffectKind,
  EmitResult,
  FunctionInfo,
  ListRunsResult,
  Run,
  RunStep
} from "../../Client/Client.ts"
import { DEFAULT_TIMEOUTS } from "../../Constants.ts"
import type { Raw } from "../../Client/Named.ts"
import {
  FunctionNotFoundError,
  type IronflowError,
  StepNotFoundError,
  TimeoutError,
  UnavailableError,
  ValidationError
} from "../../Errors.ts"
import { checkEventName } from "../../Event.ts"
import { isObject } from "../../Json.ts"
import type { EndpointName } from "../../Protocol/Http/Endpoints.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import { decodeRunStatus, encodeRun } from "../../Protocol/Http/RunJson.ts"
import { runStatuses } from "../../RunStatus.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import { MAX_WAIT_MS } from "../../Protocol/Http/Turns.ts"
import { SDK_VERSION } from "../../Worker/Version.ts"
import { mayHaveEvent } from "../Access/WorkerAccess.ts"
import { capabilities } from "../Capabilities.ts"
import type { EngineService } from "../Engine.ts"
import type { GiveUp, ReceivedEmitOptions } from "../EngineClient.ts"
import { LIST_PAGE, listReply, readPageQuery } from "../Pages.ts"
import { listEvents } from "./EventList.ts"
import { checkRegistering, toRegistration } from "./FunctionConfigs.ts"
import { pagedReply, seen } from "./PagedReply.ts"
import { projectionRoutes } from "./ProjectionRoutes.ts"
import { type Call, checked, json, noContent, type Reply, type Route, route, variable } from "./Route.ts"
import { consumerGroupRoutes } from "./ConsumerGroupRoutes.ts"
import { configRoutes } from "./ConfigRoutes.ts"
import { kvRoutes } from "./KvRoutes.ts"
import { pushRoutes } from "./PushRoutes.ts"
import { accessRoutes } from "./AccessRoutes.ts"
import { secretRoutes } from "./SecretRoutes.ts"
import { streamRoutes } from "./StreamRoutes.ts"

/** Most events in one `TriggerBatch`. */
export const BATCH_EVENTS = 1000

type Api = Raw<ClientApi<EffectKind>>

export interface ServerState {
  /** When the server was started, epoch milliseconds. */
  readonly startedAt: number
  /** Succeeds when the server is about to stop: nobody should wait any longer. */
  readonly closing: Effect.Effect<void>
  /** Nobody should wait longer than so many milliseconds, or when the server is about to stop. */
  readonly giveUpAfter: (ms: number) => GiveUp
}

/** The routes of clients. */
export const clientRoutes = (
  engine: EngineService,
  { startedAt, closing, giveUpAfter }: ServerState
): ReadonlyArray<Route> => {
  /** A call whose body is read by `read` and answered with `answer`. */
  const reading = <A>(
    name: EndpointName,
    read: (body: unknown) => A,
    answer: (api: Api, request: A, call: Call) => Effect.Effect<Reply, IronflowError>
  ): Route =>
    route(name, (call) =>
      Effect.flatMap(
        checked(() => read(call.body)),
        (request) => answer(engine.client(call.environment), request, call)
      )
    )
  const asking = (
    name: EndpointName,
    answer: (api: Api, call: Call) => Effect.Effect<Reply, IronflowError>
  ): Route => route(name, (call) => answer(engine.client(call.environment), call))

  const findFunction = (id: string, { environment }: Call): Effect.Effect<FunctionInfo, IronflowError> =>
    Effect.flatMap(engine.getFunction(environment, id), (found) =>
      found === undefined ? Effect.fail(new FunctionNotFoundError(id)) : Effect.succeed(found)
    )

  const withoutDenied = withoutDeniedIn(engine)
  /** Whoever may do something to a run need not be allowed to read it. */
  const answerSteered = (call: Call) => (run: Run) =>
    Effect.map(withoutDenied(call, [readable(call, run)]), ([shown = run]) => answerRun(shown))
  const resume = (api: Api, request: RunIdFields & { readonly id: string }, call: Call) =>
    Effect.flatMap(resumeRun(api, request, call), answerSteered(call))

  const answerSteps = (call: Call, id: string, all: (steps: string) => string) =>
    pagedReply("steps", call.query, {
      all,
      read: (page) =>
        Effect.map(engine.stepsPage(call.environment, id, page), ({ items, ...next }) => ({
          items: items.map((step) => withoutEvent(call, step)),
          ...next
        }))
    })

  const listRuns = (api: Api, request: ReturnType<typeof readListRuns>, call: Call) =>
    Effect.gen(function* () {
      const { damaged = [], ...page } = yield* api.listRuns(request)
      const runs = page.runs.filter(({ id }) => call.shows(id))
      const shownDamaged = damaged.filter(({ id }) => call.shows(id))
      const left = page.runs.length - runs.length + (damaged.length - shownDamaged.length)
      return {
        ...page,
        runs: yield* withoutDenied(call, runs),
        ...(shownDamaged.length === 0 ? {} : { damaged: shownDamaged }),
        totalCount: page.totalCount - left
      }
    })

  const trigger = lenient(Schemas.TriggerRequest, "Trigger")
  const emit = (api: Api, request: typeof Schemas.TriggerRequest.Type) =>
    api.emit(request.event, request.data, emitOptions(request))
  const answerEmit = (api: Api, request: typeof Schemas.TriggerRequest.Type) =>
    Effect.map(emit(api, request), (result) => json(emitted(result)))

  return [
    reading("trigger", trigger, answerEmit),
    reading("emit", lenient(Schemas.TriggerRequest, "Emit"), answerEmit),
    reading("publishEmit", lenient(Schemas.TriggerRequest, "Emit"), answerEmit),
    reading("restEmit", lenient(Schemas.RestEmitRequest, "Event"), (api, request) =>
      Effect.map(api.emit(request.name, request.data, emitOptions(request)), ({ eventId, runIds }) =>
        json({ event_id: eventId, id: eventId, run_ids: runIds })
      )
    ),
    reading("triggerSync", lenient(Schemas.TriggerSyncRequest, "TriggerSync"), (api, request, call) =>
      Effect.andThen(
        checked(() => call.caller?.checkNotDenied("emit:event", `event:${request.event}`, call.environment)),
        triggerSync(api, request, call, closing)
      )
    ),
    reading("triggerBatch", readBatch, (api, events) =>
      events.length === 0
        ? Effect.succeed(json({}))
        : Effect.map(
            // the types of a raw client have lost which data goes with which name
            api.emitMany(
              events.map((request) => ({
                event: request.event,
                data: request.data as never,
                ...emitOptions(request)
              }))
            ),
            (results) => json({ results: results.map(emitted) })
          )
    ),
    reading("publish", lenient(Schemas.PublishRequest, "Publish"), (api, request) =>
      Effect.map(
        api.publish(request.topic, request.data, idempotency(request.idempotencyKey)),
        ({ eventId, sequence }) => json({ eventId, sequence: String(sequence) })
      )
    ),
    route("listTopics", (call) =>
      pagedReply("topics", call.query, {
        all: (topics) => (topics === "" ? "{}" : `{"topics":[${topics}]}`),
        read: (page) =>
          seen(call, engine.topicsPage(call.environment, page), (topic) => ({
            ...topic,
            messageCount: String(topic.messageCount)
          }))
      })
    ),
    reading("getTopicStats", lenient(Schemas.TopicStatsRequest, "GetTopicStats"), (api, { topic }) =>
      Effect.map(api.getTopicStats(topic), (stats) =>
        json({
          name: stats.name,
          messageCount: String(stats.messageCount),
          consumerCount: stats.consumerCount,
          lag: String(stats.lag),
          firstSeq: String(stats.firstSeq),
          lastSeq: String(stats.lastSeq)
        })
      )
    ),

    reading("getRun", readRunId("GetRun", Schemas.RunIdRequest), (api, { id }, call) =>
      Effect.map(
        Effect.flatMap(api.getRun(id), (run) => withoutDenied(call, [run])),
        ([run]) => answerRun(run!)
      )
    ),
    reading("listRuns", readListRuns, (api, request, call) =>
      Effect.map(listRuns(api, request, call), answerRuns)
    ),
    asking("restRuns", (api, call) =>
      Effect.flatMap(
        checked(() => readListRuns(runsQuery(call.query))),
        (request) => Effect.map(listRuns(api, request, call), (page) => answerRuns(page, { runs: [] }))
      )
    ),
    route("restEvents", (call) => listEvents(engine, call)),
    reading("cancelRun", readRunId("CancelRun", Schemas.CancelRunRequest), (api, { id, reason }, call) =>
      Effect.flatMap(api.cancelRun(id, reason), answerSteered(call))
    ),
    reading("retryRun", readRunId("RetryRun", Schemas.FromStepRequest), (api, { id, fromStep }, call) =>
      Effect.flatMap(api.retryRun(id, nonEmpty(fromStep)), answerSteered(call))
    ),
    reading("resumeRun", readRunId("ResumeRun", Schemas.FromStepRequest), resume),
    reading("restResumeRun", readRunId("Resume", Schemas.FromStepRequest), resume),
    reading("pauseRun", readRunId("PauseRun", Schemas.PauseRunRequest), (api, { id, reason }, call) =>
      Effect.flatMap(api.pauseRun(id, reason), (paused) =>
        Effect.map(withoutDenied(call, [readable(call, paused)]), ([run = paused]) =>
          json({ status: run.status === "paused" ? "paused" : "pause_requested", run: encodeRun(run) })
        )
      )
    ),
    reading("getRunSteps", readRunId("GetRunSteps", Schemas.RunIdRequest), (_, { id }, call) =>
      answerSteps(call, id, (steps) => (steps === "" ? "{}" : `{"steps":[${steps}]}`))
    ),
    route("restRunSteps", (call) =>
      answerSteps(call, variable(call, "id"), (steps) => `{"steps":[${steps}]}`)
    ),
    route("runAudit", (call) =>
      pagedReply("events", call.query, {
        what: `events of run ${variable(call, "id")}`,
        all: (events) => `{"events":[${events}]}`,
        read: (page) =>
          Effect.map(
            engine.auditPage(call.environment, variable(call, "id"), page),
            ({ items, ...next }) => ({
              items: items.map((event) => ({ ...event, details: withoutEvent(call, event.details) })),
              ...next
            })
          )
      })
    ),
    asking("explainRun", (api, call) => Effect.map(api.explain(variable(call, "id")), (why) => json(why))),
    route("waitForRun", (call) => waitForRun(engine, call, giveUpAfter)),
    reading("patchStep", lenient(Schemas.PatchStepRequest, "PatchStep"), (api, request, call) =>
      Effect.map(patchStep(api, request, call), (step) => json(step))
    ),
    reading("restPatchStep", lenient(Schemas.PatchStepRequest, "Patch"), (api, request, call) =>
      Effect.map(patchStep(api, request, call), (step) => json(step))
    ),

    reading(
      "registerFunction",
      lenient(Schemas.RegisterFunctionRequest, "RegisterFunction"),
      (_, request, call) =>
        Effect.gen(function* () {
          const registration = yield* checked(() => {
            const registration = toRegistration(request)
            checkRegistering(call, registration)
            return registration
          })
          const created = engine.findFunction(call.environment, registration.id) === undefined
          yield* engine.registerFunctions(call.environment, [registration])
          const fn = yield* findFunction(registration.id, call)
          return json({ function: fn, ...(created ? { created } : {}) })
        })
    ),
    reading("getFunction", lenient(Schemas.GetFunctionRequest, "GetFunction"), (_, { id }, call) =>
      Effect.map(findFunction(id, call), (fn) => json(fn))
    ),
    asking("listFunctions", (api, call) =>
      Effect.flatMap(api.listFunctions(), (all) => {
        const functions = all.filter(({ id }) => call.shows(id))
        const { length } = functions
        if (length === 0) return Effect.succeed(json({}))
        return Effect.map(
          listReply("functions", functions, undefined, (fn) => fn),
          ({ text = "", ...reply }) => ({ ...reply, text: `${text.slice(0, -1)},"totalCount":${length}}` })
        )
      })
    ),
    asking("restFunctions", (api, call) =>
      Effect.flatMap(
        checked(() => readPageQuery(call.query, LIST_PAGE)),
        (page) =>
          Effect.flatMap(api.listFunctions(), (functions) =>
            listReply(
              "functions",
              functions.filter(({ id }) => call.shows(id)),
              page,
              (fn) => fn
            )
          )
      )
    ),
    asking("deleteFunction", (api, call) =>
      Effect.map(api.deleteFunction(variable(call, "id")), () => json({}))
    ),
    asking("restWorkers", (api, call) =>
      Effect.flatMap(
        checked(() => readPageQuery(call.query, LIST_PAGE)),
        (page) =>
          Effect.flatMap(api.listWorkers(), (workers) =>
            listReply(
              "workers",
              workers.filter(({ id }) => call.shows(id)),
              page,
              (worker) => ({
                id: worker.id,
                hostname: worker.hostname,
                function_ids: worker.functionIds.filter(
                  (id) =>
                    call.caller?.isNotDenied("function:read", `function:${id}`, call.environment) ?? true
                ),
                max_concurrent: worker.maxConcurrentJobs,
                labels: worker.labels,
                active_jobs: worker.activeJobs,
                registered_at: worker.registeredAt,
                transport: worker.transport
              })
            )
          )
      )
    ),
    route("info", (call) =>
      Effect.sync(() => {
        const { activeJobs, workers } = engine.metrics()
        return json({
          version: SDK_VERSION,
          startedAt: new Date(startedAt).toISOString(),
          ...nonZero({
            functionCount: engine.countFunctions(call.environment),
            activeRuns: activeJobs,
            connectedWorkers: workers
          })
        })
      })
    ),
    asking("getCapabilities", () => Effect.succeed(json(capabilities))),
    asking("restCapabilities", () => Effect.succeed(json(capabilities))),
    asking("health", () =>
      Effect.map(Clock.currentTimeMillis, (now) =>
        json({ ...healthOf(engine), timestamp: new Date(now).toISOString() })
      )
    ),
    asking("restHealth", () =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        const health = healthOf(engine)
        return json(
          { ...health, timestamp: new Date(now).toISOString(), version: SDK_VERSION },
          // whoever asks for the status alone
          health.status === "down" ? 503 : 200
        )
      })
    ),

    ...streamRoutes(engine),
    ...kvRoutes(engine),
    ...configRoutes(engine),
    ...secretRoutes(engine),
    ...consumerGroupRoutes(engine),
    ...projectionRoutes(engine, closing),
    ...pushRoutes(engine, closing),
    ...accessRoutes(engine)
  ]
}

const nonEmpty = (text: string | undefined): string | undefined => (text === "" ? undefined : text)

const nonZero = (counts: { readonly [name: string]: number }): { readonly [name: string]: number } =>
  Object.fromEntries(Object.entries(counts).filter(([, count]) => count !== 0))

// ---------------------------------------------------------------------------------------------------------------------
// Events
// ---------------------------------------------------------------------------------------------------------------------

const idempotency = (key: string | undefined) =>
  key === undefined || key === "" ? {} : { idempotencyKey: key }

const emitOptions = (request: {
  readonly version?: number
  readonly idempotencyKey?: string
  readonly metadata?: { readonly [key: string]: unknown }
  readonly webhook?: string
}): ReceivedEmitOptions => ({
  ...idempotency(request.idempotencyKey),
  ...(request.webhook === undefined ? {} : { webhook: request.webhook }),
  // 0 is how some clients say that they give none
  ...(request.version === undefined || request.version === 0 ? {} : { version: request.version }),
  ...(request.metadata === undefined ? {} : { metadata: request.metadata })
})

const emitted = ({ eventId, position, runIds }: EmitResult) => ({
  ...(runIds.length === 0 ? {} : { runIds }),
  eventId,
  ...(position === undefined ? {} : { position: String(position) })
})

const batchRequest = lenient(Schemas.TriggerBatchRequest, "TriggerBatch")

const readBatch = (body: unknown): ReadonlyArray<typeof Schemas.TriggerRequest.Type> => {
  const { events = [] } = batchRequest(body)
  if (events.length > BATCH_EVENTS) {
    throw new ValidationError(
      `TriggerBatch takes at most ${BATCH_EVENTS} events, got ${events.length}: send several batches`
    )
  }
  for (const { event } of events) checkEventName(event)
  return events
}

/** Emits, and waits for the runs that it started. A run that takes longer fails the call; it goes on all the same. */
const triggerSync = (
  api: Api,
  request: typeof Schemas.TriggerSyncRequest.Type,
  call: Call,
  closing: Effect.Effect<void>
): Effect.Effect<Reply, IronflowError> =>
  Effect.gen(function* () {
    const timeoutMs = request.timeoutMs || DEFAULT_TIMEOUTS.TRIGGER_SYNC
    const { eventId, runIds } = yield* api.emit(request.event, request.data, emitOptions(request))
    const runs = yield* Effect.forEach(runIds, (runId) => api.waitForRun(runId), {
      concurrency: "unbounded"
    }).pipe(
      Effect.raceFirst(
        Effect.andThen(
          closing,
          Effect.suspend(() => Effect.fail(goingAway(eventId, runIds)))
        )
      ),
      Effect.timeoutOrElse({
        duration: timeoutMs,
        orElse: () =>
          Effect.fail(
            new TimeoutError(
              `Event ${eventId} is stored, but not all of its runs (${runIds.join(", ")}) ended within ${timeoutMs}ms: ` +
                "they go on, and GetRun shows them",
              timeoutMs,
              { details: { eventId, runIds } }
            )
          )
      })
    )
    const results = runs
      .map((run) => readable(call, run))
      .map((run) => ({
        runId: run.id,
        functionId: run.functionId,
        status: run.status,
        ...(run.output === undefined ? {} : { output: run.output }),
        ...("outputHasErrors" in run ? { outputHasErrors: true } : {}),
        ...(run.error === undefined ? {} : { error: run.error }),
        durationMs: Date.parse(run.endedAt ?? run.updatedAt) - Date.parse(run.createdAt)
      }))
    return json(results.length === 0 ? { eventId } : { results, eventId })
  })

const goingAway = (eventId: string, runIds: ReadonlyArray<string>): IronflowError =>
  new UnavailableError(
    `Event ${eventId} is stored, and the engine is about to stop: its runs (${runIds.join(", ")}) go on when it is back`,
    { code: "CLOSING", details: { eventId, runIds } }
  )

// ---------------------------------------------------------------------------------------------------------------------
// Runs
// ---------------------------------------------------------------------------------------------------------------------

const answerRun = (run: Run): Reply => json(encodeRun(run))

/** Data of an event that a policy denies does not come by way of a run that it has started. */
const withoutDeniedIn =
  (engine: EngineService) =>
  (
    { caller, environment }: Call,
    runs: ReadonlyArray<Run>
  ): Effect.Effect<ReadonlyArray<Run>, IronflowError> =>
    caller?.isDenied("subscription:read") !== true
      ? Effect.succeed(runs)
      : Effect.forEach(runs, (run) =>
          Effect.map(engine.eventName(environment, run.id), (name) => {
            if (name === undefined || mayHaveEvent(caller, environment, name)) return run
            const { input: _, ...rest } = run
            return rest
          })
        )

/** Nor by way of a step that has waited for it. */
const withoutEvent = <A extends { readonly kind?: unknown; readonly output?: unknown }>(
  { caller, environment }: Call,
  step: A
): Omit<A, "output"> => {
  const { output, ...rest } = step
  if (step.kind !== "waitForEvent" || !isObject(output) || typeof output.name !== "string") return step
  return mayHaveEvent(caller, environment, output.name) ? step : rest
}

/** A run as the caller may know it who may not read it, and has done something to it. */
const readable = ({ caller, environment }: Call, run: Run): Run => {
  if (caller?.isNotDenied("run:read", `run:${run.id}`, environment) ?? true) return run
  const { error: _, input: __, output: ___, ...rest } = run
  return rest
}

/** Resuming a failed run is to retry it. */
const resumeRun = (
  api: Api,
  { id, fromStep }: RunIdFields & { readonly id: string },
  { caller, environment }: Call
): Effect.Effect<Run, IronflowError> =>
  Effect.gen(function* () {
    if (caller?.isDenied("run:retry") === true) {
      const { status } = yield* api.getRun(id)
      yield* checked(
        () => status === "paused" || caller.checkNotDenied("run:retry", `run:${id}`, environment)
      )
    }
    return yield* api.resumeRun(id, nonEmpty(fromStep))
  })

/** How the engine is. It is told to everybody: names of files and rows are in the log. */
const healthOf = (engine: EngineService) => {
  const health = engine.health()
  return health.status === "ok"
    ? { status: health.status }
    : {
        status: health.status,
        components: { store: { status: health.status, message: storeMessages[health.status] } }
      }
}

const storeMessages = {
  degraded: "Something in the database is damaged, or it cannot be written: the log of the engine says what",
  down: "The database was taken over by another engine: this one does nothing any more"
} as const

const answerRuns = (
  {
    damaged,
    nextCursor,
    runs,
    totalCount
  }: Omit<ListRunsResult, "runs"> & { readonly runs: ReadonlyArray<Run> },
  always: { readonly runs?: [] } = {}
): Reply =>
  json({
    ...always,
    ...(runs.length === 0 ? {} : { runs: runs.map(encodeRun) }),
    ...(damaged === undefined ? {} : { damaged }),
    ...(nextCursor === undefined ? {} : { nextCursor }),
    ...(totalCount === 0 ? {} : { totalCount })
  })

interface RunIdFields {
  readonly id?: string
  readonly runId?: string
  readonly reason?: string
  readonly fromStep?: string
}

/** Reads a request about one run, which some clients call `id` and some `runId`. */
const readRunId = (
  what: string,
  schema: typeof Schemas.RunIdRequest | typeof Schemas.CancelRunRequest | typeof Schemas.FromStepRequest
): ((body: unknown) => RunIdFields & { readonly id: string }) => {
  const read: (body: unknown) => RunIdFields = lenient(schema, what)
  return (body) => {
    const request = read(body)
    const id = request.id || request.runId
    if (!id) throw new ValidationError(`${what}: \`id\` must be the id of a run`)
    return { ...request, id }
  }
}

/** `limit` as the number that it is in a body; what is none is refused as there. */
const runsQuery = (query: URLSearchParams): object => {
  const { limit, ...rest } = Object.fromEntries(query)
  return limit === undefined ? rest : { ...rest, limit: /^\d+$/.test(limit) ? Number(limit) : limit }
}

const listRunsRequest = lenient(Schemas.ListRunsRequest, "ListRuns")

const readListRuns = (body: unknown) => {
  const { functionId, status, limit, cursor } = listRunsRequest(body)
  return {
    ...(functionId === undefined || functionId === "" ? {} : { functionId }),
    ...(status === undefined || status === "" || status === "RUN_STATUS_UNSPECIFIED"
      ? {}
      : { status: readStatus(status) }),
    ...(limit === undefined || limit === 0 ? {} : { limit }),
    ...(cursor === undefined || cursor === "" ? {} : { cursor })
  }
}

const readStatus = (text: string) => {
  const status = decodeRunStatus(text)
  if (status !== undefined) return status
  throw new ValidationError(
    `ListRuns: "${text.slice(0, 64)}" is not a run status: use ${runStatuses.slice(0, -1).join(", ")} or ${runStatuses.at(-1)}`
  )
}

const waitForRun = (
  engine: EngineService,
  call: Call,
  giveUpAfter: ServerState["giveUpAfter"]
): Effect.Effect<Reply, IronflowError> =>
  Effect.suspend(() => {
    const id = variable(call, "id")
    const text = call.query.get("timeout")
    const timeout = text === null ? MAX_WAIT_MS : Number(text)
    if (!(timeout >= 0) || text?.trim() === "") {
      return Effect.fail(
        new ValidationError(`\`timeout\` must be a number of milliseconds, got "${text?.slice(0, 64)}"`)
      )
    }
    const giveUp = giveUpAfter(Math.min(timeout, MAX_WAIT_MS))
    return Effect.flatMap(engine.awaitEnd(call.environment, id, giveUp), (run) =>
      run === undefined
        ? Effect.succeed(noContent)
        : Effect.map(withoutDeniedIn(engine)(call, [run]), ([run]) => answerRun(run!))
    )
  })

const patchStep = (
  api: Api,
  { stepId, output, reason }: typeof Schemas.PatchStepRequest.Type,
  { caller, environment }: Call
): Effect.Effect<RunStep, IronflowError> =>
  Effect.gen(function* () {
    const runId = stepId.slice(0, stepId.indexOf(":"))
    yield* checked(() => caller?.checkNotDenied("run:patch", `run:${runId}`, environment))
    yield* api.patchStep(stepId, output ?? null, reason)
    const steps = yield* api.getRunSteps(runId)
    const step = steps.find(({ id }) => id === stepId)
    return step ?? (yield* new StepNotFoundError(runId, stepId))
  })
