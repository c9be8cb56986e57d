/** The operations of projection owners: claim, read the next events, and save. A read that waits is woken by a commit. */
import * as Effect from "effect/Effect"
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import { ConnectionError, type EngineError, InvalidStateError, ValidationError } from "../../Errors.ts"
import { maxReadEvents } from "../../Projection/Projection.ts"
import type {
  PartitionState,
  ProjectionBatch,
  ProjectionClaim,
  ProjectionFeed,
  ProjectionLease,
  ProjectionLogEvent,
  ProjectionSave,
  ProjectionSaved
} from "../../Protocol/ProjectionOwners.ts"
import { yieldFirst } from "../Yielding.ts"
import type { StoreService } from "../Store/Store.ts"
import { checkRegistration } from "./CheckRegistration.ts"
import { LOG, type WaitUntilFound } from "./WaitUntilFound.ts"
import * as ProjectionOwnerRows from "./ProjectionOwnerRows.ts"
import * as ProjectionOwnerReads from "./ProjectionOwnerReads.ts"
import {
  type ProjectionClaimRequest,
  projectionKey,
  type ProjectionToken
} from "../Records/ProjectionRecords.ts"
import * as ProjectionSaveRows from "./ProjectionSaveRows.ts"

/** Maximum number of rows of the log that are looked at before other work of the event loop goes on. */
const PAGE_ROWS = 250

/** Maximum number of characters of events in one batch, unless a single event has more. */
const BATCH_LENGTH = 4 * 1024 * 1024

/** After this many rows without a matching event the position is saved, so that a restart need not read these rows again. */
const ROWS_WORTH_SAVING = 1000

/** Maximum number of projections whose reading position is kept in memory. */
const MAX_REMEMBERED = 10_000

/** The operations for workers that have claimed a projection, and have the token of their claim. */
export interface ProjectionOwners {
  /** All these operations, for a worker of this process. */
  readonly feed: (environment: string, workerId: string) => ProjectionFeed
  /** Claims a projection. Waits at most `waitMs` until another owner releases it. */
  readonly claim: (
    request: ProjectionClaimRequest,
    waitMs: number
  ) => Effect.Effect<ProjectionClaim, EngineError>
  /**
   * Reads the next events. Waits at most `waitMs` until there are any; after that, the batch is empty. Returns `undefined` when the
   * claim is gone.
   */
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
}

