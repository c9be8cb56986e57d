/** Projections over HTTP: for users and operators (REST), for workers that own them, and for existing runners (Connect). */
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type { ProjectionsApi, ProjectionStatusInfo } from "../../Client/Projections.ts"
import type { ChangesPage } from "../../Client/ProjectionUpdates.ts"
import type { Raw } from "../../Client/Named.ts"
import {
  EventNotFoundError,
  InvalidStateError,
  type IronflowError,
  ProjectionBehindError,
  ValidationError
} from "../../Errors.ts"
import { encodeProjectionStatus } from "../../Protocol/Http/ProjectionJson.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import { MAX_WAIT_MS } from "../../Protocol/Http/Turns.ts"
import { mayHaveEvent } from "../Access/WorkerAccess.ts"
import type { EngineService } from "../Engine.ts"
import { pagedReply, seen } from "./PagedReply.ts"
import { projectionOwnerRoutes } from "./ProjectionOwnerRoutes.ts"
import { projectionRunnerRoutes } from "./ProjectionRunnerRoutes.ts"
import {
  type Call,
  checked,
  json,
  noContent,
  type Reply,
  readNumber,
  type Route,
  route,
  variable
} from "./Route.ts"

/** Most projections that one request waits for. */
const BATCH = 16

/** States in one answer. */
const MOST_STATES = 1000

type Api = Raw<ProjectionsApi<EffectKind>>

/** `closing` succeeds when the server is about to stop: nobody should wait any longer. */
export const projectionRoutes = (
  engine: EngineService,
  closing: Effect.Effect<void>
): ReadonlyArray<Route> => {
  const apiOf = (call: Call): Api => engine.projections.client(call.environment)
  const nameOf = (call: Call): string => variable(call, "name")
  const status = (asked: Effect.Effect<ProjectionStatusInfo, IronflowError>) =>
    Effect.map(asked, (info) => json(encodeProjectionStatus(info)))

  return [
    route("listProjections", (call) =>
      pagedReply("projections", call.query, {
        // pages in browsers expect an object around the list, servers a bare one
        all: (items) => (isFromPage(call) ? `{"projections":[${items}]}` : `[${items}]`),
        read: (page) =>
          seen(call, engine.projections.listPage(call.environment)(page), encodeProjectionStatus)
      })
    ),
    route("restGetProjection", (call) => get(apiOf(call), call)),
    route("projectionStatus", (call) => status(apiOf(call).status(nameOf(call)))),
    route("deleteProjection", (call) => Effect.as(apiOf(call).delete(nameOf(call)), noContent)),
    route("pauseProjection", (call) =>
      Effect.flatMap(
        checked(() => readPause(call.body)),
        (options) => status(apiOf(call).pause(nameOf(call), options))
      )
    ),
    route("resumeProjection", (call) => status(apiOf(call).resume(nameOf(call)))),
    route("rebuildProjection", (call) =>
      Effect.map(rebuild(apiOf(call), nameOf(call), call.body), (info) =>
        json({ ...rebuildJob(info), ...encodeProjectionStatus(info) })
      )
    ),
    route("projectionRebuild", (call) =>
      Effect.map(apiOf(call).status(nameOf(call)), (info) => json(rebuildJob(info)))
    ),
    route("cancelRebuild", (call) =>
      Effect.fail(
        new InvalidStateError(
          `A rebuild of projection "${nameOf(call)}" cannot be taken back: its state was forgotten when it began. ` +
            "Pause the projection to keep the rest for later"
        )
      )
    ),
    route("projectionCatchup", (call) =>
      Effect.gen(function* () {
        const { minSeq, timeoutMs } = yield* checked(() => ({
          minSeq: readNumber(call, "minSeq", 0),
          timeoutMs: readNumber(call, "timeout", MAX_WAIT_MS)
        }))
        return json(yield* catchup(apiOf(call), nameOf(call), minSeq, timeoutMs, closing))
      })
    ),
    route("projectionCatchupBatch", (call) =>
      Effect.gen(function* () {
        const { items, timeoutMs = MAX_WAIT_MS } = yield* checked(() => readBatch(call.body))
        const results = yield* Effect.forEach(
          items,
          ({ minSeq, name }) =>
            Effect.match(catchup(apiOf(call), name, minSeq, timeoutMs, closing), {
              onSuccess: (result) => ({ result }),
              onFailure: ({ code, message }) => ({ error: { code, message } })
            }),
          { concurrency: "unbounded" }
        )
        return json({ results })
      })
    ),
    route("projectionWaitForEvent", (call) => Effect.map(waitForEvent(engine, call, closing), json)),
    route("projectionChanges", (call) =>
      Effect.gen(function* () {
        const { query } = call
        const limit = yield* checked(() => readNumber(call, "limit", 100))
        const page = yield* engine.projections.changes(call.environment)(nameOf(call), {
          since: query.get("since") ?? undefined,
          partition: query.get("partition") ?? undefined,
          after: query.get("after") ?? undefined,
          limit: Math.min(Math.max(1, limit), MOST_STATES)
        })
        return json(encodeChanges(page))
      })
    ),
    route("deadLetters", (call) =>
      Effect.gen(function* () {
        const page = yield* checked(() => ({
          after: readNumber(call, "after", 0),
          limit: readNumber(call, "limit", 100)
        }))
        const letters = yield* apiOf(call).deadLetters(nameOf(call), page)
        return json({
          dead_letters: letters.filter(({ event }) => mayHaveEvent(call.caller, call.environment, event.name))
        })
      })
    ),
    route("retryDeadLetters", (call) =>
      Effect.gen(function* () {
        const { position } = yield* checked(() => retryRequest(call.body))
        if (position === undefined) {
          return json({ retrying: yield* apiOf(call).retryDeadLetters(nameOf(call)) })
        }
        yield* apiOf(call).retryDeadLetter(nameOf(call), position)
        return json({ retrying: 1 })
      })
    ),
    ...connectRoutes(engine, closing),
    ...projectionOwnerRoutes(engine, closing),
    ...projectionRunnerRoutes(engine)
  ]
}

