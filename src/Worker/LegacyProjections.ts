/**
 * Runs a worker's projections on a legacy server, by polling its `ProjectionService`. The answer to a poll has the
 * current state.
 *
 * Such a server has no owners of projections and no dead letters. It keeps one position for each saved state. After a
 * reset it delivers the events from the start again: the worker notices the reset by the positions of the events.
 */
import * as Effect from "effect/Effect"
import { calculateBackoff } from "../Backoff.ts"
import type { Connection } from "../Client/HttpConnection.ts"
import {
  failureOf,
  isFromServer,
  isCallMissing,
  isUnknownPath,
  notAnIronflowServerError
} from "../Client/HttpFailures.ts"
import { type AccessError, type ConnectionError, ValidationError } from "../Errors.ts"
import type { EventEntity } from "../Event.ts"
import { isObject, numberOf, safeJsonParse, textOf } from "../Json.ts"
import { GLOBAL_PARTITION } from "../Projection/Partition.ts"
import type { CallAddress } from "../Protocol/Http/CallAddress.ts"
import {
  PARTITION_FUNCTION,
  type ProjectionFeed,
  type ProjectionLogEvent,
  type ProjectionSaved
} from "../Protocol/ProjectionOwners.ts"
import * as operations from "../Protocol/ProjectionService.ts"
import { isAccessError } from "./AccessErrors.ts"
import { toConnectionError, isSuccess } from "./ServerLink.ts"

/** The wait after an empty poll, in milliseconds. It grows with each empty poll. */
const IDLE_MS = 1000
/** The longest wait after an empty poll, in milliseconds. */
const LONGEST_IDLE_MS = 10_000

type RunnerError = ConnectionError | ValidationError | AccessError
type Fields = { readonly [field: string]: unknown }

/** What the worker knows of a projection. */
interface PolledProjection {
  readonly isManaged: boolean
  /** The position up to which events were saved. */
  position: number
  /** The events in the answer to the last poll, by position. */
  events: ReadonlyMap<number, ProjectionLogEvent>
  /** The state in the answer to the last poll. */
  state: unknown
}

