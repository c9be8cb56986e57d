/**
 * The calls of legacy projection runners: `ProjectionService` of ConnectRPC, in JSON.
 *
 * There is no call `StreamProjectionEvents`: the answer 404 makes a runner poll. The answer to a poll has the current
 * state, which the messages of that stream could not carry for a projection with partitions.
 */
import * as Effect from "effect/Effect"
import { jsonObject } from "../../Client/HttpCalls.ts"
import { type IronflowError, ProjectionSaveRefusedError, ValidationError } from "../../Errors.ts"
import { encodeJson } from "../../Json.ts"
import { checkSize, projectionStateBytes } from "../../Limits.ts"
import type {
  ProjectionLogEvent,
  ProjectionRegistration,
  ProjectionSaved
} from "../../Protocol/ProjectionOwners.ts"
import { callSpecs } from "../../Protocol/ProjectionService.ts"
import { show } from "../../Show.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { reachOf } from "../../Engine/Access/SubscriptionReach.ts"
import { checkEvents, mayHaveEvent } from "../../Engine/Access/WorkerAccess.ts"
import type { Call, Reply, Route } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { bodyRoute, replyRoute, withBody } from "./CallRoute.ts"

export const projectionRunnerRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const { projections } = engine
  return [
    bodyRoute(callSpecs.registerProjection, "RegisterProjection", (request, call) =>
      Effect.gen(function* () {
        const registration = yield* checked(() => {
          const registration = registrationOf(request)
          checkMaySubscribe(call, registration.events)
          return registration
        })
        const { position, status } = yield* projections.register(call.environment, registration)
        return { status, ...(position === 0 ? {} : { lastEventSeq: position }) }
      })
    ),
    bodyRoute(callSpecs.getProjection, "GetProjection", ({ name, partition }, call) =>
      Effect.map(
        projections.client(call.environment).get(name, partition ? { partition } : {}),
        ({ lastEventId, lastEventTime, mode, partition, state, version }) => ({
          name,
          partition,
          // a state may be of any type
          ...(lastEventId === undefined
            ? {}
            : { state: state as unknown, lastEventId, lastEventTime, version }),
          mode
        })
      )
    ),
    replyRoute(
      callSpecs.pollProjectionEvents,
      withBody(callSpecs.pollProjectionEvents, "PollProjectionEvents", ({ batchSize, name }, call) =>
        Effect.gen(function* () {
          const { events, position, state } = yield* projections.handOut(
            call.environment,
            name,
            batchSize || DEFAULT_BATCH
          )
          yield* checked(() => checkMayReceive(call, events))
          return rawJson({
            events: events.length === 0 ? undefined : `[${events.map(encodeEvent).join(",")}]`,
            currentState: events.length === 0 ? undefined : state,
            lastEventSeq: position === 0 ? undefined : `"${position}"`
          })
        })
      )
    ),
    bodyRoute(callSpecs.saveProjectionState, "SaveProjectionState", ({ lastEventSeq, name, state }, call) =>
      Effect.gen(function* () {
        const what = `State of projection "${name}"`
        const text = yield* checked(() =>
          checkSize(what, encodeJson(state ?? {}, what) ?? "{}", projectionStateBytes)
        )
        return yield* answer(
          name,
          yield* projections.saveTokenless({
            environment: call.environment,
            name,
            position: lastEventSeq,
            state: text
          })
        )
      })
    ),
    bodyRoute(callSpecs.ackProjectionEvents, "AckProjectionEvents", ({ lastEventSeq, name }, call) =>
      Effect.flatMap(
        projections.saveTokenless({ environment: call.environment, name, position: lastEventSeq }),
        (saved) => answer(name, saved)
      )
    )
  ]
}

/**
 * Throws `UnauthorizedError` when a policy denies the caller to subscribe to the events of the projection.
 */
export const checkMaySubscribe = ({ caller, environment }: Call, events: ReadonlyArray<unknown>): void => {
  // a value that is no string is refused by the route
  for (const event of events) {
    if (caller !== undefined && typeof event === "string") checkEvents(caller, environment, event)
  }
}

/**
 * Checks that the caller may have these events: the projection may have been registered by another caller.
 * Throws `UnauthorizedError`.
 */
export const checkMayReceive = (
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

/** How many events a batch has when the runner does not ask for a number. */
const DEFAULT_BATCH = 100

const registrationOf = ({
  events,
  mode,
  name,
  partitionKey
}: {
  readonly events: ReadonlyArray<string>
  readonly mode?: string
  readonly name: string
  readonly partitionKey?: string
}): ProjectionRegistration => {
  if (mode !== "managed" && mode !== "external") {
    throw new ValidationError(
      `RegisterProjection: \`mode\` must be "managed" or "external", got ${show(mode)}`
    )
  }
  return { name, events, mode, ...(partitionKey ? { partitionKey } : {}) }
}

const answer = (name: string, saved: ProjectionSaved): Effect.Effect<{ ok: boolean }, IronflowError> =>
  saved._tag === "Saved"
    ? Effect.succeed({ ok: true })
    : Effect.fail(new ProjectionSaveRefusedError(name, saved.reason))

/** Encodes an event. Its data is sent as it is stored, and not parsed. */
const encodeEvent = (event: ProjectionLogEvent): string =>
  jsonObject({
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
  text: jsonObject(members)
})
