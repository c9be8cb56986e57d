/** The client's methods against the engine in the same process: checked input, then one operation of the store. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type {
  AuditEvent,
  ClientApi,
  EffectKind,
  EmitOptions,
  EmitResult,
  PublishOptions,
  Run,
  RunStep,
  TopicInfo
} from "../Client/Client.ts"
import { makeEmitSync } from "../Client/EmitSync.ts"
import { emitsOf, type NamedEmit } from "../Client/Emitting.ts"
import { sizeOf } from "../EntityStream.ts"
import {
  type EngineError,
  InvalidStateError,
  LimitExceededError,
  type StoreError,
  TimeoutError,
  ValidationError
} from "../Errors.ts"
import type { Raw } from "../Client/Named.ts"
import { checkEventName, checkEventVersion } from "../Event.ts"
import type { After } from "../Execution/Alarm.ts"
import { encodeJson } from "../Json.ts"
import * as Limits from "../Limits.ts"
import { encodeMetadata } from "../Metadata.ts"
import { isRunStatus, isTerminal, runStatuses } from "../RunStatus.ts"
import { show } from "../Show.ts"
import { capabilities } from "./Capabilities.ts"
import type { Dispatch } from "./Dispatch.ts"
import { explain } from "./Explain.ts"
import { allPages, inSlices, LIST_PAGE, type Page, type PageQuery, pageByName } from "./Pages.ts"
import { polite } from "./Polite.ts"
import type { RunEndings } from "./RunEndings.ts"
import type { AppendedEvent, NewEvent, StoreService } from "./Store/Store.ts"
import type { Subscriptions } from "./Subscriptions/Subscriptions.ts"

export interface EngineClient {
  readonly api: Raw<ClientApi<EffectKind>, EngineError>
  /** The run once it has ended; `undefined` when it had not when `giveUp` called its listener. */
  readonly awaitEnd: (runId: string, giveUp: GiveUp) => Effect.Effect<Run | undefined, EngineError>
  /** A part of what `getRunSteps` returns. */
  readonly stepsPage: (runId: string, page: PageQuery) => Effect.Effect<Page<RunStep>, EngineError>
  /** A part of what `getRunAudit` returns. */
  readonly auditPage: (runId: string, page: PageQuery) => Effect.Effect<Page<AuditEvent>, EngineError>
  /** A part of what `listTopics` returns. */
  readonly topicsPage: (page: PageQuery) => Effect.Effect<Page<TopicInfo>, StoreError>
}

/** Topics that are looked at in one turn of the event loop: each is compared with all subscriptions. */
const TOPICS = 100

/** Calls its listener when nobody should wait any longer. Returns what forgets that. */
export type GiveUp = (listener: () => void) => () => void

const never: GiveUp = () => () => undefined

/** What an emit that came over HTTP may say besides. */
export interface ReceivedEmitOptions extends EmitOptions {
  /** The id of the webhook that the event came by. */
  readonly webhook?: string
}

interface ReceivedEmit extends ReceivedEmitOptions {
  readonly name: string
  readonly data: unknown
}

