/**
 * Projections in the engine: what their workers and their clients ask, waiting included. Nothing polls: who waits is woken by
 * the commit that it waits for.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { EffectKind, RunError } from "../Client/Client.ts"
import type { ChangesPage, ChangesQuery } from "../Client/ProjectionUpdates.ts"
import {
  CATCHUP_TIMEOUT_MS,
  type DeadLetter,
  type ProjectionsApi,
  type ProjectionStateResult,
  type ProjectionStatusInfo
} from "../Client/Projections.ts"
import {
  ConnectionError,
  type EngineError,
  InvalidStateError,
  IronflowError,
  ProjectionBehindError,
  type SerializedError,
  type StoreError,
  ValidationError
} from "../Errors.ts"
import type { Raw } from "../Client/Named.ts"
import { decodeJson } from "../Json.ts"
import * as Limits from "../Limits.ts"
import { GLOBAL_PARTITION } from "../Projection/Partition.ts"
import {
  checkProjectionEvents,
  checkProjectionName,
  maxBatchSize,
  maxReadEvents
} from "../Projection/Projection.ts"
import type {
  PartitionState,
  ProjectionBatch,
  ProjectionClaim,
  ProjectionFeed,
  ProjectionLease,
  ProjectionLogEvent,
  ProjectionRegistration,
  ProjectionSave,
  ProjectionSaved
} from "../Protocol/Projections.ts"
import { show } from "../Show.ts"
import { allPages, inSlices, LIST_PAGE, type Page, type PageQuery } from "./Pages.ts"
import { polite } from "./Polite.ts"
import { Signals } from "./Signals.ts"
import {
  type HandedOut,
  type ProjectionClaimRequest,
  type ProjectionInfo,
  projectionKey,
  type ProjectionToken,
  type TokenlessSave
} from "./Store/ProjectionStore.ts"
import type { Changes, StoreService } from "./Store/Store.ts"

/** The name under which the growth of the log is announced; no projection has it. */
const LOG = ""

/** Rows of the log that are looked at between two turns of the event loop, at most. */
const PAGE_ROWS = 250

/** Projections that are looked at in one turn of the event loop, at most. */
const PAGE_PROJECTIONS = 100

/** Bytes of events in one batch, unless it is a single one. */
const BATCH_BYTES = 4 * 1024 * 1024

/** So many rows without an event for it are worth a save: a restart need not look at them again. */
const WORTH_SAVING = 1000

/** Projections whose owners' place in the log is remembered. */
const REMEMBERED = 10_000

