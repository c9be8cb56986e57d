/**
 * Subscribes to the states of a projection: system events carry the changes, and reads fill in what was
 * missed.
 *
 * For a slow consumer, only the newest state of each partition waits, for at most {@link MAX_WAITING_STATES}
 * partitions. With more partitions, and after each reconnection, the changed states are read page by page. If the
 * server cannot list the changed states, only the state of the requested partition is read, or the state of a
 * projection without partitions.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import {
  ConnectionError,
  InvalidStateError,
  type IronflowError,
  isIronflowError,
  ProjectionNotFoundError,
  SubscriptionError,
  TimeoutError
} from "../Errors.ts"
import { isObject } from "../Json.ts"
import { checkName } from "../Limits.ts"
import { checkPattern } from "../Pattern.ts"
import { type Cursor, readCursor, writeCursor } from "../Projection/Cursor.ts"
import { GLOBAL_PARTITION } from "../Projection/Partition.ts"
import { checkProjectionName } from "../Projection/Projection.ts"
import { type ProjectionStatus, StateUpdated } from "../Protocol/Projections.ts"
import { reader } from "../Protocol/Codec.ts"
import type { EffectKind } from "./Client.ts"
import { validated } from "../CheckAsEffect.ts"
import type {
  ProjectionsApi,
  ProjectionsService,
  ProjectionStateResult,
  ProjectionSubscribeOptions
} from "./Projections.ts"
import type { Raw } from "./NarrowErrors.ts"
import type { SubscriptionSession } from "./SubscriptionSession.ts"
import { attempt, openSession, type Source } from "./Subscriptions.ts"

/** A page of the states that have changed since a cursor, with their current values. */
export interface ChangesPage {
  readonly mode: "managed" | "external"
  readonly status: ProjectionStatus
  readonly errorMessage?: string
  readonly cursor: string
  readonly states: ReadonlyArray<{ readonly revision: number; readonly result: ProjectionStateResult }>
  /** The partition after which the next page begins; absent on the last page. */
  readonly next?: string
}

export interface ChangesQuery {
  /**
   * The cursor after which a state counts as changed; without it, all states are returned. With `now`, the page
   * has no states, and only tells the current cursor.
   */
  readonly since?: string | undefined
  readonly partition?: string | undefined
  readonly after?: string | undefined
  readonly limit: number
}

/** Reads which states have changed. Returns `undefined` when the server cannot tell. */
export type ReadChanges = (
  name: string,
  query: ChangesQuery
) => Effect.Effect<ChangesPage | undefined, IronflowError>

/** Adds `subscribe` to the methods for projections. */
export const withUpdates = (
  api: Raw<ProjectionsApi<EffectKind>>,
  source: Source,
  readChanges: ReadChanges
): Raw<ProjectionsService> => ({
  ...api,
  subscribe: (name, options = {}) =>
    Stream.unwrap(
      Effect.gen(function* () {
        const { partition } = options
        yield* validated(() => {
          checkProjectionName(name)
          if (partition !== undefined) checkName("partition", partition)
        })
        const session = yield* openSession(source)
        const updates = new Updates(name, options, api, readChanges)
        yield* updates.open(session)
        return Stream.fromEffectRepeat(updates.next)
      })
    )
})

/** How many states wait in memory at most, and how many a page has. */
const MAX_WAITING_STATES = 64

/** The delay after a read has failed, in milliseconds. */
const RETRY_DELAY_MS = 1000

/** For servers that cannot list changes: the maximum number of partitions whose last state is remembered. */
const MAX_REMEMBERED_PARTITIONS = 1000

/** What an event says about a partition: its new state, or without `result` only that the state has changed. */
interface Update {
  readonly cursor?: Cursor
  readonly result?: ProjectionStateResult
}

