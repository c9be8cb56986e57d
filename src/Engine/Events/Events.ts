/**
 * The methods about events of the client in the engine's process: emit, list, get and explain. Each method checks its input, and
 * then uses the store.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ClientApi, EffectKind, EmitOptions, EmitResult } from "../../Client/Client.ts"
import { makeEmitMethods, type NamedEmit } from "../../Client/TypedEmit.ts"
import { makeEmitSync } from "../../Client/EmitSync.ts"
import { validated } from "../../CheckAsEffect.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { sizeOf } from "../../EntityStream.ts"
import { type EngineError, EventNotFoundError, LimitExceededError } from "../../Errors.ts"
import { checkEventName, checkEventVersion } from "../../Event.ts"
import { encodeJson } from "../../Json.ts"
import { byInterest, type EventExplanation, type EventVerdict } from "../../Protocol/Events.ts"
import { inSpan } from "../../OpenTelemetry.ts"
import * as Limits from "../../Limits.ts"
import { encodeMetadata } from "../../Metadata.ts"
import { Runs, type RunsService } from "../Runs/Runs.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import * as Append from "./Append.ts"
import { yieldFirst } from "../Yielding.ts"
import * as EventList from "./EventList.ts"
import { explainEventFrom } from "./ExplainEvent.ts"
import { Log, type LogService } from "../Log/Log.ts"
import type { AppendedEvent, NewEvent } from "../Log/LogRecords.ts"

/** The client's methods about events. */
type EventsOfEnvironment = Pick<
  Raw<ClientApi<EffectKind>, EngineError>,
  "emit" | "trigger" | "emitMany" | "emitSync" | "listEvents" | "getEvent" | "explainEvent"
>

export interface EventsService {
  /** The events of one environment. */
  readonly in: (environment: string) => EventsOfEnvironment
}

export class Events extends Context.Service<Events, EventsService>()("@ironflow/node/Engine/Events") {}

export const layer: Layer.Layer<Events, never, Store | Runs | Log> = Layer.effect(
  Events,
  Effect.gen(function* () {
    const store = yield* Store
    const runs = yield* Runs
    const log = yield* Log
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const stop = store.onCommit(({ warnings }) => {
      for (const warning of warnings) runFork(Effect.logWarning(warning))
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    return { in: (environment) => make({ store, runs, log }, environment) }
  })
)

/** The options of an emit: those that a client has, and the webhook. */
export interface ReceivedEmitOptions extends EmitOptions {
  /** The id of the webhook that received the event. */
  readonly webhook?: string
}

interface ReceivedEmit extends ReceivedEmitOptions {
  readonly name: string
  readonly data: unknown
}

const make = (
  {
    log,
    runs,
    store
  }: { readonly store: StoreService; readonly runs: RunsService; readonly log: LogService },
  environment: string
): EventsOfEnvironment => {
  const newEvent = ({ data, idempotencyKey: key, name, webhook, ...given }: ReceivedEmit): NewEvent => {
    checkEventName(name)
    const what = `event "${name}"`
    const version = checkEventVersion(name, given.version ?? 1)
    const metadata = encodeMetadata(`The metadata of ${what}`, given.metadata ?? undefined)
    return {
      environment,
      name,
      version,
      data: Limits.checkSize(
        `Data of ${what}`,
        encodeJson(data, `data of ${what}`) ?? "{}",
        Limits.eventBytes
      ),
      ...(metadata === undefined ? {} : { metadata }),
      ...idempotencyKey(key),
      ...(webhook === undefined ? {} : { webhook: Limits.checkName("webhook id", webhook) })
    }
  }

  const emit = (name: string, data: unknown, options: ReceivedEmitOptions = {}) =>
    Effect.flatMap(
      validated(() => newEvent({ ...options, name, data })),
      (event) =>
        Effect.flatMap(
          inSpan(`emit ${event.name}`, (trace) => store.write(Append.appendEvent({ ...event, ...trace }))),
          (stored) => loggedResult(event, stored)
        )
    )

  const emitMany = (given: ReadonlyArray<NamedEmit>) =>
    Effect.flatMap(
      validated(() => {
        const events = given.map(newEvent)
        const bytes = events.reduce((total, event) => total + sizeOf(event), 0)
        if (events.length > 1 && bytes > Limits.writeBytes) {
          throw new LimitExceededError("A batch of events", bytes, Limits.writeBytes, "bytes")
        }
        return events
      }),
      (events) =>
        Effect.flatMap(
          inSpan(`emit ${events.length} events`, (trace) =>
            store.write(Append.appendEvents(events.map((event) => ({ ...event, ...trace }))))
          ),
          (all) => Effect.forEach(all, (stored, i) => loggedResult(events[i]!, stored))
        )
    )

  const emits = makeEmitMethods({ emit, emitMany })

  return {
    ...emits,
    emitSync: makeEmitSync({ emit: emits.emit, waitForRun: runs.in(environment).waitForRun }),
    listEvents: (options = {}) =>
      Effect.flatMap(
        validated(() => ({ options, query: EventList.queryOf(environment, options) })),
        ({ options, query }) => Effect.map(log.list(query), (found) => EventList.pageOf(options, found))
      ),
    getEvent: (eventId) =>
      Effect.flatMap(
        validated(() => Limits.checkName("event id", eventId)),
        (id) =>
          Effect.flatMap(log.get(environment, id), (event) =>
            event === undefined
              ? Effect.fail(new EventNotFoundError(id))
              : Effect.succeed(EventList.toLoggedEvent(event))
          )
      ),
    explainEvent: (eventId) =>
      Effect.flatMap(
        validated(() => Limits.checkName("event id", eventId)),
        (id) => explain(store, environment, id)
      )
  }
}

/** Explains which functions an event has started, and why it has not started the others. Reads the functions slice by slice. */
const explain = (
  store: StoreService,
  environment: string,
  eventId: string
): Effect.Effect<EventExplanation, EngineError> =>
  Effect.gen(function* () {
    const functions: Array<EventVerdict> = []
    let from = 0
    while (true) {
      const slice = yield* yieldFirst(store.read(explainEventFrom(environment, eventId, from)))
      if (slice === undefined) return yield* new EventNotFoundError(eventId)
      functions.push(...slice.functions)
      if (slice.next === undefined) {
        const { name, timestamp } = slice
        return {
          eventId,
          name,
          timestamp: new Date(timestamp).toISOString(),
          functions: functions.sort(byInterest)
        }
      }
      from = slice.next
    }
  })

/** Logs warnings about an emit, and returns the result of the emit. */
const loggedResult = (
  { idempotencyKey, name }: NewEvent,
  stored: AppendedEvent
): Effect.Effect<EmitResult> => {
  const { conflicting, eventId, position, runIds, warnings } = stored
  const result = { runIds, eventId, position }
  if (!conflicting && warnings.length === 0) return Effect.succeed(result)
  return Effect.as(
    Effect.forEach(
      conflicting
        ? [
            `Idempotency key "${idempotencyKey}" was used before with other data or another version: nothing was stored, and the event of the first use, ${eventId}, is returned`
          ]
        : warnings.map((warning) => `Event "${name}" ${eventId}: ${warning}`),
      (message) => Effect.logWarning(message)
    ),
    result
  )
}

const idempotencyKey = (key: string | undefined): { readonly idempotencyKey?: string } =>
  key === undefined ? {} : { idempotencyKey: Limits.checkIdempotencyKey(key) }