/** What workers and clients may ask of the engine about projections. */
export interface ProjectionsService {
  /** For a worker of this process. */
  readonly feed: (environment: string, workerId: string) => ProjectionFeed
  readonly client: (environment: string) => Raw<ProjectionsApi<EffectKind>, EngineError>
  /** A part of what `list` of the client returns. */
  readonly listPage: (
    environment: string
  ) => (page: PageQuery) => Effect.Effect<Page<ProjectionStatusInfo>, StoreError>
  /** Which states of a projection have changed since a cursor. */
  readonly changes: (
    environment: string
  ) => (name: string, query: ChangesQuery) => Effect.Effect<ChangesPage, EngineError>
  /** Waits for at most `waitMs` until another owner lets go. */
  readonly claim: (
    request: ProjectionClaimRequest,
    waitMs: number
  ) => Effect.Effect<ProjectionClaim, EngineError>
  /** Waits for at most `waitMs` until there is something; `undefined` when the claim is gone. */
  readonly read: (
    token: ProjectionToken,
    limit: number,
    waitMs: number
  ) => Effect.Effect<ProjectionBatch | undefined, EngineError>
  readonly states: (
    token: ProjectionToken,
    partitions: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyArray<PartitionState> | undefined, EngineError>
  readonly save: (token: ProjectionToken, save: ProjectionSave) => Effect.Effect<ProjectionSaved, EngineError>
  readonly renew: (token: ProjectionToken, leaseMs: number) => Effect.Effect<boolean, EngineError>
  readonly release: (token: ProjectionToken) => Effect.Effect<void, EngineError>
  /** For runners that cannot show a token. */
  readonly register: (
    environment: string,
    registration: ProjectionRegistration
  ) => Effect.Effect<ProjectionInfo, EngineError>
  readonly handOut: (
    environment: string,
    name: string,
    limit: number
  ) => Effect.Effect<HandedOut, EngineError>
  readonly saveTokenless: (save: TokenlessSave) => Effect.Effect<ProjectionSaved, EngineError>
  /** The position of an event in the log. */
  readonly findEvent: (environment: string, eventId: string) => Effect.Effect<number | undefined, EngineError>
  /** Tells those who wait what a commit has changed. */
  readonly committed: (changes: Changes) => void
}

/** How long a runner without a token is taken to be there after a poll, milliseconds. */
const TOKENLESS_LEASE_MS = 30_000

export const make = (store: StoreService): ProjectionsService => {
  const { projections } = store
  const signals = new Signals()
  /** By token: how far the log has been looked at without finding anything, beyond what is saved. */
  const looked = new Map<string, number>()

  /** Looks again whenever one of the names is announced, until `look` finds something; `undefined` when time is up. */
  const watch = <A, E>(
    names: ReadonlyArray<string>,
    waitMs: number,
    look: Effect.Effect<A | undefined, E>,
    until: () => number = () => Number.POSITIVE_INFINITY
  ): Effect.Effect<A | undefined, E> =>
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const deadline = clock.currentTimeMillisUnsafe() + waitMs
      while (true) {
        // listen first, then look: it may happen in between
        const listening = signals.listen(names)
        const found = yield* Effect.ensuring(
          Effect.flatMap(look, (found) => {
            if (found !== undefined) return Effect.succeed(found)
            const restMs = Math.min(deadline, until()) - clock.currentTimeMillisUnsafe()
            if (restMs <= 0) return Effect.succeed(undefined)
            return Number.isFinite(restMs)
              ? Effect.as(Effect.raceFirst(listening.happened, Effect.sleep(restMs)), undefined)
              : Effect.as(listening.happened, undefined)
          }),
          Effect.sync(listening.stop)
        )
        if (found !== undefined) return found
        if (clock.currentTimeMillisUnsafe() >= deadline) return undefined
      }
    })

  const claim = (
    request: ProjectionClaimRequest,
    waitMs: number
  ): Effect.Effect<ProjectionClaim, EngineError> =>
    Effect.gen(function* () {
      const { environment, leaseMs, registration, workerId } = request
      yield* checked(() => checkRegistration(registration))
      let owner = ""
      let until = Number.POSITIVE_INFINITY
      const granted = yield* watch(
        [projectionKey(environment, registration.name)],
        waitMs,
        Effect.map(projections.claim({ ...request, workerId }), (claimed) => {
          if (claimed._tag === "Granted") return claimed.lease
          owner = claimed.owner
          until = claimed.until ?? Number.POSITIVE_INFINITY
          return undefined
        }),
        () => until
      )
      if (granted === undefined) return { _tag: "Busy", owner }
      return {
        _tag: "Granted",
        lease: { ...granted, leaseMs: leaseMs ?? Number.POSITIVE_INFINITY }
      } as const
    })

  const lookFor = (
    token: ProjectionToken,
    limit: number
  ): Effect.Effect<{ readonly batch: ProjectionBatch | undefined } | undefined, EngineError> =>
    Effect.gen(function* () {
      let found: ReadonlyArray<ProjectionLogEvent> = []
      let bytes = 0
      let seen = 0
      let after = looked.get(token.token) ?? 0
      let rows = limit
      while (true) {
        rows = Math.min(rows, PAGE_ROWS)
        const page = yield* polite(projections.readPage(token, after, rows))
        switch (page._tag) {
          case "Lost":
            looked.delete(token.token)
            return { batch: undefined }
          case "Paused":
            return undefined
          case "Retries":
            return { batch: { events: [], retries: page.events, position: 0 } }
        }
        if (page.events.length > 0) {
          found = found.length === 0 ? page.events : [...found, ...page.events]
          for (const event of page.events) bytes += sizeOf(event)
        }
        after = page.position
        seen += rows
        if (found.length > 0) {
          // what is found does not wait until a log that holds little for it has been searched
          const goesOn = !page.atEnd && found.length < limit && bytes < BATCH_BYTES && seen < maxReadEvents
          if (goesOn) continue
          return { batch: bounded(found, limit, page.position) }
        }
        if (looked.size >= REMEMBERED) looked.clear()
        looked.set(token.token, page.position)
        if (page.atEnd) {
          const isWorthSaving =
            page.position - page.saved >= WORTH_SAVING || (page.isRebuilding && page.position > page.saved)
          return !isWorthSaving ? undefined : { batch: { events: [], retries: [], position: page.position } }
        }
        rows *= 4
      }
    })

  const read = (
    token: ProjectionToken,
    limit: number,
    waitMs: number
  ): Effect.Effect<ProjectionBatch | undefined, EngineError> =>
    Effect.map(
      watch(
        [LOG, projectionKey(token.environment, token.name)],
        waitMs,
        lookFor(token, Math.min(Math.max(1, limit), maxReadEvents))
      ),
      (found) => (found === undefined ? { events: [], retries: [], position: 0 } : found.batch)
    )

  const release = (token: ProjectionToken) => {
    looked.delete(token.token)
    return projections.release(token)
  }

  const waitUntilAt = (
    environment: string,
    name: string,
    target: number,
    timeoutMs: number
  ): Effect.Effect<number, EngineError> =>
    Effect.gen(function* () {
      let position = 0
      const look = Effect.gen(function* () {
        let checkedUpTo = 0
        position = 0
        while (true) {
          const at = yield* polite(projections.isAt(environment, name, target, checkedUpTo, PAGE_ROWS))
          const wasReset = at.position < position
          position = at.position
          if (!wasReset && at.reached) return at.position
          if (!wasReset && !at.open) return undefined
          checkedUpTo = wasReset ? 0 : at.checked
        }
      })
      const reached = yield* watch([LOG, projectionKey(environment, name)], timeoutMs, look)
      if (reached !== undefined) return reached
      const info = yield* projections.get(environment, name)
      return yield* new ProjectionBehindError(name, position, target, timeoutMs, explain(info))
    })

  const listPage = (environment: string) =>
    inSlices(PAGE_PROJECTIONS, (page) =>
      Effect.map(projections.list(environment, page), (infos): Page<ProjectionStatusInfo> => {
        const last = infos.at(-1)?.name
        return { items: infos.map(toStatus), ...(last === undefined ? {} : { nextCursor: last }) }
      })
    )

  const client = (environment: string): Raw<ProjectionsApi<EffectKind>, EngineError> => {
    const waitFor = (
      name: string,
      {
        after,
        timeout = CATCHUP_TIMEOUT_MS
      }: { readonly after?: number | undefined; readonly timeout?: number }
    ): Effect.Effect<number | undefined, EngineError> =>
      Effect.suspend(() => {
        if (after === undefined) return Effect.succeed(undefined)
        if (!Number.isSafeInteger(after) || after < 0) {
          return Effect.fail(
            new ValidationError(
              `\`after\` must be a position in the log, such as \`position\` of what emit() returned; got ${show(after)}`
            )
          )
        }
        if (!(timeout >= 0 && Number.isFinite(timeout))) {
          return Effect.fail(
            new ValidationError(`\`timeout\` must be a number of milliseconds, got ${show(timeout)}`)
          )
        }
        return waitUntilAt(environment, name, after, timeout)
      })

    const named = <A>(
      name: string,
      then: (name: string) => Effect.Effect<A, EngineError>
    ): Effect.Effect<A, EngineError> =>
      Effect.flatMap(
        checked(() => checkProjectionName(name)),
        then
      )
    const steer = (name: string, then: (name: string) => Effect.Effect<ProjectionInfo, EngineError>) =>
      Effect.map(named(name, then), toStatus)

    return {
      get: (name, options = {}) =>
        named(name, () =>
          Effect.gen(function* () {
            const partition = yield* checked(() =>
              Limits.checkName("partition", options.partition ?? GLOBAL_PARTITION)
            )
            yield* waitFor(name, options)
            const info = yield* polite(projections.get(environment, name))
            const state = yield* projections.getState(environment, name, partition)
            const result: ProjectionStateResult = {
              name,
              partition,
              state: state === undefined ? {} : decodeJson(state.state),
              ...(state === undefined
                ? {}
                : { lastEventId: state.eventId, lastEventTime: new Date(state.eventTime).toISOString() }),
              lastEventSeq: state?.position ?? (info.mode === "external" ? info.position : 0),
              version: state?.version ?? 0,
              mode: info.mode,
              status: info.status,
              ...(info.lastError === undefined ? {} : { errorMessage: info.lastError.error.message }),
              updatedAt: new Date(state?.updatedAt ?? info.updatedAt).toISOString()
            }
            return result
          })
        ),
      list: () => allPages((after) => listPage(environment)({ after, limit: LIST_PAGE })),
      status: (name) => steer(name, () => polite(projections.get(environment, name))),
      waitForCatchup: (name, options) =>
        named(name, () =>
          Effect.gen(function* () {
            const reached = yield* waitFor(name, options ?? {})
            const lastEventSeq = reached ?? (yield* projections.get(environment, name)).position
            return { lastEventSeq }
          })
        ),
      rebuild: (name) => steer(name, () => projections.rebuild(environment, name)),
      pause: (name, { by = "a client", reason } = {}) =>
        steer(name, () =>
          Effect.flatMap(
            checked(() => Limits.checkName("name of who pauses", by)),
            () => projections.pause(environment, name, by, reason)
          )
        ),
      resume: (name) => steer(name, () => projections.resume(environment, name)),
      delete: (name) => named(name, () => projections.delete(environment, name)),
      deadLetters: (name, { after = 0, limit = 100 } = {}) =>
        named(name, () =>
          Number.isInteger(limit) && limit >= 1 && limit <= 1000
            ? Effect.map(polite(projections.listDeadLetters(environment, name, after, limit)), (letters) =>
                letters.map(({ at, attempts, error, event, position, retrying }): DeadLetter => ({
                  position,
                  event: {
                    id: event.id,
                    name: event.name,
                    version: event.version,
                    data: decodeJson(event.data),
                    timestamp: new Date(event.timestamp).toISOString()
                  },
                  error: toRunError(error),
                  attempts,
                  failedAt: new Date(at).toISOString(),
                  retrying
                }))
              )
            : Effect.fail(
                new ValidationError(
                  `The limit of deadLetters must be an integer from 1 to 1000, got ${limit}`
                )
              )
        ),
      retryDeadLetter: (name, position) =>
        named(name, () =>
          Effect.flatMap(projections.retryDeadLetters(environment, name, position), (count) =>
            count > 0
              ? Effect.void
              : Effect.fail(
                  new InvalidStateError(
                    `Projection "${name}" has no dead letter at position ${show(position)}: deadLetters() lists those that there are`
                  )
                )
          )
        ),
      retryDeadLetters: (name) =>
        named(name, () => projections.retryDeadLetters(environment, name, undefined))
    }
  }

  return {
    claim,
    read,
    states: projections.readStates,
    save: projections.save,
    renew: projections.renew,
    release,
    register: (environment, registration) =>
      Effect.andThen(
        checked(() => checkRegistration(registration)),
        projections.register(environment, registration)
      ),
    handOut: (environment, name, limit) =>
      projections.handOut({
        environment,
        name,
        limit: Math.min(Math.max(1, limit), maxBatchSize),
        leaseMs: TOKENLESS_LEASE_MS
      }),
    saveTokenless: projections.saveTokenless,
    findEvent: projections.findEvent,
    client,
    listPage,
    changes: (environment) => (name, query) =>
      Effect.flatMap(
        checked(() => checkProjectionName(name)),
        () =>
          Effect.map(polite(projections.readChanges(environment, name, query)), (page): ChangesPage => ({
            mode: page.mode,
            status: page.status,
            ...(page.errorMessage === undefined ? {} : { errorMessage: page.errorMessage }),
            cursor: page.cursor,
            states: page.states.map((state) => ({
              revision: state.revision,
              result: {
                name,
                partition: state.partition,
                state: decodeJson(state.state),
                lastEventId: state.eventId,
                lastEventTime: iso(state.eventTime),
                lastEventSeq: state.position,
                version: state.version,
                mode: page.mode,
                status: page.status,
                ...(page.errorMessage === undefined ? {} : { errorMessage: page.errorMessage }),
                updatedAt: iso(state.updatedAt)
              }
            })),
            ...(page.next === undefined ? {} : { next: page.next })
          }))
      ),
    feed: (environment, workerId) => {
      const tokenOf = ({ generation, name, token }: ProjectionLease): ProjectionToken => ({
        environment,
        name,
        token,
        generation
      })
      return {
        claim: (registration, waitMs = Number.POSITIVE_INFINITY) =>
          asFeed(claim({ environment, registration, workerId }, waitMs)),
        read: (lease, limit) => asReach(read(tokenOf(lease), limit, Number.POSITIVE_INFINITY)),
        states: (lease, partitions) => asReach(projections.readStates(tokenOf(lease), partitions)),
        save: (lease, save) => asFeed(projections.save(tokenOf(lease), save)),
        renew: (lease) => asReach(projections.renew(tokenOf(lease))),
        release: (lease) =>
          // taken back when the database is opened again
          Effect.catch(release(tokenOf(lease)), (error) =>
            Effect.logWarning(`Projection "${lease.name}" could not be released`, error)
          )
      }
    },
    committed: (changes) => {
      if (changes.logEnd > 0) signals.announce(LOG)
      for (const key of changes.projections) signals.announce(key)
    }
  }
}