class Updates {
  readonly #name: string
  readonly #options: ProjectionSubscribeOptions
  readonly #api: Raw<ProjectionsApi<EffectKind>>
  readonly #readChanges: ReadChanges
  /** The updates that wait for the consumer, by partition, oldest first. */
  readonly #waitingUpdates = new Map<string, Update>()
  /** States that were read and not yet taken. */
  #pageStates: Array<ProjectionStateResult> = []
  /** The partition after which the next page begins, while pages are being read. */
  #nextPage: { readonly after: string | undefined } | undefined
  /** Whether events may have been missed, so that the changes must be read. */
  #isBehind = false
  /** Whether the server can list the changed states. */
  #canListChanges = true
  /** The cursor up to which everything was taken; `undefined` when all states are new. */
  #takenCursor: string | undefined
  /** The cursor of the newest event. */
  #newestCursor: Cursor | undefined
  /** The cursor at which the last read began. The read included everything before this cursor. */
  #lastReadCursor: Cursor | undefined
  /** For each partition whose state in the last read is newer than `#lastReadCursor`: the revision of this state. */
  readonly #newerRevisions = new Map<string, number>()
  /** For servers that cannot list changes: for each partition, a mark that identifies its last state. */
  readonly #marks = new Map<string, string>()
  #failure: IronflowError | undefined
  #wake: () => void = () => undefined

  constructor(
    name: string,
    options: ProjectionSubscribeOptions,
    api: Raw<ProjectionsApi<EffectKind>>,
    readChanges: ReadChanges
  ) {
    this.#name = name
    this.#options = options
    this.#api = api
    this.#readChanges = readChanges
  }

