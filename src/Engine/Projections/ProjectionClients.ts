/** The projection methods of clients: read, wait and control. */
import * as Effect from "effect/Effect"
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import type { EffectKind } from "../../Client/Client.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import type { ChangesPage, ChangesQuery } from "../../Client/ProjectionUpdates.ts"
import {
  type CatchupOptions,
  checkCatchup,
  type DeadLetter,
  type ProjectionsApi,
  type ProjectionStateResult,
  type ProjectionStatusInfo,
  stateOfNothing
} from "../../Client/Projections.ts"
import {
  type EngineError,
  InvalidStateError,
  ProjectionBehindError,
  type StoreError,
  ValidationError
} from "../../Errors.ts"
import { decodeJson } from "../../Json.ts"
import * as Limits from "../../Limits.ts"
import { GLOBAL_PARTITION } from "../../Projection/Partition.ts"
import { checkProjectionName } from "../../Projection/Projection.ts"
import { show } from "../../Show.ts"
import { allPages, inSlices, LIST_PAGE, type Page, type PageQuery } from "../Pages.ts"
import { yieldFirst } from "../Yielding.ts"
import type { StoreService } from "../Store/Store.ts"
import { LOG, type WaitUntilFound } from "./WaitUntilFound.ts"
import * as ProjectionChanges from "./ProjectionChanges.ts"
import * as ProjectionInspection from "./ProjectionInspection.ts"
import { type ProjectionInfo, projectionKey } from "../Records/ProjectionRecords.ts"
import { explainStatus, iso, toRunError, toStatus } from "./ProjectionStatusText.ts"

/** Maximum number of rows of the log that are looked at before other work of the event loop goes on. */
const PAGE_ROWS = 250

/** Maximum number of projections that are read before other work of the event loop goes on. */
const PAGE_PROJECTIONS = 100

/** The operations of clients of any environment. */
export interface ProjectionClients {
  readonly client: (environment: string) => Raw<ProjectionsApi<EffectKind>, EngineError>
  /** A page of the client's `list`. */
  readonly listPage: (
    environment: string
  ) => (page: PageQuery) => Effect.Effect<Page<ProjectionStatusInfo>, StoreError>
  /** The states of a projection that have changed since a cursor. */
  readonly changes: (
    environment: string
  ) => (name: string, query: ChangesQuery) => Effect.Effect<ChangesPage, EngineError>
}