/** The same over ConnectRPC, for those who speak that: names in the body, 64-bit integers as text. */
const connectRoutes = (engine: EngineService, closing: Effect.Effect<void>): ReadonlyArray<Route> => {
  const apiOf = (call: Call): Api => engine.projections.client(call.environment)
  const named = (
    call: Call,
    then: (name: string) => Effect.Effect<ProjectionStatusInfo, IronflowError>
  ): Effect.Effect<Reply, IronflowError> =>
    Effect.gen(function* () {
      const { name } = yield* checked(() => nameRequest(call.body))
      return json(connectStatus(yield* then(name)))
    })
  return [
    route("connectListProjections", (call) =>
      pagedReply("projections", call.query, {
        all: (items) => `{"projections":[${items}]}`,
        read: (page) => seen(call, engine.projections.listPage(call.environment)(page), connectStatus)
      })
    ),
    route("getProjectionStatus", (call) => named(call, (name) => apiOf(call).status(name))),
    route("connectResumeProjection", (call) => named(call, (name) => apiOf(call).resume(name))),
    route("connectPauseProjection", (call) =>
      Effect.gen(function* () {
        const options = yield* checked(() => readPause(call.body))
        return yield* named(call, (name) => apiOf(call).pause(name, options))
      })
    ),
    route("connectRebuildProjection", (call) =>
      Effect.gen(function* () {
        const { name } = yield* checked(() => nameRequest(call.body))
        const job = rebuildJob(yield* rebuild(apiOf(call), name, call.body))
        return json({
          projectionName: job.projection_name,
          status: job.status,
          lastEventSeq: String(job.last_event_seq),
          ...(job.target_seq === undefined ? {} : { targetSeq: String(job.target_seq) }),
          remainingEvents: String(job.remaining_events)
        })
      })
    ),
    route("waitProjectionCatchup", (call) =>
      Effect.gen(function* () {
        const { minSeq, name, timeoutMs = MAX_WAIT_MS } = yield* checked(() => catchupRequest(call.body))
        return json(connectCatchup(yield* catchup(apiOf(call), name, minSeq, timeoutMs, closing)))
      })
    ),
    route("waitForEvent", (call) =>
      Effect.map(waitForEvent(engine, call, closing), (answer) => json(connectCatchup(answer)))
    )
  ]
}

const connectStatus = (info: ProjectionStatusInfo): typeof Schemas.ConnectProjectionStatus.Type => ({
  name: info.name,
  status: info.status,
  mode: info.mode,
  message: info.message,
  lastEventSeq: String(info.lastEventSeq),
  lag: String(info.lag),
  generation: String(info.generation),
  ...(info.owner === undefined ? {} : { owner: info.owner }),
  ...(info.errorMessage === undefined ? {} : { errorMessage: info.errorMessage }),
  deadLetters: String(info.deadLetters),
  refusedSaves: String(info.refusedSaves),
  createdAt: info.createdAt,
  updatedAt: info.updatedAt
})

const connectCatchup = (
  answer: typeof Schemas.CatchupResponse.Type
): typeof Schemas.ConnectCatchupResponse.Type => ({
  ...answer,
  currentSeq: String(answer.currentSeq),
  targetSeq: String(answer.targetSeq),
  behindByEvents: String(answer.behindByEvents)
})

/** Waits for the event with the id in the body. */
const waitForEvent = (engine: EngineService, call: Call, closing: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const { eventId, projection, timeoutMs = MAX_WAIT_MS } = yield* checked(() => waitRequest(call.body))
    const position = yield* engine.projections.findEvent(call.environment, eventId)
    if (position === undefined) {
      return yield* new EventNotFoundError(eventId)
    }
    return yield* catchup(
      engine.projections.client(call.environment),
      projection,
      position,
      timeoutMs,
      closing
    )
  })

