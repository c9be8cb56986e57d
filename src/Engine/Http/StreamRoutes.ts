/** Entity streams over HTTP: the calls of `EntityStreamService`, and their REST siblings. */
import * as Effect from "effect/Effect"
import type {
  AppendAllResult,
  AppendResult,
  ReadStreamOptions,
  StreamEvent,
  StreamInfo,
  UntypedStreams
} from "../../Client/Streams.ts"
import type { Raw } from "../../Client/Named.ts"
import {
  type IronflowError,
  SnapshotNotFoundError,
  StreamNotFoundError,
  ValidationError
} from "../../Errors.ts"
import type { EndpointName } from "../../Protocol/Http/Endpoints.ts"
import { lenient } from "../../Protocol/Http/Lenient.ts"
import { encodeStatus } from "../../Protocol/Http/RunJson.ts"
import * as Schemas from "../../Protocol/Http/Schemas.ts"
import { mayHaveEvent } from "../Access/WorkerAccess.ts"
import type { EngineService } from "../Engine.ts"
import type { EntityHistory } from "../Streams.ts"
import { UNPAGED_LENGTH } from "../Pages.ts"
import { type Call, checked, json, type Reply, type Route, route, variable } from "./Route.ts"

export const streamRoutes = (engine: EngineService): ReadonlyArray<Route> => {
  const reading = <A>(
    name: EndpointName,
    read: (body: unknown) => A,
    answer: (streams: Raw<UntypedStreams>, request: A, call: Call) => Effect.Effect<Reply, IronflowError>
  ): Route =>
    route(name, (call) =>
      Effect.flatMap(
        checked(() => read(call.body)),
        (request) => answer(engine.streams(call.environment, { most: UNPAGED_LENGTH }), request, call)
      )
    )

  return [
    reading("appendEvent", lenient(Schemas.AppendEventRequest, "AppendEvent"), (streams, request, call) => {
      const { data, entityId, entityType, eventName: name, metadata } = request
      return Effect.map(
        appending(
          call,
          [name],
          streams.append(
            entityId,
            { name, data, entityType },
            {
              ...conditions(request),
              ...eventVersion(request.version),
              ...(metadata === undefined ? {} : { metadata })
            }
          )
        ),
        (appended) => json(encodeAppended(appended))
      )
    }),
    reading(
      "appendEvents",
      lenient(Schemas.AppendEventsRequest, "AppendEvents"),
      (streams, request, call) => {
        const events = request.events.map(({ data, eventName: name, metadata, version }) => ({
          name,
          data,
          ...eventVersion(version),
          ...(metadata === undefined ? {} : { metadata })
        }))
        return Effect.map(
          appending(
            call,
            events.map(({ name }) => name),
            streams.appendAll(
              request.entityId,
              { entityType: request.entityType, events },
              conditions(request)
            )
          ),
          (appended) => json(encodeAppendedAll(appended))
        )
      }
    ),
    reading("readStream", readStreamRequest, (streams, { entityId, options }, call) =>
      Effect.gen(function* () {
        const mayHave = yield* readableIn(streams, entityId, call)
        const { events: all, totalCount } = yield* streams.read(entityId, options)
        const events = all.filter(mayHave)
        return json({
          ...(events.length === 0 ? {} : { events: events.map(encodeEvent) }),
          ...(totalCount === 0 ? {} : { totalCount })
        })
      })
    ),
    route("getEntityHistory", (call) =>
      Effect.flatMap(
        checked(() => readEntityHistory(call.body)),
        ({ entityId, options }) =>
          Effect.gen(function* () {
            const mayHave = yield* readableIn(
              engine.streams(call.environment, { most: UNPAGED_LENGTH }),
              entityId,
              call
            )
            const page = yield* engine.entityHistory(call.environment, entityId, options)
            const entries = page.entries
              .filter(({ event }) => mayHave(event))
              .map(({ event, runs }) => ({
                event,
                runs: runs.filter(
                  ({ id }) => call.caller?.may("run:read", `run:${id}`, call.environment) ?? true
                )
              }))
            return json(encodeHistory({ ...page, entries }))
          })
      )
    ),
    reading("getStreamInfo", lenient(Schemas.StreamRequest, "GetStreamInfo"), (streams, { entityId }) =>
      Effect.map(streams.getInfo(entityId), (info) => json(encodeInfo(info)))
    ),
    reading("listStreams", lenient(Schemas.ListStreamsRequest, "ListStreams"), (streams, request, call) =>
      Effect.map(shown(call, streams.listStreams(nonZero(request))), ({ streams: found, totalCount }) =>
        json({
          ...(found.length === 0 ? {} : { streams: found.map(encodeInfo) }),
          ...(totalCount === 0 ? {} : { totalCount })
        })
      )
    ),
    route("restStreams", (call) =>
      Effect.flatMap(
        checked(() => listStreamsQuery(Object.fromEntries(call.query))),
        (query) =>
          Effect.map(
            shown(
              call,
              engine.streams(call.environment, { most: UNPAGED_LENGTH }).listStreams(nonZero(query))
            ),
            (list) => json(list)
          )
      )
    ),
    route("restStreamHistory", (call) => history(engine, call)),
    reading(
      "createSnapshot",
      lenient(Schemas.CreateSnapshotRequest, "CreateSnapshot"),
      (streams, { entityId, entityType, entityVersion = 0, state }) =>
        Effect.map(streams.createSnapshot(entityId, { entityType, entityVersion, state }), json)
    ),
    reading("getSnapshot", lenient(Schemas.GetSnapshotRequest, "GetSnapshot"), (streams, request) =>
      Effect.flatMap(
        streams.getSnapshot(request.entityId, { beforeVersion: request.beforeVersion ?? 0 }),
        (snapshot) =>
          snapshot === undefined
            ? Effect.fail(new SnapshotNotFoundError(request.entityId))
            : Effect.succeed(json({ ...snapshot, entityVersion: String(snapshot.entityVersion) }))
      )
    )
  ]
}