export const makeOwners = (store: StoreService, waitUntilFound: WaitUntilFound): ProjectionOwners => {
  /** The position up to which the log was searched without a match, beyond the saved position, by token. */
  const searchedPositions = new Map<string, number>()

  const claim = (
    request: ProjectionClaimRequest,
    waitMs: number
  ): Effect.Effect<ProjectionClaim, EngineError> =>
    Effect.gen(function* () {
      const { environment, leaseMs, registration, workerId } = request
      yield* checked(() => checkRegistration(registration))
      let owner = ""
      let ownedUntil = Number.POSITIVE_INFINITY
      const granted = yield* waitUntilFound(
        [projectionKey(environment, registration.name)],
        waitMs,
        Effect.map(store.write(ProjectionOwnerRows.claimProjection({ ...request, workerId })), (claimed) => {
          if (claimed._tag === "Granted") return claimed.lease
          owner = claimed.owner
          ownedUntil = claimed.until ?? Number.POSITIVE_INFINITY
          return undefined
        }),
        () => ownedUntil
      )
      if (granted === undefined) return { _tag: "Busy", owner }
      return {
        _tag: "Granted",
        lease: { ...granted, leaseMs: leaseMs ?? Number.POSITIVE_INFINITY }
      } as const
    })

  /** The next batch; `undefined` when there is nothing yet. Its `batch` is `undefined` when the claim is gone. */
  const findBatch = (
    token: ProjectionToken,
    limit: number
  ): Effect.Effect<{ readonly batch: ProjectionBatch | undefined } | undefined, EngineError> =>
    Effect.gen(function* () {
      let found: ReadonlyArray<ProjectionLogEvent> = []
      let length = 0
      let rowsRead = 0
      let after = searchedPositions.get(token.token) ?? 0
      let rows = limit
      while (true) {
        rows = Math.min(rows, PAGE_ROWS)
        const page = yield* yieldFirst(
          store.read(ProjectionOwnerReads.readProjectionPage(token, after, rows))
        )
        switch (page._tag) {
          case "Lost":
            searchedPositions.delete(token.token)
            return { batch: undefined }
          case "Paused":
            return undefined
          case "Retries":
            return { batch: { events: [], retries: page.events, position: 0 } }
        }
        if (page.events.length > 0) {
          found = found.length === 0 ? page.events : [...found, ...page.events]
          for (const event of page.events) length += lengthOf(event)
        }
        after = page.position
        rowsRead += rows
        if (found.length > 0) {
          // the search goes on until the batch is full, but not for long: events that were found must not wait for further
          // matches, which may be rare in a long log
          const mayFindMore =
            !page.atEnd && found.length < limit && length < BATCH_LENGTH && rowsRead < maxReadEvents
          if (mayFindMore) continue
          return { batch: cutBatch(found, limit, page.position) }
        }
        if (searchedPositions.size >= MAX_REMEMBERED) searchedPositions.clear()
        searchedPositions.set(token.token, page.position)
        if (page.atEnd) {
          const isWorthSaving =
            page.position - page.saved >= ROWS_WORTH_SAVING ||
            (page.isRebuilding && page.position > page.saved)
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
      waitUntilFound(
        [LOG, projectionKey(token.environment, token.name)],
        waitMs,
        findBatch(token, Math.min(Math.max(1, limit), maxReadEvents))
      ),
      (found) => (found === undefined ? { events: [], retries: [], position: 0 } : found.batch)
    )

  const release = (token: ProjectionToken) => {
    searchedPositions.delete(token.token)
    return store.write(ProjectionOwnerRows.releaseProjection(token))
  }

  return {
    claim,
    read,
    states: (...args) => store.read(ProjectionOwnerReads.readPartitions(...args)),
    save: (...args) => store.write(ProjectionSaveRows.saveProjection(...args)),
    renew: (...args) => store.write(ProjectionOwnerRows.renewProjection(...args)),
    release,
    feed: (environment, workerId) => {
      const tokenOf = ({ generation, name, token }: ProjectionLease): ProjectionToken => ({
        environment,
        name,
        token,
        generation
      })
      return {
        claim: (registration, waitMs = Number.POSITIVE_INFINITY) =>
          toFeedErrors(claim({ environment, registration, workerId }, waitMs)),
        read: (lease, limit) => toConnectionErrors(read(tokenOf(lease), limit, Number.POSITIVE_INFINITY)),
        states: (lease, partitions) =>
          toConnectionErrors(store.read(ProjectionOwnerReads.readPartitions(tokenOf(lease), partitions))),
        save: (lease, save) =>
          toFeedErrors(store.write(ProjectionSaveRows.saveProjection(tokenOf(lease), save))),
        renew: (lease) =>
          toConnectionErrors(store.write(ProjectionOwnerRows.renewProjection(tokenOf(lease)))),
        release: (lease) =>
          Effect.catch(release(tokenOf(lease)), (error) =>
            Effect.logWarning(
              `Projection "${lease.name}" could not be released: no other worker gets it before this engine has stopped`,
              error
            )
          )
      }
    }
  }
}

const lengthOf = ({ data, metadata }: ProjectionLogEvent): number => data.length + (metadata?.length ?? 0)

/** A batch with the first of the found events, as many as the limits allow. `position` is where the search has ended. */
const cutBatch = (
  found: ReadonlyArray<ProjectionLogEvent>,
  limit: number,
  position: number
): ProjectionBatch => {
  let length = 0
  let count = 0
  for (const event of found) {
    length += lengthOf(event)
    if (count > 0 && (count >= limit || length > BATCH_LENGTH)) break
    count++
  }
  const events = found.slice(0, count)
  return {
    events,
    retries: [],
    position: count < found.length ? (events.at(-1)?.position ?? position) : position
  }
}

/**
 * Turns errors of the engine into connection errors: for workers, a database that cannot be read is like an engine that cannot be
 * reached.
 */
const toConnectionErrors = <A>(self: Effect.Effect<A, EngineError>): Effect.Effect<A, ConnectionError> =>
  Effect.mapError(self, (error) =>
    error instanceof ConnectionError ? error : new ConnectionError(error.message, { cause: error })
  )

/** As {@link toConnectionErrors}, but errors of the input stay, as a `ValidationError`. */
const toFeedErrors = <A>(
  self: Effect.Effect<A, EngineError>
): Effect.Effect<A, ConnectionError | ValidationError> =>
  Effect.mapError(self, (error) => {
    if (error instanceof ValidationError) return error
    return error instanceof InvalidStateError
      ? new ValidationError(error.message, { cause: error })
      : new ConnectionError(error.message, { cause: error })
  })
