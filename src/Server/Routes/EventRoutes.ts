/** Calls of clients about events over HTTP. */
import * as Effect from "effect/Effect"
import type { ClientApi, EffectKind, EmitResult } from "../../Client/Client.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import type { EngineService } from "../../Engine/Engine.ts"
import { type EmitBody, type EmitFields, callSpecs } from "../../Protocol/Events.ts"
import { type Call, type Route, variable } from "../Http/Route.ts"
import { explainEvent, findEvent, findEvents, listEvents } from "./EventReplies.ts"
import { answerRoute, bodyRoute, replyRoute, withBody } from "./CallRoute.ts"
import { readableRun } from "./RunRoutes.ts"
import { checked } from "../../CheckAsEffect.ts"
import { type IronflowError, TimeoutError, UnavailableError, ValidationError } from "../../Errors.ts"
import type { ReceivedEmitOptions } from "../../Engine/Events/Events.ts"
import { checkEventName } from "../../Event.ts"
import { DEFAULT_TIMEOUTS } from "../../Constants.ts"
import { showMs } from "../../Show.ts"

type Api = Raw<ClientApi<EffectKind>>

/** The routes of events. `stopSignal` succeeds when the server is about to stop. */
export const eventRoutes = (engine: EngineService, stopSignal: Effect.Effect<void>): ReadonlyArray<Route> => {
  const apiOf = (call: Call): Api => engine.client(call.environment)
  const emit = (request: EmitBody, call: Call): Effect.Effect<EmitResult, IronflowError> =>
    apiOf(call).emit(request.event, request.data, emitOptions(request))

  return [
    bodyRoute(callSpecs.trigger, "Trigger", emit),
    bodyRoute(callSpecs.emit, "Emit", emit),
    bodyRoute(callSpecs.publishEmit, "Emit", emit),
    bodyRoute(callSpecs.restEmit, "Event", (request, call) =>
      Effect.map(
        apiOf(call).emit(request.name, request.data, emitOptions(request)),
        ({ eventId, runIds }) => ({ eventId, id: eventId, runIds })
      )
    ),
    bodyRoute(callSpecs.triggerSync, "TriggerSync", (request, call) =>
      Effect.andThen(
        checked(() => call.caller?.checkNotDenied("emit:event", `event:${request.event}`, call.environment)),
        triggerSync(apiOf(call), request, call, stopSignal)
      )
    ),
    bodyRoute(callSpecs.triggerBatch, "TriggerBatch", ({ events = [] }, call) =>
      Effect.flatMap(
        checked(() => checkBatch(events)),
        () =>
          events.length === 0
            ? Effect.succeed({ results: [] })
            : Effect.map(
                // `emitMany` relates the data to the name of the event, which is not known here: hence the
                // cast
                apiOf(call).emitMany(
                  events.map((request) => ({
                    event: request.event,
                    data: request.data as never,
                    ...emitOptions(request)
                  }))
                ),
                (results) => ({ results })
              )
      )
    ),
    replyRoute(
      callSpecs.listEvents,
      withBody(callSpecs.listEvents, "ListEvents", (options, call) => findEvents(engine, options, call))
    ),
    replyRoute(
      callSpecs.getEvent,
      withBody(callSpecs.getEvent, "GetEvent", ({ id }, call) => findEvent(engine, id, call))
    ),
    answerRoute(callSpecs.explainEvent, (call) => explainEvent(engine, variable(call, "id"), call)),
    replyRoute(callSpecs.restEvents, (call) => listEvents(engine, call))
  ]
}

/** Maximum number of events in one `TriggerBatch`. */
export const BATCH_EVENTS = 1000

/** The options of an emit. Some clients send zero or the empty string for no value: these are left out. */
const emitOptions = ({
  idempotencyKey,
  metadata,
  version,
  webhook
}: EmitFields & { readonly webhook?: string }): ReceivedEmitOptions => ({
  ...(idempotencyKey ? { idempotencyKey } : {}),
  ...(webhook === undefined ? {} : { webhook }),
  ...(version ? { version } : {}),
  ...(metadata === undefined ? {} : { metadata })
})

const checkBatch = (events: ReadonlyArray<EmitBody>): void => {
  if (events.length > BATCH_EVENTS) {
    throw new ValidationError(
      `A batch takes at most ${BATCH_EVENTS} events, got ${events.length}: send several batches`
    )
  }
  for (const { event } of events) checkEventName(event)
}

/** Emits an event, and waits for the runs that it starts. Fails when a run has not ended in time; the runs go on nevertheless. */
const triggerSync = (
  api: Api,
  request: EmitBody & { readonly timeoutMs?: number },
  call: Call,
  stopSignal: Effect.Effect<void>
) =>
  Effect.gen(function* () {
    const timeoutMs = request.timeoutMs || DEFAULT_TIMEOUTS.TRIGGER_SYNC
    const { eventId, runIds } = yield* api.emit(request.event, request.data, emitOptions(request))
    const runs = yield* Effect.forEach(runIds, (runId) => api.waitForRun(runId), {
      concurrency: "unbounded"
    }).pipe(
      Effect.raceFirst(
        Effect.andThen(
          stopSignal,
          Effect.suspend(() => Effect.fail(goingAway(eventId, runIds)))
        )
      ),
      Effect.timeoutOrElse({
        duration: timeoutMs,
        orElse: () =>
          Effect.fail(
            new TimeoutError(
              `Event ${eventId} is stored, but not all of its runs (${runIds.join(", ")}) have ended within ${showMs(timeoutMs)}. ` +
                "Only the wait is over: `getRun` shows what has become of each run",
              timeoutMs,
              { details: { eventId, runIds } }
            )
          )
      })
    )
    const results = runs
      .map((run) => readableRun(call, run))
      .map((run) => ({
        runId: run.id,
        functionId: run.functionId,
        status: run.status,
        ...(run.output === undefined ? {} : { output: run.output }),
        ...("outputHasErrors" in run ? { outputHasErrors: true } : {}),
        ...(run.error === undefined ? {} : { error: run.error }),
        durationMs: Date.parse(run.endedAt ?? run.updatedAt) - Date.parse(run.createdAt)
      }))
    return { results, eventId }
  })

const goingAway = (eventId: string, runIds: ReadonlyArray<string>): IronflowError =>
  new UnavailableError(
    `Event ${eventId} is stored, but the engine is about to stop, so the wait for its runs (${runIds.join(", ")}) has ended. ` +
      "When the engine is back, `getRun` shows what has become of each run",
    { code: "CLOSING", details: { eventId, runIds } }
  )