  /** Subscribes, and finds out at which cursor the updates begin. */
  open(session: SubscriptionSession): Effect.Effect<void, IronflowError> {
    return Effect.gen({ self: this }, function* () {
      const { includeCurrent = false, onOpen, partition } = this.#options
      const onConfirmed = () => {
        this.#markBehind()
        onOpen?.()
      }
      yield* attempt(() => session.connect())
      for (const pattern of patternsOf(this.#name, partition)) {
        const subscription = yield* attempt(() =>
          session.subscribe(
            pattern,
            {},
            {
              onEvent: ({ data, topic }) => this.#onEvent(topic, data),
              onError: ({ code, message, retrying }) => {
                if (code === "EVENTS_DROPPED") return this.#markBehind()
                if (retrying !== false) return
                this.#failure = new SubscriptionError(message, { code, retryable: false })
                this.#wake()
              }
            }
          )
        )
        subscription.onConfirmed = onConfirmed
      }
      const page = yield* this.#readChanges(this.#name, { since: "now", limit: 1 })
      this.#canListChanges = page !== undefined
      if (page !== undefined) {
        yield* this.#checkMode(page.mode)
        this.#takenCursor = includeCurrent ? undefined : page.cursor
        // `#isBehind` is set already if the connection was lost in the meantime
        this.#isBehind ||= includeCurrent
      } else {
        const result = yield* this.#readState(partition ?? GLOBAL_PARTITION)
        yield* this.#checkMode(result.mode)
        if (includeCurrent) this.#waitingUpdates.set(result.partition, { result })
        this.#remember(result)
      }
      onOpen?.()
    })
  }

  /** The next state, as soon as there is one. */
  get next(): Effect.Effect<ProjectionStateResult, IronflowError> {
    return Effect.gen({ self: this }, function* () {
      while (true) {
        if (this.#failure !== undefined) return yield* Effect.fail(this.#failure)
        const result = this.#pageStates.shift()
        if (result !== undefined) return this.#newestOf(result)
        if (this.#nextPage !== undefined || this.#isBehind) {
          yield* this.#readPage
          continue
        }
        for (const [partition, update] of this.#waitingUpdates) {
          this.#removeUpdate(partition)
          if (update.result !== undefined && !this.#isAlreadyRead(partition, update)) return update.result
          if (update.result === undefined) {
            const result = yield* this.#readState(partition)
            if (this.#remember(result)) return result
          }
          break
        }
        if (!this.#hasWork) yield* this.#awaitWork
      }
    })
  }

  get #hasWork(): boolean {
    return this.#failure !== undefined || this.#isBehind || this.#waitingUpdates.size > 0
  }

  get #awaitWork(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      this.#wake = () => resume(Effect.void)
      if (this.#hasWork) resume(Effect.void)
      return Effect.sync(() => (this.#wake = () => undefined))
    })
  }

  #onEvent(topic: string, data: unknown): void {
    if (this.#isBehind) return
    const { partition: onlyPartition } = this.#options
    if (topic === rebuiltTopic(this.#name)) {
      // a rebuild changes all states, also those that were read already
      this.#takenCursor = undefined
      return this.#markBehind()
    }
    const partition = partitionIn(this.#name, topic, data)
    if (partition === undefined || (onlyPartition !== undefined && onlyPartition !== partition)) return
    const cursor = isObject(data) ? readCursor(data.cursor) : undefined
    const result = cursor === undefined ? undefined : resultIn(data)
    this.#newestCursor = cursor ?? this.#newestCursor
    this.#waitingUpdates.set(
      partition,
      cursor === undefined || result === undefined ? {} : { cursor, result }
    )
    if (this.#waitingUpdates.size > MAX_WAITING_STATES && this.#canListChanges) return this.#markBehind()
    this.#wake()
  }

  /** Notes that events may have been missed. */
  #markBehind(): void {
    if (this.#canListChanges) {
      this.#isBehind = true
      this.#waitingUpdates.clear()
    } else this.#waitingUpdates.set(this.#options.partition ?? GLOBAL_PARTITION, {})
    this.#wake()
  }

  /** Removes a waiting update. When it was the last one, `#takenCursor` moves to the newest event. */
  #removeUpdate(partition: string): void {
    this.#waitingUpdates.delete(partition)
    const newestCursor = this.#newestCursor
    // the cursor must not move past updates that still wait
    if (this.#waitingUpdates.size > 0 || newestCursor === undefined || this.#isBehind) return
    const lastReadCursor = this.#lastReadCursor
    if (lastReadCursor?.epoch !== newestCursor.epoch || newestCursor.version > lastReadCursor.version)
      this.#takenCursor = writeCursor(newestCursor)
  }

  /** Returns the state that was read, or the newer state of the same partition that an event has brought. */
  #newestOf(result: ProjectionStateResult): ProjectionStateResult {
    const { partition } = result
    const update = this.#waitingUpdates.get(partition)
    if (update?.result === undefined) return result
    this.#waitingUpdates.delete(partition)
    return this.#isAlreadyRead(partition, update) ? result : update.result
  }

  /** Whether the last read had a state of the partition that is at least as new as the update. */
  #isAlreadyRead(partition: string, { cursor }: Update): boolean {
    if (cursor === undefined || this.#lastReadCursor?.epoch !== cursor.epoch) return false
    return cursor.version <= Math.max(this.#lastReadCursor.version, this.#newerRevisions.get(partition) ?? 0)
  }

  /** Reads a page of the states that have changed. */
  get #readPage(): Effect.Effect<void, IronflowError> {
    return Effect.gen({ self: this }, function* () {
      const { partition } = this.#options
      const isFirst = this.#isBehind
      const after = isFirst ? undefined : this.#nextPage?.after
      // while this is false, `#onEvent` keeps the events
      this.#isBehind = false
      this.#nextPage = { after }
      const page = yield* this.#readChanges(this.#name, {
        since: this.#takenCursor,
        partition,
        after,
        limit: MAX_WAITING_STATES
      }).pipe(
        Effect.catchIf(
          (error) => error instanceof ProjectionNotFoundError,
          () => Effect.succeed(emptyPage)
        ),
        Effect.catchIf(isTransient, () =>
          Effect.sync(() => (this.#isBehind ||= isFirst)).pipe(
            Effect.andThen(Effect.sleep(RETRY_DELAY_MS)),
            Effect.as("again" as const)
          )
        )
      )
      if (page === "again") return
      if (page === undefined) {
        // the server cannot list changes any more: it was replaced by another kind of server
        this.#nextPage = undefined
        this.#canListChanges = false
        return this.#markBehind()
      }
      const cursor = readCursor(page.cursor)
      if (isFirst) {
        this.#lastReadCursor = cursor
        this.#newerRevisions.clear()
      }
      for (const { result, revision } of page.states) {
        this.#pageStates.push(result)
        if (revision > (this.#lastReadCursor?.version ?? 0))
          this.#newerRevisions.set(result.partition, revision)
      }
      if (page.next !== undefined) {
        this.#nextPage = { after: page.next }
        return
      }
      this.#nextPage = undefined
      this.#takenCursor = this.#lastReadCursor === undefined ? undefined : writeCursor(this.#lastReadCursor)
    })
  }

  #readState(partition: string): Effect.Effect<ProjectionStateResult, IronflowError> {
    return Effect.catchIf(this.#api.get(this.#name, { partition }), isTransient, () =>
      Effect.andThen(
        Effect.sleep(RETRY_DELAY_MS),
        Effect.suspend(() => this.#readState(partition))
      )
    )
  }

  /** Remembers the state of a partition. Returns whether the state differs from the one remembered before. */
  #remember(result: ProjectionStateResult): boolean {
    const { lastEventId, lastEventSeq, partition, updatedAt, version } = result
    const mark = JSON.stringify([lastEventId, lastEventSeq, version, updatedAt])
    if (this.#marks.get(partition) === mark) return false
    if (this.#marks.size >= MAX_REMEMBERED_PARTITIONS) this.#marks.clear()
    this.#marks.set(partition, mark)
    return true
  }

  #checkMode(mode: "managed" | "external"): Effect.Effect<void, InvalidStateError> {
    return mode === "managed"
      ? Effect.void
      : Effect.fail(
          new InvalidStateError(
            `Projection "${this.#name}" is external: it has no state to subscribe to. projections.status() shows its position`
          )
        )
  }
}

/** A page without states, for a projection that was deleted and may exist again. */
const emptyPage: ChangesPage = { mode: "managed", status: "active", cursor: "", states: [] }

/** Whether the same request may succeed later. */
const isTransient = (error: IronflowError): boolean =>
  error instanceof ConnectionError ||
  error instanceof TimeoutError ||
  (isIronflowError(error) && error.retryable)

const prefixOf = (name: string): string => `system.projection.${name}.`
const rebuiltTopic = (name: string): string => `${prefixOf(name)}rebuilt`

/**
 * The patterns to subscribe to. If the name of the projection cannot be part of a pattern, they match the events of
 * other projections too.
 */
const patternsOf = (name: string, partition: string | undefined): ReadonlyArray<string> => {
  const isPossible = (pattern: string): boolean => {
    try {
      checkPattern(pattern)
      return true
    } catch {
      return false
    }
  }
  const partitionPattern = partition === undefined ? undefined : `${prefixOf(name)}${partition}.updated`
  if (partitionPattern !== undefined && isPossible(partitionPattern))
    return [partitionPattern, rebuiltTopic(name)]
  const projectionPattern = `${prefixOf(name)}>`
  return [isPossible(projectionPattern) ? projectionPattern : "system.projection.>"]
}

/** The partition that an event is about, if the event belongs to the projection. */
const partitionIn = (name: string, topic: string, data: unknown): string | undefined => {
  if (isObject(data) && typeof data.name === "string" && typeof data.partition === "string") {
    return data.name === name ? data.partition : undefined
  }
  const [prefix, suffix] = [prefixOf(name), ".updated"]
  return topic.startsWith(prefix) && topic.endsWith(suffix) && topic.length > prefix.length + suffix.length
    ? topic.slice(prefix.length, -suffix.length)
    : undefined
}

/** Reads the state in an event of our engine. */
const resultIn = reader(StateUpdated)
