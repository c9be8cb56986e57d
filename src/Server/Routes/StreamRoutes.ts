/** Entity streams over HTTP: the calls of `EntityStreamService`, and the REST routes for them. */
import * as Effect from "effect/Effect"
import type { ReadStreamOptions, StreamEvent, UntypedStreams } from "../../Client/Streams.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import {
  type IronflowError,
  SnapshotNotFoundError,
  StreamNotFoundError,
  ValidationError
} from "../../Errors.ts"
import { decoder } from "../../Protocol/ServerCodec.ts"
import { encodeStatus } from "../../Protocol/Runs.ts"
import {
  type EventToAppend,
  type AppendConditions,
  type ListStreamsRequest,
  ListStreams,
  type ReadStreamRequest,
  callSpecs
} from "../../Protocol/Streams.ts"
import { mayHaveEvent } from "../../Engine/Access/WorkerAccess.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import type { EntityHistory } from "../../Engine/Streams/Streams.ts"
import { UNPAGED_LENGTH } from "../../Engine/Pages.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { checked } from "../../CheckAsEffect.ts"
import { answerRoute, bodyRoute } from "./CallRoute.ts"

export const streamRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const streamsOf = (call: Call) => engine.streams.in(call.environment, { maxLength: UNPAGED_LENGTH })

  return [
    bodyRoute(callSpecs.appendEvent, "AppendEvent", ({ entityId, entityType, ...request }, call) => {
      const { data, name, ...options } = eventOf(request)
      return ifMayEmit(
        call,
        [name],
        streamsOf(call).append(entityId, { name, data, entityType }, { ...conditionsOf(request), ...options })
      )
    }),
    bodyRoute(callSpecs.appendEvents, "AppendEvents", ({ entityId, entityType, ...request }, call) => {
      const events = request.events.map(eventOf)
      return ifMayEmit(
        call,
        events.map(({ name }) => name),
        streamsOf(call).appendAll(entityId, { entityType, events }, conditionsOf(request))
      )
    }),
    bodyRoute(callSpecs.readStream, "ReadStream", ({ entityId, ...request }, call) =>
      Effect.gen(function* () {
        const options = yield* checked(() => toReadOptions("ReadStream", { entityId, ...request }))
        const mayHave = yield* readableEvents(streamsOf(call), entityId, call)
        const { events, totalCount } = yield* streamsOf(call).read(entityId, options)
        return { events: events.filter(mayHave), totalCount }
      })
    ),
    bodyRoute(callSpecs.getEntityHistory, "GetEntityHistory", (request, call) =>
      Effect.gen(function* () {
        const { entityId } = request
        const options = yield* checked(() => toReadOptions("GetEntityHistory", request))
        const mayHave = yield* readableEvents(streamsOf(call), entityId, call)
        const { entries, info, nextVersion } = yield* engine.streams.history(
          call.environment,
          entityId,
          options
        )
        return {
          entries: entries
            .filter(({ event }) => mayHave(event))
            .map(({ event, runs }) => ({
              event,
              runs: runs
                .filter(({ id }) => call.caller?.may("run:read", `run:${id}`, call.environment) ?? true)
                .map(toStartedRun)
            })),
          ...(nextVersion === undefined ? {} : { nextCursor: String(nextVersion) }),
          totalEvents: info.eventCount,
          info
        }
      })
    ),
    bodyRoute(callSpecs.getStreamInfo, "GetStreamInfo", ({ entityId }, call) =>
      streamsOf(call).getInfo(entityId)
    ),
    bodyRoute(callSpecs.listStreams, "ListStreams", (request, call) =>
      visibleStreams(call, streamsOf(call).listStreams(withoutZeros(request)))
    ),
    answerRoute(callSpecs.restStreams, (call) =>
      Effect.flatMap(
        checked(() => readListQuery(Object.fromEntries(call.query))),
        (query) => visibleStreams(call, streamsOf(call).listStreams(withoutZeros(query)))
      )
    ),
    // unlike `ReadStream`, this call requires that the stream exists
    answerRoute(callSpecs.restStreamHistory, (call) =>
      Effect.gen(function* () {
        const entityId = variable(call, "id")
        const mayHave = yield* readableEvents(streamsOf(call), entityId, call)
        const { events, totalCount } = yield* streamsOf(call).read(entityId)
        if (totalCount === 0) return yield* Effect.fail(new StreamNotFoundError(entityId))
        return {
          events: events.filter(mayHave).map(({ data, entityVersion, name, timestamp }) => ({
            eventName: name,
            data,
            version: entityVersion,
            timestamp
          }))
        }
      })
    ),
    bodyRoute(
      callSpecs.createSnapshot,
      "CreateSnapshot",
      ({ entityId, entityType, entityVersion = 0, state }, call) =>
        streamsOf(call).createSnapshot(entityId, { entityType, entityVersion, state })
    ),
    bodyRoute(callSpecs.getSnapshot, "GetSnapshot", ({ beforeVersion = 0, entityId }, call) =>
      Effect.flatMap(streamsOf(call).getSnapshot(entityId, { beforeVersion }), (snapshot) =>
        snapshot === undefined ? Effect.fail(new SnapshotNotFoundError(entityId)) : Effect.succeed(snapshot)
      )
    )
  ]
}

