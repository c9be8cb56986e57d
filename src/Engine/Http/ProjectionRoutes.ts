/** Projections over HTTP: for users and operators (REST), for workers that own them, and for existing runners (Connect). */
import * as Effect from "effect/Effect"
import type { EffectKind } from "../../Client/Client.ts"
import type { ProjectionsApi, ProjectionStatusInfo } from "../../Client/Projections.ts"
import { InvalidStateError, IronflowError, ProjectionBehindError, ValidationError } from "../../Errors.ts"
import { encodeProjectionStatus } from "../../Protocol/Http/ProjectionJson.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import { MAX_WAIT_MS } from "../../Protocol/Http/Turns.ts"
import type { EngineService } from "../Engine.ts"
import { projectionOwnerRoutes } from "./ProjectionOwnerRoutes.ts"
import { projectionRunnerRoutes } from "./ProjectionRunnerRoutes.ts"
import { type Call, checked, json, noContent, type Reply, type Route, route, variable } from "./Route.ts"

/** Most projections that one request waits for. */
const BATCH = 16

type Api = ProjectionsApi<EffectKind>

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
      Effect.map(apiOf(call).list(), (infos) => {
        const items = infos.map(encodeProjectionStatus)
        // pages expect an object around the list, servers a bare one
        return json(isFromPage(call) ? { projections: items } : items)
      })
    ),
    route("restGetProjection", (call) => get(apiOf(call), call)),
    route("projectionStatus", (call) => status(apiOf(call).status(nameOf(call)))),
    route("deleteProjection", (call) => Effect.as(apiOf(call).delete(nameOf(call)), noContent)),
    route("pauseProjection", (call) =>
      Effect.flatMap(
        checked(() => pauseRequest(call.body)),
        ({ by, reason }) =>
          status(
            apiOf(call).pause(nameOf(call), {
              ...(by ? { by } : {}),
              ...(reason ? { reason } : {})
            })
          )
      )
    ),
    route("resumeProjection", (call) => status(apiOf(call).resume(nameOf(call)))),
    route("rebuildProjection", (call) => rebuild(apiOf(call), call)),
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
    route("projectionWaitForEvent", (call) =>
      Effect.gen(function* () {
        const { eventId, projection, timeoutMs = MAX_WAIT_MS } = yield* checked(() => waitRequest(call.body))
        const position = yield* engine.projections.findEvent(call.environment, eventId)
        if (position === undefined) {
          return yield* new IronflowError(`There is no event ${eventId.slice(0, 64)} in this environment`, {
            code: "EVENT_NOT_FOUND"
          })
        }
        return json(yield* catchup(apiOf(call), projection, position, timeoutMs, closing))
      })
    ),
    route("deadLetters", (call) =>
      Effect.gen(function* () {
        const page = yield* checked(() => ({
          after: readNumber(call, "after", 0),
          limit: readNumber(call, "limit", 100)
        }))
        return json({ dead_letters: yield* apiOf(call).deadLetters(nameOf(call), page) })
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
    ...projectionOwnerRoutes(engine, closing),
    ...projectionRunnerRoutes(engine)
  ]
}

const pauseRequest = lenient(Schemas.PauseProjectionRequest, "Pause")
const rebuildRequest = lenient(Schemas.RebuildProjectionRequest, "Rebuild")
const batchRequest = lenient(Schemas.CatchupBatchRequest, "Catchup")
const waitRequest = lenient(Schemas.WaitForEventRequest, "WaitForEvent")
const retryRequest = lenient(Schemas.RetryDeadLettersRequest, "Retry")

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

const rebuild = (api: Api, call: Call): Effect.Effect<Reply, IronflowError> =>
  Effect.gen(function* () {
    const name = variable(call, "name")
    const request = yield* checked(() => {
      const request = rebuildRequest(call.body)
      if (request.partition || request.fromEventId) {
        throw new ValidationError(
          "A projection is rebuilt as a whole, from the beginning of the log: leave `partition` and `from_event_id` out"
        )
      }
      return request
    })
    const info = yield* request.dryRun === true ? api.status(name) : api.rebuild(name)
    return json({ ...rebuildJob(info), ...encodeProjectionStatus(info) })
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

const readNumber = (call: Call, name: string, orElse: number): number => {
  const text = call.query.get(name)
  if (text === null) return orElse
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw new ValidationError(`\`${name}\` must be a number that is not negative, got "${text.slice(0, 64)}"`)
}
