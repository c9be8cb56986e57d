/**
 * What existing runners of projections call: `ProjectionService` of ConnectRPC, as JSON.
 *
 * There is no `StreamProjectionEvents`: its 404 makes a runner poll, and a poll carries the state that it goes on from,
 * which the stream cannot do for partitions.
 */
import * as Effect from "effect/Effect"
import { object } from "../../Client/HttpCalls.ts"
import { type IronflowError, ProjectionSaveRefusedError, ValidationError } from "../../Errors.ts"
import { encodeJson } from "../../Json.ts"
import { checkSize, projectionStateBytes } from "../../Limits.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import type {
  ProjectionLogEvent,
  ProjectionRegistration,
  ProjectionSaved
} from "../../Protocol/Projections.ts"
import { show } from "../../Show.ts"
import type { EngineService } from "../Engine.ts"
import { reachOf } from "../Access/SubscriptionReach.ts"
import { checkEvents, mayHaveEvent } from "../Access/WorkerAccess.ts"
import { type Call, checked, json, type Reply, type Route, route } from "./Route.ts"

export const projectionRunnerRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const { projections } = engine
  return [
    route("registerProjection", (call) =>
      Effect.gen(function* () {
        const registration = yield* checked(() => {
          const registration = readRegistration(call.body)
          checkProjectionEvents(call, registration.events)
          return registration
        })
        const { position, status } = yield* projections.register(call.environment, registration)
        return json({ status, ...(position === 0 ? {} : { lastEventSeq: String(position) }) })
      })
    ),
    route("getProjection", (call) =>
      Effect.gen(function* () {
        const { name, partition } = yield* checked(() => getRequest(call.body))
        const api = projections.client(call.environment)
        const result = yield* api.get(name, partition ? { partition } : {})
        return json({
          name,
          partition: result.partition,
          ...(result.lastEventId === undefined
            ? {}
            : {
                state: result.state,
                lastEventId: result.lastEventId,
                lastEventTime: result.lastEventTime,
                version: String(result.version)
              }),
          mode: result.mode
        })
      })
    ),
    route("pollProjectionEvents", (call) =>
      Effect.gen(function* () {
        const { batchSize, name } = yield* checked(() => pollRequest(call.body))
        const { events, position, state } = yield* projections.handOut(
          call.environment,
          name,
          batchSize || DEFAULT_BATCH
        )
        yield* checked(() => checkHandedOut(call, events))
        return rawJson({
          events: events.length === 0 ? undefined : `[${events.map(encodeEvent).join(",")}]`,
          currentState: events.length === 0 ? undefined : state,
          lastEventSeq: position === 0 ? undefined : `"${position}"`
        })
      })
    ),
    route(
      "saveProjectionState",
      (call) =>
        Effect.gen(function* () {
          const save = yield* checked(() => readSave(call.body))
          return yield* answer(
            save.name,
            yield* projections.saveTokenless({ environment: call.environment, ...save })
          )
        }),
      { fromWorker: true }
    ),
    route("ackProjectionEvents", (call) =>
      Effect.gen(function* () {
        const { lastEventSeq, name } = yield* checked(() => ackRequest(call.body))
        return yield* answer(
          name,
          yield* projections.saveTokenless({ environment: call.environment, name, position: lastEventSeq })
        )
      })
    )
  ]
}

/** Throws `UnauthorizedError` when a policy denies subscribing to what the projection is to be given. */
export const checkProjectionEvents = (
  { caller, environment }: Call,
  events: ReadonlyArray<unknown>
): void => {
  // what is no pattern is refused by whoever reads it
  for (const event of events) {
    if (caller !== undefined && typeof event === "string") checkEvents(caller, environment, event)
  }
}

/** The same for what it is given now: another may have registered it. */
export const checkHandedOut = (
  { caller, environment }: Call,
  events: ReadonlyArray<ProjectionLogEvent>
): void => {
  if (caller === undefined) return
  for (const { entity, name } of events) {
    if (entity !== undefined) caller.checkNotDenied("stream:read", `stream:${entity.id}`, environment)
    if (mayHaveEvent(caller, environment, name, entity)) continue
    caller.checkNotDenied(
      "subscription:read",
      `subscription:events:${name}`,
      environment,
      reachOf(`events:${name}`)
    )
  }
}

/** Events in a batch for a runner that does not say. */
const DEFAULT_BATCH = 100

const registerRequest = lenient(Schemas.RegisterProjectionRequest, "RegisterProjection")
const getRequest = lenient(Schemas.GetProjectionRequest, "GetProjection")
const pollRequest = lenient(Schemas.PollProjectionEventsRequest, "PollProjectionEvents")
const saveRequest = lenient(Schemas.SaveProjectionStateRequest, "SaveProjectionState")
const ackRequest = lenient(Schemas.AckProjectionEventsRequest, "AckProjectionEvents")

const readRegistration = (body: unknown): ProjectionRegistration => {
  const { events, mode, name, partitionKey } = registerRequest(body)
  if (mode !== "managed" && mode !== "external") {
    throw new ValidationError(
      `RegisterProjection: \`mode\` must be "managed" or "external", got ${show(mode)}`
    )
  }
  return { name, events, mode, ...(partitionKey ? { partitionKey } : {}) }
}

const readSave = (body: unknown) => {
  const { lastEventSeq, name, state } = saveRequest(body)
  const what = `State of projection "${name}"`
  return {
    name,
    position: lastEventSeq,
    state: checkSize(what, encodeJson(state ?? {}, what) ?? "{}", projectionStateBytes)
  }
}

const answer = (name: string, saved: ProjectionSaved): Effect.Effect<Reply, IronflowError> =>
  saved._tag === "Saved"
    ? Effect.succeed(json({ ok: true }))
    : Effect.fail(new ProjectionSaveRefusedError(name, saved.reason))

/** Data goes out as it came in, without being parsed. */
const encodeEvent = (event: ProjectionLogEvent): string =>
  object({
    id: JSON.stringify(event.id),
    name: JSON.stringify(event.name),
    data: event.data,
    seq: String(event.position),
    timestamp: JSON.stringify(new Date(event.timestamp).toISOString()),
    source: event.source === undefined ? undefined : JSON.stringify(event.source),
    metadata: event.metadata,
    entity: event.entity === undefined ? undefined : JSON.stringify(event.entity),
    kind: '"PROJECTION_EVENT_KIND_EVENT"'
  })

const rawJson = (members: { readonly [name: string]: string | undefined }): Reply => ({
  status: 200,
  text: object(members)
})