const nameRequest = lenient(Schemas.ProjectionNameRequest, "Projection")
const catchupRequest = lenient(Schemas.WaitCatchupRequest, "WaitProjectionCatchup")
const pauseRequest = lenient(Schemas.PauseProjectionRequest, "Pause")
const rebuildRequest = lenient(Schemas.RebuildProjectionRequest, "Rebuild")
const batchRequest = lenient(Schemas.CatchupBatchRequest, "Catchup")
const waitRequest = lenient(Schemas.WaitForEventRequest, "WaitForEvent")
const retryRequest = lenient(Schemas.RetryDeadLettersRequest, "Retry")

const readPause = (body: unknown) => {
  const { by, reason } = pauseRequest(body)
  return { ...(by ? { by } : {}), ...(reason ? { reason } : {}) }
}

/** A browser says so in headers that servers do not send. */
const isFromPage = ({ request }: Call): boolean =>
  request.headers.origin !== undefined || request.headers["sec-fetch-site"] !== undefined

const get = (api: Api, call: Call): Effect.Effect<Reply, IronflowError> =>
  Effect.gen(function* () {
    const name = variable(call, "name")
    const partition = call.query.get("partition")
    const state = yield* api.get(name, partition ? { partition } : {})
    const info = yield* api.status(name)
    return json({
      name,
      version: state.version,
      mode: info.mode,
      status: info.status,
      last_event_seq: state.lastEventSeq,
      updated_at: state.updatedAt,
      ...(info.errorMessage === undefined ? {} : { error_message: info.errorMessage }),
      ...(state.lastEventId === undefined
        ? {}
        : {
            state: {
              projection_name: name,
              environment_id: call.environment,
              partition_key: state.partition,
              state: state.state,
              last_event_id: state.lastEventId,
              last_event_seq: state.lastEventSeq,
              last_event_time: state.lastEventTime,
              version: state.version,
              updated_at: state.updatedAt
            }
          })
    })
  })

const encodeChanges = ({
  cursor,
  errorMessage,
  mode,
  next,
  states,
  status
}: ChangesPage): typeof Schemas.ProjectionChangesResponse.Type => ({
  mode,
  status,
  ...(errorMessage === undefined ? {} : { error_message: errorMessage }),
  cursor,
  ...(next === undefined ? {} : { next }),
  states: states.map(({ result, revision }) => ({
    partition_key: result.partition,
    state: result.state,
    last_event_id: result.lastEventId ?? "",
    last_event_seq: result.lastEventSeq,
    last_event_time: result.lastEventTime ?? "",
    version: result.version,
    revision,
    updated_at: result.updatedAt
  }))
})

const rebuild = (api: Api, name: string, body: unknown): Effect.Effect<ProjectionStatusInfo, IronflowError> =>
  Effect.gen(function* () {
    const request = yield* checked(() => {
      const request = rebuildRequest(body)
      if (request.partition || request.fromEventId) {
        throw new ValidationError(
          "A projection is rebuilt as a whole, from the beginning of the log: leave `partition` and `from_event_id` out"
        )
      }
      return request
    })
    return yield* request.dryRun === true ? api.status(name) : api.rebuild(name)
  })

const rebuildJob = (info: ProjectionStatusInfo) => ({
  projection_name: info.name,
  status: info.rebuildTo === undefined ? "completed" : "running",
  last_event_seq: info.lastEventSeq,
  ...(info.rebuildTo === undefined ? {} : { target_seq: info.rebuildTo }),
  remaining_events: info.lag
})

/** Waits, but no longer than a request may; that the time is up is an answer, and no failure. */
const catchup = (
  api: Api,
  name: string,
  minSeq: number,
  timeoutMs: number,
  closing: Effect.Effect<void>
): Effect.Effect<typeof Schemas.CatchupResponse.Type, IronflowError> =>
  Effect.gen(function* () {
    const waited = api.waitForCatchup(name, { after: minSeq, timeout: Math.min(timeoutMs, MAX_WAIT_MS) })
    const behind = yield* Effect.raceFirst(Effect.as(waited, undefined), closing).pipe(
      Effect.as(undefined),
      Effect.catchIf(
        (error): error is ProjectionBehindError => error instanceof ProjectionBehindError,
        (error) => Effect.succeed(error)
      )
    )
    const info = yield* api.status(name)
    const caughtUp = behind === undefined && (info.lastEventSeq >= minSeq || (yield* isAt(api, name, minSeq)))
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

/** Nothing up to `target` is left to be projected, though the last save was before it. */
const isAt = (api: Api, name: string, target: number): Effect.Effect<boolean, IronflowError> =>
  Effect.match(api.waitForCatchup(name, { after: target, timeout: 0 }), {
    onSuccess: () => true,
    onFailure: () => false
  })

const readBatch = (body: unknown) => {
  const request = batchRequest(body)
  if (request.items.length > BATCH) {
    throw new ValidationError(`Catchup takes at most ${BATCH} items, got ${request.items.length}`)
  }
  return request
}