export const makeFeed = (connection: Connection): ProjectionFeed => {
  const projections = new Map<string, PolledProjection>()
  const projectionOf = (name: string): PolledProjection => {
    const projection = projections.get(name)
    if (projection === undefined) throw new Error(`projection ${name} was not registered`)
    return projection
  }

  const ask = (
    address: CallAddress,
    body: Fields & { readonly name: string }
  ): Effect.Effect<Fields | "conflict", RunnerError> => {
    const what = `A request for projection "${body.name}"`
    return connection.send({ method: "POST", path: address.path, body: JSON.stringify(body), what }).pipe(
      Effect.mapError(toConnectionError),
      Effect.flatMap((answer): Effect.Effect<Fields | "conflict", RunnerError> => {
        if (isSuccess(answer)) {
          const read = safeJsonParse(answer.text)
          return Effect.succeed(isObject(read) ? read : {})
        }
        // once the projection was registered, the server certainly has projections: then an unknown path has another
        // reason
        const serverLacksProjections = !projections.has(body.name) && isUnknownPath(answer)
        if (!serverLacksProjections && !isFromServer(answer))
          return Effect.fail(notAnIronflowServerError(answer, what))
        if (answer.status === 409) return Effect.succeed("conflict")
        const error = failureOf(answer, what)
        if (isAccessError(error)) return Effect.fail(error)
        const isInvalid =
          address === operations.registerProjection && answer.status < 500 && answer.status >= 400
        return isInvalid || isCallMissing(answer)
          ? Effect.fail(new ValidationError(error.message, { cause: error }))
          : Effect.fail(toConnectionError(error))
      })
    )
  }
  /** Does what `ask` does, for requests that are always valid: any error but a refused API key is transient. */
  const askValid = (address: CallAddress, body: Fields & { readonly name: string }) =>
    Effect.mapError(ask(address, body), (error) => (isAccessError(error) ? error : toConnectionError(error)))

  return {
    claim: ({ events, mode, name, partitionKey }) =>
      Effect.map(
        ask(operations.registerProjection, {
          name,
          events,
          mode,
          version: 1,
          partitionKey: partitionKey === undefined || partitionKey === PARTITION_FUNCTION ? "" : partitionKey
        }),
        () => {
          projections.set(name, {
            isManaged: mode === "managed",
            position: 0,
            events: new Map(),
            state: undefined
          })
          return {
            _tag: "Granted",
            lease: { name, token: "", generation: 0, position: 0, leaseMs: Number.POSITIVE_INFINITY }
          } as const
        }
      ),
    read: ({ name }, batchSize) => {
      const poll = (emptyPolls: number): ReturnType<ProjectionFeed["read"]> =>
        Effect.flatMap(
          askValid(operations.pollProjectionEvents, { name, batchSize }),
          (answer): ReturnType<ProjectionFeed["read"]> => {
            const projection = projectionOf(name)
            const events = answer === "conflict" ? [] : readEvents(answer.events)
            const first = events[0]
            const last = events.at(-1)
            if (answer === "conflict" || first === undefined || last === undefined) {
              return Effect.andThen(
                Effect.sleep(calculateBackoff(emptyPolls, IDLE_MS, LONGEST_IDLE_MS)),
                Effect.suspend(() => poll(emptyPolls + 1))
              )
            }
            // these events were delivered before, so the projection was reset: it has to be claimed again
            if (first.position <= projection.position) return Effect.succeed(undefined)
            projection.events = new Map(events.map((event) => [event.position, event]))
            projection.state = answer.currentState ?? answer.current_state
            return Effect.succeed({ events, retries: [], position: last.position })
          }
        )
      return poll(1)
    },
    states: ({ name }, partitions) =>
      Effect.forEach(partitions, (partition) => {
        const { state } = projectionOf(name)
        if (partition === GLOBAL_PARTITION && state !== undefined && state !== null) {
          return Effect.succeed({ partition, state: JSON.stringify(state), position: 0 })
        }
        return Effect.map(
          askValid(operations.getProjection, {
            name,
            ...(partition === GLOBAL_PARTITION ? {} : { partition })
          }),
          (answer) =>
            answer !== "conflict" && isObject(answer.state) && Object.keys(answer.state).length > 0
              ? { partition, state: JSON.stringify(answer.state), position: 0 }
              : { partition, position: 0 }
        )
      }),
    save: ({ name }, save) =>
      Effect.gen(function* () {
        const projection = projectionOf(name)
        const refused: ProjectionSaved = { _tag: "Refused", reason: "the server has another position" }
        for (const { eventId, eventTime, partition, position, state } of save.states) {
          const answer = yield* ask(operations.saveProjectionState, {
            name,
            partitionKey: partition,
            state: JSON.parse(state),
            lastEventId: eventId,
            lastEventSeq: position,
            lastEventTime: new Date(eventTime).toISOString()
          })
          if (answer === "conflict") return refused
        }
        const last = projection.events.get(save.to)
        if (!projection.isManaged && last !== undefined && save.to > save.from) {
          const answer = yield* ask(operations.ackProjectionEvents, {
            name,
            lastEventId: last.id,
            lastEventSeq: save.to
          })
          if (answer === "conflict") return refused
        }
        projection.position = save.to
        return { _tag: "Saved" } as const
      }),
    renew: () => Effect.succeed(true),
    release: () => Effect.void
  }
}

const readEvents = (events: unknown): ReadonlyArray<ProjectionLogEvent> =>
  (Array.isArray(events) ? events : []).filter(isObject).flatMap((event) => {
    const position = numberOf(event.seq, Number.NaN)
    const isHeartbeat = event.kind === "PROJECTION_EVENT_KIND_HEARTBEAT" || event.kind === 2
    if (isHeartbeat || !Number.isSafeInteger(position) || typeof event.name !== "string") return []
    const time = Date.parse(textOf(event.timestamp))
    return {
      position,
      id: textOf(event.id),
      name: event.name,
      version: Number(event.version ?? 1) || 1,
      data: JSON.stringify(event.data ?? {}),
      ...(isObject(event.metadata) ? { metadata: JSON.stringify(event.metadata) } : {}),
      ...(typeof event.source === "string" ? { source: event.source } : {}),
      timestamp: Number.isNaN(time) ? 0 : time,
      ...readEntity(event.entity)
    }
  })

const readEntity = (entity: unknown): { readonly entity?: EventEntity } => {
  if (!isObject(entity) || typeof entity.id !== "string") return {}
  return { entity: { id: entity.id, type: textOf(entity.type), version: numberOf(entity.version) || 0 } }
}
