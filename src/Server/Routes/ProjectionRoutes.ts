/**
 * Projections over HTTP: for users and operators (REST), for the workers that own them, and for legacy
 * runners (ConnectRPC).
 */
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type {
  PauseProjectionOptions,
  ProjectionsApi,
  ProjectionStateResult,
  ProjectionStatusInfo
} from "../../Client/Projections.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import {
  EventNotFoundError,
  InvalidStateError,
  type IronflowError,
  ProjectionBehindError,
  ValidationError
} from "../../Errors.ts"
import { MAX_WAIT_MS } from "../../Protocol/Http/Turns.ts"
import {
  type CatchupAnswer,
  Pause,
  type RebuildOptions,
  RebuildRequest,
  callSpecs
} from "../../Protocol/Projections.ts"
import { NamedProjection, callSpecs as service } from "../../Protocol/ProjectionService.ts"
import { decoder } from "../../Protocol/ServerCodec.ts"
import { mayHaveEvent } from "../../Engine/Access/WorkerAccess.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { PageQuery } from "../../Engine/Pages.ts"
import { visibleItems } from "../Http/PagedReply.ts"
import { projectionOwnerRoutes } from "./ProjectionOwnerRoutes.ts"
import { projectionRunnerRoutes } from "./ProjectionRunnerRoutes.ts"
import { type Call, readNumber, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answerRoute, pageRoute, bodyRoute } from "./CallRoute.ts"

/** Maximum number of projections that one request waits for. */
const MAX_BATCH = 16

/** Maximum number of states in one response. */
const MAX_STATES = 1000

type Api = Raw<ProjectionsApi<EffectKind>>

const readListPage = (engine: EngineService) => (call: Call, page: PageQuery) =>
  visibleItems(call, engine.projections.listPage(call.environment)(page))

/** Makes the routes. `stopSignal` succeeds when the server is about to stop. Waiting calls then end. */
export const projectionRoutes = (
  engine: EngineService,
  stopSignal: Effect.Effect<void>
): ReadonlyArray<Route> => {
  const apiOf = (call: Call): Api => engine.projections.client(call.environment)
  const nameOf = (call: Call): string => variable(call, "name")

  return [
    pageRoute(callSpecs.listProjections, readListPage(engine), (call) =>
      // a web page expects an object around the list, and a program expects the bare list
      isFromPage(call) ? { encodeAll: (items) => `{"projections":[${items}]}` } : {}
    ),
    answerRoute(callSpecs.restGetProjection, (call) => get(apiOf(call), call)),
    answerRoute(callSpecs.projectionStatus, (call) => apiOf(call).status(nameOf(call))),
    answerRoute(callSpecs.deleteProjection, (call) => Effect.as(apiOf(call).delete(nameOf(call)), undefined)),
    bodyRoute(callSpecs.pauseProjection, "Pause", (options, call) =>
      hideErrors(call, apiOf(call).pause(nameOf(call), pauseOf(options)))
    ),
    answerRoute(callSpecs.resumeProjection, (call) => hideErrors(call, apiOf(call).resume(nameOf(call)))),
    bodyRoute(callSpecs.rebuildProjection, "Rebuild", (options, call) =>
      Effect.map(hideErrors(call, rebuild(apiOf(call), nameOf(call), options)), (info) => ({
        ...rebuildOf(info),
        ...info
      }))
    ),
    answerRoute(callSpecs.projectionRebuild, (call) =>
      Effect.map(apiOf(call).status(nameOf(call)), rebuildOf)
    ),
    answerRoute(callSpecs.cancelRebuild, (call) =>
      Effect.fail(
        new InvalidStateError(
          `A rebuild of projection "${nameOf(call)}" cannot be cancelled: its position and its dead letters were deleted when it began. ` +
            "Pause the projection to continue the rebuild later"
        )
      )
    ),
    answerRoute(callSpecs.projectionCatchup, (call) =>
      Effect.gen(function* () {
        const { minSeq, timeoutMs } = yield* checked(() => ({
          minSeq: readNumber(call, "minSeq", 0),
          timeoutMs: readNumber(call, "timeout", MAX_WAIT_MS)
        }))
        return yield* waitForCatchup(apiOf(call), nameOf(call), minSeq, timeoutMs, stopSignal)
      })
    ),
    bodyRoute(callSpecs.projectionCatchupBatch, "Catchup", ({ items, timeoutMs = MAX_WAIT_MS }, call) =>
      items.length > MAX_BATCH
        ? Effect.fail(
            new ValidationError(
              `One request can wait for at most ${MAX_BATCH} projections, got ${items.length}`
            )
          )
        : Effect.map(
            Effect.forEach(
              items,
              ({ minSeq, name }) =>
                Effect.match(waitForCatchup(apiOf(call), name, minSeq, timeoutMs, stopSignal), {
                  onSuccess: (result) => ({ result }),
                  onFailure: ({ code, message }) => ({ error: { code, message } })
                }),
              { concurrency: "unbounded" }
            ),
            (results) => ({ results })
          )
    ),
    bodyRoute(callSpecs.projectionWaitForEvent, "WaitForEvent", (request, call) =>
      waitForEvent(engine, request, call, stopSignal)
    ),
    answerRoute(callSpecs.projectionChanges, (call) =>
      Effect.gen(function* () {
        const { query } = call
        const limit = yield* checked(() => readNumber(call, "limit", 100))
        const { states, ...page } = yield* engine.projections.changes(call.environment)(nameOf(call), {
          since: query.get("since") ?? undefined,
          partition: query.get("partition") ?? undefined,
          after: query.get("after") ?? undefined,
          limit: Math.min(Math.max(1, limit), MAX_STATES)
        })
        return { ...page, states: states.map(({ result, revision }) => ({ ...stateRow(result), revision })) }
      })
    ),
    answerRoute(callSpecs.deadLetters, (call) =>
      Effect.gen(function* () {
        const page = yield* checked(() => ({
          after: readNumber(call, "after", 0),
          limit: readNumber(call, "limit", 100)
        }))
        const letters = yield* apiOf(call).deadLetters(nameOf(call), page)
        return {
          deadLetters: letters.filter(({ event }) => mayHaveEvent(call.caller, call.environment, event.name))
        }
      })
    ),
    bodyRoute(callSpecs.retryDeadLetters, "Retry", ({ position }, call) =>
      Effect.map(
        position === undefined
          ? apiOf(call).retryDeadLetters(nameOf(call))
          : Effect.as(apiOf(call).retryDeadLetter(nameOf(call), position), 1),
        (retrying) => ({ retrying })
      )
    ),
    ...connectRoutes(engine, stopSignal),
    ...projectionOwnerRoutes(engine, stopSignal),
    ...projectionRunnerRoutes(engine)
  ]
}