export const makeClients = (store: StoreService, waitUntilFound: WaitUntilFound): ProjectionClients => {
  const waitUntilAt = (
    environment: string,
    name: string,
    target: number,
    timeoutMs: number
  ): Effect.Effect<number, EngineError> =>
    Effect.gen(function* () {
      let position = 0
      const findPosition = Effect.gen(function* () {
        let checkedUpTo = 0
        position = 0
        while (true) {
          const progress = yield* yieldFirst(
            store.read(
              ProjectionInspection.checkProjectionAt(environment, name, target, checkedUpTo, PAGE_ROWS)
            )
          )
          const wasReset = progress.position < position
          position = progress.position
          if (!wasReset && progress.reached) return progress.position
          if (!wasReset && !progress.open) return undefined
          checkedUpTo = wasReset ? 0 : progress.checked
        }
      })
      const reached = yield* waitUntilFound([LOG, projectionKey(environment, name)], timeoutMs, findPosition)
      if (reached !== undefined) return reached
      const info = yield* store.read(ProjectionInspection.getProjection(environment, name))
      return yield* new ProjectionBehindError(name, position, target, timeoutMs, explainStatus(info))
    })

  const listPage = (environment: string) =>
    inSlices(PAGE_PROJECTIONS, (page) =>
      Effect.map(
        store.read(ProjectionInspection.listProjections(environment, page)),
        (infos): Page<ProjectionStatusInfo> => {
          const last = infos.at(-1)?.name
          return { items: infos.map(toStatus), ...(last === undefined ? {} : { nextCursor: last }) }
        }
      )
    )

  const client = (environment: string): Raw<ProjectionsApi<EffectKind>, EngineError> => {
    const waitFor = (
      call: "get" | "waitForCatchup",
      name: string,
      options: CatchupOptions | undefined
    ): Effect.Effect<number | undefined, EngineError> =>
      Effect.flatMap(
        checked(() => checkCatchup(call, options)),
        ({ after, timeout }) =>
          after === undefined ? Effect.succeed(undefined) : waitUntilAt(environment, name, after, timeout)
      )

    const withCheckedName = <A>(
      name: string,
      operation: (name: string) => Effect.Effect<A, EngineError>
    ): Effect.Effect<A, EngineError> =>
      Effect.flatMap(
        checked(() => checkProjectionName(name)),
        operation
      )
    const control = (name: string, operation: (name: string) => Effect.Effect<ProjectionInfo, EngineError>) =>
      Effect.map(withCheckedName(name, operation), toStatus)

    return {
      get: (name, options = {}) =>
        withCheckedName(name, () =>
          Effect.gen(function* () {
            const partition = yield* checked(() =>
              Limits.checkName("partition", options.partition ?? GLOBAL_PARTITION)
            )
            yield* waitFor("get", name, options)
            const info = yield* yieldFirst(store.read(ProjectionInspection.getProjection(environment, name)))
            const state = yield* store.read(
              ProjectionInspection.getProjectionState(environment, name, partition)
            )
            const result: ProjectionStateResult = {
              name,
              partition,
              state: state === undefined ? stateOfNothing(info.mode, options) : decodeJson(state.state),
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
      status: (name) =>
        control(name, () => yieldFirst(store.read(ProjectionInspection.getProjection(environment, name)))),
      waitForCatchup: (name, options) =>
        withCheckedName(name, () =>
          Effect.gen(function* () {
            const reached = yield* waitFor("waitForCatchup", name, options)
            const lastEventSeq =
              reached ?? (yield* store.read(ProjectionInspection.getProjection(environment, name))).position
            return { lastEventSeq }
          })
        ),
      rebuild: (name) =>
        control(name, () => store.write(ProjectionInspection.rebuildProjection(environment, name))),
      pause: (name, { by = "a client", reason } = {}) =>
        control(name, () =>
          Effect.flatMap(
            checked(() => Limits.checkName("`by` of a pause", by)),
            () => store.write(ProjectionInspection.pauseProjection(environment, name, by, reason))
          )
        ),
      resume: (name) =>
        control(name, () => store.write(ProjectionInspection.resumeProjection(environment, name))),
      delete: (name) =>
        withCheckedName(name, () => store.write(ProjectionInspection.deleteProjection(environment, name))),
      deadLetters: (name, { after = 0, limit = 100 } = {}) =>
        withCheckedName(name, () =>
          Number.isInteger(limit) && limit >= 1 && limit <= 1000
            ? Effect.map(
                yieldFirst(store.read(ProjectionInspection.listDeadLetters(environment, name, after, limit))),
                (letters) =>
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
                  `The limit of deadLetters must be an integer from 1 to 1000, got ${show(limit)}`
                )
              )
        ),
      retryDeadLetter: (name, position) =>
        withCheckedName(name, () =>
          Effect.flatMap(
            store.write(ProjectionInspection.retryDeadLetters(environment, name, position)),
            (count) =>
              count > 0
                ? Effect.void
                : Effect.fail(
                    new InvalidStateError(
                      `Projection "${name}" has no dead letter at position ${show(position)}: deadLetters() lists the existing ones`
                    )
                  )
          )
        ),
      retryDeadLetters: (name) =>
        withCheckedName(name, () =>
          store.write(ProjectionInspection.retryDeadLetters(environment, name, undefined))
        )
    }
  }

  return {
    client,
    listPage,
    changes: (environment) => (name, query) =>
      Effect.flatMap(
        checked(() => checkProjectionName(name)),
        () =>
          Effect.map(
            yieldFirst(store.read(ProjectionChanges.readProjectionChanges(environment, name, query))),
            (page): ChangesPage => ({
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
            })
          )
      )
  }
}