export const make = (
  engine: {
    readonly store: StoreService
    readonly dispatch: Dispatch
    readonly endings: RunEndings
    readonly after: After
    readonly subscriptions: Subscriptions
  },
  environment: string
): EngineClient => {
  const { after, store, dispatch, endings, subscriptions } = engine

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
      checked(() => newEvent({ ...options, name, data })),
      (event) => {
        dispatch.pokeSoon()
        return Effect.flatMap(store.appendEvent(event), (stored) => told(event, stored))
      }
    )

  const emitMany = (given: ReadonlyArray<NamedEmit>) =>
    Effect.flatMap(
      checked(() => {
        const events = given.map(newEvent)
        const bytes = events.reduce((total, event) => total + sizeOf(event), 0)
        if (events.length > 1 && bytes > Limits.writeBytes) {
          throw new LimitExceededError("A batch of events", bytes, Limits.writeBytes, "bytes")
        }
        return events
      }),
      (events) => {
        dispatch.pokeSoon()
        return Effect.flatMap(store.appendEvents(events), (all) =>
          Effect.forEach(all, (stored, i) => told(events[i]!, stored))
        )
      }
    )

  /** The result of an emit, after a word on what its caller should know. */
  const told = ({ idempotencyKey, name }: NewEvent, stored: AppendedEvent): Effect.Effect<EmitResult> => {
    const { conflicting, eventId, position, runIds, warnings } = stored
    const result = { runIds, eventId, position }
    if (!conflicting && warnings.length === 0) return Effect.succeed(result)
    return Effect.as(
      Effect.forEach(
        conflicting
          ? [
              `Idempotency key "${idempotencyKey}" was used before with other data or another version: event ${eventId} stands`
            ]
          : warnings.map((warning) => `Event "${name}" ${eventId}: ${warning}`),
        (message) => Effect.logWarning(message)
      ),
      result
    )
  }

  const emits = emitsOf({ emit, emitMany })

  const publish = (topic: string, data: unknown, options: PublishOptions = {}) =>
    Effect.flatMap(
      checked(() => ({
        environment,
        topic: Limits.checkName("topic", topic),
        data: Limits.checkSize(
          `Message for topic "${topic}"`,
          encodeJson(data, `message for topic "${topic}"`) ?? "{}",
          Limits.messageBytes
        ),
        ...idempotencyKey(options.idempotencyKey)
      })),
      (message) =>
        Effect.flatMap(store.appendMessage(message), ({ eventId, sequence, conflicting }) =>
          Effect.as(
            conflicting
              ? Effect.logWarning(
                  `Idempotency key "${options.idempotencyKey}" was used before with other data: message ${eventId} stands`
                )
              : Effect.void,
            { eventId, sequence }
          )
        )
    )

  /** An operation that may make runs ready. */
  const waking = <A, E>(self: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      dispatch.pokeSoon()
      return self
    })

  /** An operation on the run, from a step on if one is given. */
  const onRun = <A, E>(
    runId: string,
    operation: Effect.Effect<A, E>,
    fromStep?: string
  ): Effect.Effect<A, E | ValidationError> =>
    Effect.andThen(
      checked(() => {
        Limits.checkName("run id", runId)
        if (fromStep !== undefined && typeof fromStep !== "string") {
          throw new ValidationError(
            `The step to start from must be a name or a step id, got ${show(fromStep)}`
          )
        }
      }),
      operation
    )

  const awaitEnd = (runId: string, giveUp: GiveUp): Effect.Effect<Run | undefined, EngineError> =>
    Effect.suspend(() => {
      let isLate = false
      let wake = (): void => undefined
      const stay = giveUp(() => {
        isLate = true
        wake()
      })
      const look: Effect.Effect<Run | undefined, EngineError> = Effect.suspend(() => {
        const woken = Deferred.makeUnsafe<void>()
        wake = () => void Deferred.doneUnsafe(woken, Exit.void)
        // listen first, then look: the run may end in between
        const forget = endings.listen(runId, wake)
        return Effect.ensuring(
          Effect.flatMap(store.getEndedRun(environment, runId), (run) => {
            if (run !== undefined) return Effect.succeed(run)
            if (isLate) return Effect.undefined
            return Effect.flatMap(Deferred.await(woken), () =>
              isLate
                ? Effect.undefined
                : Effect.flatMap(store.getRun(environment, runId), (run) =>
                    // it may have been brought back at that very moment
                    isTerminal(run.status) ? Effect.succeed(run) : look
                  )
            )
          }),
          Effect.sync(forget)
        )
      })
      return Effect.ensuring(look, Effect.sync(stay))
    })

  const waitForRun = (runId: string, timeoutMs: number | undefined): Effect.Effect<Run, EngineError> =>
    Effect.flatMap(
      awaitEnd(runId, timeoutMs === undefined ? never : (listener) => after(timeoutMs, listener)),
      (run) => (run === undefined ? stillRunning(runId, timeoutMs ?? 0) : Effect.succeed(run))
    )

  const stillRunning = (runId: string, timeoutMs: number): Effect.Effect<never, EngineError> =>
    Effect.flatMap(store.getSituation(environment, runId), (situation) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        Effect.fail(
          new TimeoutError(
            `Run ${runId} had not ended after ${timeoutMs} ms, and goes on. ${explain(situation, dispatch.workers(environment), now).message}`,
            timeoutMs
          )
        )
      )
    )

  const waitFor: Raw<ClientApi<EffectKind>, EngineError>["waitForRun"] = (runId, options = {}) => {
    const { timeout } = options
    if (timeout !== undefined && !(timeout >= 0 && Number.isFinite(timeout))) {
      return Effect.fail(
        new ValidationError(`The timeout of waitForRun must be a number of milliseconds, got ${timeout}`)
      )
    }
    return onRun(runId, waitForRun(runId, timeout))
  }

  const stepsPage: EngineClient["stepsPage"] = (runId, { after, limit }) => {
    if (!/^\d{0,9}$/.test(after)) {
      return Effect.fail(new ValidationError("The cursor is not one that this engine has given"))
    }
    return Effect.map(
      onRun(runId, polite(store.readRunSteps(environment, runId, { from: Number(after), limit }))),
      ({ next, steps }) => ({ items: steps, ...(next === undefined ? {} : { nextCursor: String(next) }) })
    )
  }

  const auditPage: EngineClient["auditPage"] = (runId, { after, limit }) => {
    if (!/^\d{0,15}$/.test(after)) {
      return Effect.fail(new ValidationError("The cursor is not one that this engine has given"))
    }
    return Effect.map(
      onRun(runId, store.readRecording(environment, runId, { after: Number(after), limit })),
      ({ events, next }) => ({ items: events, ...(next === undefined ? {} : { nextCursor: String(next) }) })
    )
  }

  const topicsPage: EngineClient["topicsPage"] = inSlices(TOPICS, (page) =>
    Effect.map(store.listTopics(environment, page), (topics) =>
      pageByName(
        topics.map(({ firstMessageAt, lastMessageAt, messageCount, name }) => ({
          name,
          messageCount,
          consumerCount: subscriptions.consumersOf(environment, name),
          ...(firstMessageAt === undefined ? {} : { firstMessageAt: new Date(firstMessageAt).toISOString() }),
          ...(lastMessageAt === undefined ? {} : { lastMessageAt: new Date(lastMessageAt).toISOString() })
        })),
        page
      )
    )
  )

  const api: Raw<ClientApi<EffectKind>, EngineError> = {
    ...emits,
    emitSync: makeEmitSync({ emit: emits.emit, waitForRun: waitFor }),
    publish,
    listTopics: () => allPages((after) => topicsPage({ after, limit: LIST_PAGE })),
    getTopicStats: (topic) =>
      Effect.flatMap(
        checked(() => Limits.checkName("topic", topic)),
        (name) =>
          Effect.map(polite(store.getTopic(environment, name)), (state) => ({
            name,
            consumerCount: subscriptions.consumersOf(environment, name),
            ...state
          }))
      ),
    getRun: (runId) => onRun(runId, polite(store.getRun(environment, runId))),
    listRuns: (options = {}) =>
      Effect.flatMap(
        checked(() => {
          const limit = Limits.checkRunsLimit(options.limit ?? 50)
          if (options.status !== undefined && !isRunStatus(options.status)) {
            throw new ValidationError(
              `${show(options.status)} is not a run status: use one of ${runStatuses.join(", ")}`
            )
          }
          return {
            environment,
            limit,
            ...(options.functionId === undefined ? {} : { functionId: options.functionId }),
            ...(options.status === undefined ? {} : { status: options.status }),
            ...(options.cursor === undefined ? {} : { cursor: options.cursor })
          }
        }),
        (query) => polite(store.listRuns(query))
      ),
    getRunSteps: (runId) => onRun(runId, polite(store.getRunSteps(environment, runId))),
    getRunAudit: (runId) => polite(allPages((after) => auditPage(runId, { after, limit: LIST_PAGE }))),
    explain: (runId) =>
      Effect.flatMap(onRun(runId, polite(store.getSituation(environment, runId))), (situation) =>
        Effect.map(Clock.currentTimeMillis, (now) => explain(situation, dispatch.workers(environment), now))
      ),
    waitForRun: waitFor,
    cancelRun: (runId, reason = "") =>
      onRun(
        runId,
        waking(store.cancelRun(environment, runId, reason === "" ? "Cancelled by a client" : reason))
      ),
    retryRun: (runId, fromStep) =>
      onRun(runId, waking(store.retryRun(environment, runId, fromStep)), fromStep),
    resumeRun: (runId, fromStep) =>
      onRun(runId, waking(store.resumeRun(environment, runId, fromStep)), fromStep),
    pauseRun: (runId, reason = "") => onRun(runId, store.pauseRun(environment, runId, reason)),
    patchStep: (stepId, output, reason = "") =>
      Effect.flatMap(
        checked(() => {
          if (typeof stepId !== "string") {
            throw new ValidationError(`The step id must be a string, got ${show(stepId)}`)
          }
          return Limits.checkSize(
            `Output for step "${stepId}"`,
            encodeJson(output, `output for step "${stepId}"`) ?? "null",
            Limits.stepResultBytes
          )
        }),
        (text) => waking(store.patchStep(environment, stepId, text, reason))
      ),
    listFunctions: () => polite(store.listFunctions(environment)),
    deleteFunction: (functionId) =>
      Effect.flatMap(
        checked(() => Limits.checkName("function id", functionId)),
        (id): Effect.Effect<void, EngineError> => {
          const holder = dispatch.workers(environment).find(({ functionIds }) => functionIds.has(id))
          return holder === undefined
            ? store.deleteFunction(environment, id)
            : Effect.fail(
                new InvalidStateError(
                  `Function "${id}" cannot be deleted: worker ${holder.id} has it, and would register it again. Stop that worker, or unregister that endpoint, first`
                )
              )
        }
      ),
    listWorkers: () => polite(Effect.sync(() => dispatch.list(environment))),
    getCapabilities: () => polite(Effect.succeed(capabilities)),
    health: () => Effect.map(polite(Effect.void), () => store.health().status)
  }
  return {
    api,
    stepsPage,
    auditPage,
    topicsPage,
    awaitEnd: (runId, giveUp) => onRun(runId, awaitEnd(runId, giveUp))
  }
}

/** Input that is not acceptable throws one of our errors: it becomes the failure of the call. */
const checked = <A>(check: () => A): Effect.Effect<A, ValidationError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      return error instanceof ValidationError ? Effect.fail(error) : Effect.die(error)
    }
  })

const idempotencyKey = (key: string | undefined): { readonly idempotencyKey?: string } =>
  key === undefined ? {} : { idempotencyKey: Limits.checkIdempotencyKey(key) }