const checkRegistration = ({ events, mode, name, partitionKey }: ProjectionRegistration): void => {
  const label = `Projection "${checkProjectionName(name)}"`
  checkProjectionEvents(events, label)
  if (partitionKey !== undefined && partitionKey.length > Limits.expressionLength) {
    throw new ValidationError(
      `${label}: \`partitionKey\` has more than ${Limits.expressionLength} characters`
    )
  }
  if (mode !== "managed" && mode !== "external") {
    throw new ValidationError(`${label}: \`mode\` must be "managed" or "external", got ${show(mode)}`)
  }
}

const sizeOf = ({ data, metadata }: ProjectionLogEvent): number => data.length + (metadata?.length ?? 0)

const bounded = (
  found: ReadonlyArray<ProjectionLogEvent>,
  limit: number,
  position: number
): ProjectionBatch => {
  let bytes = 0
  let count = 0
  for (const event of found) {
    bytes += sizeOf(event)
    if (count > 0 && (count >= limit || bytes > BATCH_BYTES)) break
    count++
  }
  const events = found.slice(0, count)
  return {
    events,
    retries: [],
    position: count < found.length ? (events.at(-1)?.position ?? position) : position
  }
}

/** Input that is not acceptable throws one of our errors: it becomes the failure of the call. */
const checked = <A>(check: () => A): Effect.Effect<A, EngineError> =>
  Effect.suspend(() => {
    try {
      return Effect.succeed(check())
    } catch (error) {
      // what is thrown here is an error of the engine
      return error instanceof IronflowError ? Effect.fail(error as EngineError) : Effect.die(error)
    }
  })