/** The same calls over ConnectRPC: the name of the projection is in the body, and 64-bit integers are strings. */
const connectRoutes = (engine: EngineService, stopSignal: Effect.Effect<void>): ReadonlyArray<Route> => {
  const apiOf = (call: Call): Api => engine.projections.client(call.environment)

  return [
    pageRoute(service.connectListProjections, readListPage(engine)),
    bodyRoute(service.getProjectionStatus, "Projection", ({ name }, call) => apiOf(call).status(name)),
    bodyRoute(service.connectResumeProjection, "Projection", ({ name }, call) =>
      hideErrors(call, apiOf(call).resume(name))
    ),
    answerRoute(service.connectPauseProjection, (call) =>
      Effect.flatMap(
        checked(() => ({ options: readPause(call.body), ...readName(call.body) })),
        ({ name, options }) => hideErrors(call, apiOf(call).pause(name, pauseOf(options)))
      )
    ),
    answerRoute(service.connectRebuildProjection, (call) =>
      Effect.flatMap(
        checked(() => ({ ...readName(call.body), options: readRebuild(call.body) })),
        ({ name, options }) => Effect.map(rebuild(apiOf(call), name, options), rebuildOf)
      )
    ),
    bodyRoute(
      service.waitProjectionCatchup,
      "WaitProjectionCatchup",
      ({ minSeq, name, timeoutMs = MAX_WAIT_MS }, call) =>
        waitForCatchup(apiOf(call), name, minSeq, timeoutMs, stopSignal)
    ),
    bodyRoute(service.waitForEvent, "WaitForEvent", (request, call) =>
      waitForEvent(engine, request, call, stopSignal)
    )
  ]
}

// the name has a decoder of its own, so that its errors are about the projection and not about the rest of
// the body
const readName = decoder(NamedProjection, "Projection")
const readPause = decoder(Pause, "Pause")
const readRebuild = decoder(RebuildRequest, "Rebuild")

/** Waits until a projection has processed an event. */
const waitForEvent = (
  engine: EngineService,
  {
    eventId,
    projection,
    timeoutMs = MAX_WAIT_MS
  }: { eventId: string; projection: string; timeoutMs?: number },
  { environment }: Call,
  stopSignal: Effect.Effect<void>
): Effect.Effect<CatchupAnswer, IronflowError> =>
  Effect.flatMap(engine.log.positionOf(environment, eventId), (position) =>
    position === undefined
      ? Effect.fail(new EventNotFoundError(eventId))
      : waitForCatchup(engine.projections.client(environment), projection, position, timeoutMs, stopSignal)
  )