/** The whole history of an entity. Unlike reading, it is about a stream that exists. */
const history = (engine: EngineService, call: Call): Effect.Effect<Reply, IronflowError> => {
  const entityId = variable(call, "id")
  const streams = engine.streams(call.environment, { most: UNPAGED_LENGTH })
  return Effect.gen(function* () {
    const mayHave = yield* readableIn(streams, entityId, call)
    const { events, totalCount } = yield* streams.read(entityId)
    if (totalCount === 0) return yield* Effect.fail(new StreamNotFoundError(entityId))
    return json({
      events: events.filter(mayHave).map(({ data, entityVersion, name, timestamp }) => ({
        eventName: name,
        data,
        version: entityVersion,
        timestamp
      }))
    })
  })
}

/** An append by somebody who does not emit by it what they must not. */
const appending = <A>(
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

/** Which events of an entity the caller gets, who may read the stream: not those that no subscription would bring. */
const readableIn = (
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

/** Those streams of a list that the caller may see. */
const shown = <
  A extends { readonly streams: ReadonlyArray<{ readonly entityId: string }>; readonly totalCount: number }
>(
  call: Call,
  list: Effect.Effect<A, IronflowError>
): Effect.Effect<A, IronflowError> =>
  Effect.map(list, (page) => {
    const streams = page.streams.filter(({ entityId }) => call.shows(entityId))
    return { ...page, streams, totalCount: page.totalCount - (page.streams.length - streams.length) }
  })

const listStreamsQuery = lenient(Schemas.ListStreamsRequest, "Streams")

/** Zero and empty are how some clients say that they give none. */
const nonZero = ({ entityType, limit, offset }: typeof Schemas.ListStreamsRequest.Type) => ({
  ...(entityType === undefined || entityType === "" ? {} : { entityType }),
  ...(limit === undefined || limit === 0 ? {} : { limit }),
  ...(offset === undefined ? {} : { offset })
})

/** Zero is how some clients say that they give none. */
const eventVersion = (version: number | undefined) =>
  version === undefined || version === 0 ? {} : { version }

/** An integer that is absent is 0 in this protocol, and 0 says that there must be no stream. */
const conditions = ({
  expectedVersion = 0,
  idempotencyKey
}: {
  readonly expectedVersion?: number
  readonly idempotencyKey?: string
}) => ({
  expectedVersion,
  ...(idempotencyKey === undefined || idempotencyKey === "" ? {} : { idempotencyKey })
})

/** What reads the request of a call that reads a stream. */
const streamReader = (
  what: string
): ((body: unknown) => { readonly entityId: string; readonly options: ReadStreamOptions }) => {
  const read = lenient(Schemas.ReadStreamRequest, what)
  return (body) => {
    const { direction = "", entityId, fromVersion, limit } = read(body)
    const word = direction.toLowerCase() || "forward"
    if (word !== "forward" && word !== "backward") {
      throw new ValidationError(
        `${what}: \`direction\` must be "forward" or "backward", got "${direction.slice(0, 64)}"`
      )
    }
    return {
      entityId,
      options: {
        direction: word,
        ...(fromVersion === undefined ? {} : { fromVersion }),
        ...(limit === undefined ? {} : { limit })
      }
    }
  }
}

const readEntityHistory = streamReader("GetEntityHistory")
const readStreamRequest = streamReader("ReadStream")

/** Lists that are empty are left out, as everywhere in this protocol. */
const encodeHistory = ({ entries, info, nextVersion }: EntityHistory) => ({
  ...(entries.length === 0
    ? {}
    : {
        entries: entries.map(({ event, runs }) => ({
          event: encodeEvent(event),
          ...(runs.length === 0 ? {} : { runs: runs.map(encodeStartedRun) })
        }))
      }),
  ...(nextVersion === undefined ? {} : { nextCursor: String(nextVersion) }),
  totalEvents: info.eventCount,
  info: encodeInfo(info)
})

const encodeStartedRun = ({ status, steps, ...run }: EntityHistory["entries"][number]["runs"][number]) => ({
  ...run,
  ...encodeStatus(status),
  ...encodeTimes(run),
  ...(steps.length === 0 ? {} : { steps: steps.map((step) => ({ ...step, ...encodeTimes(step) })) })
})

const encodeTimes = (times: {
  readonly createdAt?: number
  readonly startedAt?: number
  readonly endedAt?: number
}) =>
  Object.fromEntries(
    (["createdAt", "startedAt", "endedAt"] as const).flatMap((name) =>
      times[name] === undefined ? [] : [[name, new Date(times[name]).toISOString()]]
    )
  )

const encodeAppended = ({ entityVersion, eventId, position }: AppendResult) => ({
  entityVersion: String(entityVersion),
  eventId,
  sequence: String(position)
})

const encodeAppendedAll = ({ entityVersion, events, position }: AppendAllResult) => ({
  entityVersion: String(entityVersion),
  sequence: String(position),
  events: events.map(encodeAppended)
})

const encodeEvent = (event: StreamEvent) => ({ ...event, entityVersion: String(event.entityVersion) })

const encodeInfo = <A extends Pick<StreamInfo, "version" | "eventCount">>(info: A) => ({
  ...info,
  version: String(info.version),
  eventCount: String(info.eventCount)
})