/** A database that cannot be asked now is to workers what an engine is that cannot be reached. */
const asReach = <A>(self: Effect.Effect<A, EngineError>): Effect.Effect<A, ConnectionError> =>
  Effect.mapError(self, (error) =>
    error instanceof ConnectionError ? error : new ConnectionError(error.message, { cause: error })
  )

const asFeed = <A>(
  self: Effect.Effect<A, EngineError>
): Effect.Effect<A, ConnectionError | ValidationError> =>
  Effect.mapError(self, (error) => {
    if (error instanceof ValidationError) return error
    return error instanceof InvalidStateError
      ? new ValidationError(error.message, { cause: error })
      : new ConnectionError(error.message, { cause: error })
  })

const toRunError = ({
  code,
  data,
  message,
  name,
  retryable,
  stack
}: Omit<SerializedError, "stack"> & { readonly stack?: string | undefined }): RunError => ({
  message,
  code: code ?? "ERROR",
  name,
  ...(stack === undefined ? {} : { stack }),
  ...(retryable === undefined ? {} : { retryable }),
  ...(data === undefined ? {} : { details: data })
})

const iso = (time: number): string => new Date(time).toISOString()

const toStatus = (info: ProjectionInfo): ProjectionStatusInfo => ({
  name: info.name,
  mode: info.mode,
  status: info.status,
  message: explain(info),
  events: info.events,
  ...(info.partitionKey === undefined ? {} : { partitionKey: info.partitionKey }),
  lastEventSeq: info.position,
  lag: info.lag,
  ...(info.owner === undefined ? {} : { owner: info.owner.workerId }),
  generation: info.generation,
  ...(info.paused === undefined
    ? {}
    : {
        pausedBy: info.paused.by,
        pausedAt: iso(info.paused.at),
        ...(info.paused.reason === undefined ? {} : { pauseReason: info.paused.reason })
      }),
  ...(info.rebuildTo === undefined ? {} : { rebuildTo: info.rebuildTo }),
  ...(info.lastError === undefined
    ? {}
    : {
        errorMessage: info.lastError.error.message,
        lastError: {
          ...toRunError({ ...info.lastError.error, stack: undefined }),
          position: info.lastError.position,
          at: iso(info.lastError.at)
        }
      }),
  ...(info.failing === undefined ? {} : { failing: info.failing }),
  deadLetters: info.deadLetters,
  refusedSaves: info.refusedSaves,
  createdAt: iso(info.createdAt),
  updatedAt: iso(info.updatedAt)
})