/** Leaves out empty strings, which some clients send for no value. */
const pauseOf = ({ by, reason }: PauseProjectionOptions): PauseProjectionOptions => ({
  ...(by ? { by } : {}),
  ...(reason ? { reason } : {})
})

/** Whether a web page makes the call: programs do not send these headers. */
const isFromPage = ({ request }: Call): boolean =>
  request.headers.origin !== undefined || request.headers["sec-fetch-site"] !== undefined

const get = (api: Api, call: Call) =>
  Effect.gen(function* () {
    const name = variable(call, "name")
    const partition = call.query.get("partition")
    const state = yield* api.get(name, partition ? { partition } : {})
    const { mode, status, errorMessage } = yield* api.status(name)
    const { lastEventSeq, updatedAt, version } = state
    return {
      name,
      version,
      mode,
      status,
      lastEventSeq,
      updatedAt,
      ...(errorMessage === undefined ? {} : { errorMessage }),
      ...(state.lastEventId === undefined
        ? {}
        : { state: { projectionName: name, environmentId: call.environment, ...stateRow(state) } })
    }
  })

/** The state of a partition, as the answers of the REST routes have it. */
const stateRow = ({ lastEventId = "", lastEventTime = "", partition, ...result }: ProjectionStateResult) => ({
  ...result,
  // a state may be of any type
  state: result.state as unknown,
  partitionKey: partition,
  lastEventId,
  lastEventTime
})

const rebuild = (
  api: Api,
  name: string,
  { dryRun, fromEventId, partition }: RebuildOptions
): Effect.Effect<ProjectionStatusInfo, IronflowError> => {
  if (partition || fromEventId) {
    return Effect.fail(
      new ValidationError(
        "A projection is rebuilt as a whole, from the beginning of the log: leave `partition` and `from_event_id` out"
      )
    )
  }
  return dryRun === true ? api.status(name) : api.rebuild(name)
}

/**
 * Hides errors from a caller who may manage the projection but not read it, since errors may contain data.
 */
const hideErrors = <E>(
  { caller, environment }: Call,
  changed: Effect.Effect<ProjectionStatusInfo, E>
): Effect.Effect<ProjectionStatusInfo, E> =>
  Effect.map(changed, (info) => {
    if (caller?.isNotDenied("projection:read", `projection:${info.name}`, environment) ?? true) return info
    const { errorMessage, failing: _, lastError: __, ...rest } = info
    return errorMessage === undefined
      ? rest
      : {
          ...rest,
          message: `The projection has failed at an event; the error is shown to keys with "projection:read"`
        }
  })

const rebuildOf = (info: ProjectionStatusInfo) => ({
  projectionName: info.name,
  status: info.rebuildTo === undefined ? "completed" : "running",
  lastEventSeq: info.lastEventSeq,
  ...(info.rebuildTo === undefined ? {} : { targetSeq: info.rebuildTo }),
  remainingEvents: info.lag
})

/**
 * Waits until the projection has reached the position, within the limit of a request. A timeout is a result,
 * and not a failure.
 */
const waitForCatchup = (
  api: Api,
  name: string,
  minSeq: number,
  timeoutMs: number,
  stopSignal: Effect.Effect<void>
): Effect.Effect<CatchupAnswer, IronflowError> =>
  Effect.gen(function* () {
    const wait = api.waitForCatchup(name, { after: minSeq, timeout: Math.min(timeoutMs, MAX_WAIT_MS) })
    const behindError = yield* Effect.raceFirst(Effect.as(wait, undefined), stopSignal).pipe(
      Effect.as(undefined),
      Effect.catchIf(
        (error): error is ProjectionBehindError => error instanceof ProjectionBehindError,
        (error) => Effect.succeed(error)
      )
    )
    const info = yield* api.status(name)
    const caughtUp =
      behindError === undefined && (info.lastEventSeq >= minSeq || (yield* hasReached(api, name, minSeq)))
    return {
      caughtUp,
      timedOut: !caughtUp,
      currentSeq: info.lastEventSeq,
      targetSeq: minSeq,
      behindByEvents: caughtUp ? 0 : info.lag,
      ...(info.status === "rebuilding" ? { rebuilding: true } : {}),
      mode: info.mode,
      ...(caughtUp ? {} : { message: info.message })
    }
  })

/** Whether everything up to `target` is projected, even if the position of the last save is before `target`. */
const hasReached = (api: Api, name: string, target: number): Effect.Effect<boolean, IronflowError> =>
  Effect.match(api.waitForCatchup(name, { after: target, timeout: 0 }), {
    onSuccess: () => true,
    onFailure: () => false
  })