/** Runs the append, if the caller may also emit the appended events. */
const ifMayEmit = <A>(
  { caller, environment }: Call,
  names: ReadonlyArray<string>,
  append: Effect.Effect<A, IronflowError>
): Effect.Effect<A, IronflowError> =>
  Effect.andThen(
    checked(() => {
      for (const name of names) caller?.checkNotDenied("emit:event", `event:${name}`, environment)
    }),
    append
  )

/** Makes a function that checks whether the caller, who may read the stream, may also read an event of the stream. */
const readableEvents = (
  streams: Raw<UntypedStreams>,
  entityId: string,
  { caller, environment }: Call
): Effect.Effect<(event: StreamEvent) => boolean, IronflowError> => {
  if (caller?.isDenied("subscription:read") !== true) return Effect.succeed(() => true)
  return Effect.map(
    Effect.catchIf(
      Effect.map(streams.getInfo(entityId), ({ entityType }) => ({ type: entityType, id: entityId })),
      (error) => error instanceof StreamNotFoundError,
      () => Effect.succeed(undefined)
    ),
    (entity) =>
      ({ name }) =>
        mayHaveEvent(caller, environment, name, entity)
  )
}

/** Leaves out the streams that the caller may not see. */
const visibleStreams = <
  A extends { readonly streams: ReadonlyArray<{ readonly entityId: string }>; readonly totalCount: number }
>(
  call: Call,
  list: Effect.Effect<A, IronflowError>
): Effect.Effect<A, IronflowError> =>
  Effect.map(list, (page) => {
    const streams = page.streams.filter(({ entityId }) => call.shows(entityId))
    return { ...page, streams, totalCount: page.totalCount - (page.streams.length - streams.length) }
  })

const readListQuery = decoder(ListStreams, "Streams")

/** Leaves out an empty `entityType` and a `limit` of 0, which some clients send for no value. */
const withoutZeros = ({ entityType, limit, offset }: ListStreamsRequest) => ({
  ...(entityType === undefined || entityType === "" ? {} : { entityType }),
  ...(limit === undefined || limit === 0 ? {} : { limit }),
  ...(offset === undefined ? {} : { offset })
})

/** The event of an append. Some clients send zero for a version that is not set. */
const eventOf = ({ data, eventName: name, metadata, version }: EventToAppend) => ({
  name,
  data,
  ...(version === undefined || version === 0 ? {} : { version }),
  ...(metadata === undefined ? {} : { metadata })
})

/**
 * The conditions of an append. In this protocol an absent integer is 0, and 0 means that the stream must not
 * exist.
 */
const conditionsOf = ({ expectedVersion = 0, idempotencyKey }: AppendConditions) => ({
  expectedVersion,
  ...(idempotencyKey === undefined || idempotencyKey === "" ? {} : { idempotencyKey })
})

/** The options for reading a stream. Throws `ValidationError`, in which `what` names the call. */
const toReadOptions = (
  what: string,
  { direction = "", fromVersion, limit }: ReadStreamRequest
): ReadStreamOptions => {
  const word = direction.toLowerCase() || "forward"
  if (word !== "forward" && word !== "backward") {
    throw new ValidationError(
      `${what}: \`direction\` must be "forward" or "backward", got "${direction.slice(0, 64)}"`
    )
  }
  return {
    direction: word,
    ...(fromVersion === undefined ? {} : { fromVersion }),
    ...(limit === undefined ? {} : { limit })
  }
}

type StartedRun = EntityHistory["entries"][number]["runs"][number]

const toStartedRun = ({ createdAt, endedAt, startedAt, status, steps, ...run }: StartedRun) => ({
  ...run,
  ...encodeStatus(status),
  createdAt: iso(createdAt),
  ...timesOf(startedAt, endedAt),
  steps: steps.map(({ endedAt, startedAt, ...step }) => ({ ...step, ...timesOf(startedAt, endedAt) }))
})

const timesOf = (startedAt: number | undefined, endedAt: number | undefined) => ({
  ...(startedAt === undefined ? {} : { startedAt: iso(startedAt) }),
  ...(endedAt === undefined ? {} : { endedAt: iso(endedAt) })
})

const iso = (time: number): string => new Date(time).toISOString()