/** Why the projection is where it is, in a sentence. */
const explain = (info: ProjectionInfo): string => {
  const { deadLetters, failing, lag, owner, paused, position, rebuildTo } = info
  const waiting = lag === 1 ? "1 event waits" : `${lag} events wait`
  const letters =
    deadLetters === 0
      ? ""
      : ` ${deadLetters === 1 ? "1 event is a dead letter" : `${deadLetters} events are dead letters`}.`
  if (paused !== undefined) {
    const reason = paused.reason === undefined ? "" : ` (${paused.reason})`
    return `Paused by ${paused.by} at ${iso(paused.at)}${reason}; ${waiting}.${letters}`
  }
  if (owner === undefined) return `No worker runs it; ${waiting}.${letters}`
  if (failing !== undefined) {
    return (
      `The event at position ${failing.position} has failed ${failing.failures === 1 ? "once" : `${failing.failures} times`} ` +
      `and is tried again: ${info.lastError?.error.message ?? ""}; ${waiting}.${letters}`
    )
  }
  if (rebuildTo !== undefined) {
    return `Being rebuilt by ${owner.workerId}: at position ${position} of ${rebuildTo}; ${waiting}.${letters}`
  }
  return lag === 0
    ? `Up to date, run by ${owner.workerId}.${letters}`
    : `Run by ${owner.workerId}, at position ${position}; ${waiting}.${letters}`
}
