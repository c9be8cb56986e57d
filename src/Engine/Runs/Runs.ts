/** The methods about runs, for the client in the engine's process: read a run, wait for it, control it. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type {
  AuditEvent,
  ClientApi,
  EffectKind,
  ListRunsOptions,
  ListRunsResult,
  Run,
  RunLogLine,
  RunStep
} from "../../Client/Client.ts"
import { validated } from "../../CheckAsEffect.ts"
import { checkCountRuns, type CountRunsOptions, type RunCounts } from "../../Protocol/RunCounts.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { type EngineError, type StoreError, ValidationError } from "../../Errors.ts"
import * as Alarm from "../../Execution/Alarm.ts"
import { encodeJson } from "../../Json.ts"
import * as Limits from "../../Limits.ts"
import { show } from "../../Show.ts"
import { allPages, LIST_PAGE, type Page, type PageQuery } from "../Pages.ts"
import { yieldFirst } from "../Yielding.ts"
import { NamedSignals } from "../NamedSignals.ts"
import type { ObservedActivity } from "../Store/RunActivity.ts"
import { Store, timeOf } from "../Store/Store.ts"
import { checkFilters, isSearch } from "./CheckFilters.ts"
import { explain } from "./Explain.ts"
import { LiveWorkers } from "./LiveWorkers.ts"
import * as RunAudit from "./RunAudit.ts"
import { awaitEnd, readSituation, type GiveUp, waitForRun, type WaitServices } from "./AwaitEnd.ts"
import { countMatchingRuns } from "./RunCounts.ts"
import * as RunInspection from "./RunInspection.ts"
import * as RunList from "./RunList.ts"
import * as RunLogs from "./RunLogs.ts"
import * as RunRows from "./RunRows.ts"
import { searchMatchingRuns, type Visibility } from "./RunSearch.ts"
import * as RunSweep from "./RunSweep.ts"
import * as SearchFill from "./SearchFill.ts"
import * as RunControl from "./RunControl.ts"
import { findStuck } from "./LastingProblems.ts"
import { countStuckRuns } from "./Stuck.ts"

/** The client's methods about runs. */
type RunsOfEnvironment = Pick<
  Raw<ClientApi<EffectKind>, EngineError>,
  | "getRun"
  | "listRuns"
  | "countRuns"
  | "getRunSteps"
  | "getRunAudit"
  | "getRunLogs"
  | "explain"
  | "waitForRun"
  | "cancelRun"
  | "retryRun"
  | "resumeRun"
  | "pauseRun"
  | "patchStep"
>

export interface RunsService {
  /** The runs of one environment. */
  readonly in: (environment: string) => RunsOfEnvironment
  /**
   * The matching runs. `visibility` only has an effect on a search. Without a search, that is, with at most one
   * function and one status as filters, the list has all matching runs: its reader must leave out those that the caller may not
   * see.
   */
  readonly list: (
    environment: string,
    options?: ListRunsOptions,
    visibility?: Visibility
  ) => Effect.Effect<ListRunsResult, EngineError>
  /** Counts the matching runs. `visibility` is for a caller that may not see all runs. */
  readonly count: (
    environment: string,
    options: CountRunsOptions,
    visibility?: Visibility
  ) => Effect.Effect<RunCounts, EngineError>
  /** A page of the steps of a run. */
  readonly stepsPage: (
    environment: string,
    runId: string,
    page: PageQuery
  ) => Effect.Effect<Page<RunStep>, EngineError>
  /** A page of the audit record of a run. */
  readonly auditPage: (
    environment: string,
    runId: string,
    page: PageQuery
  ) => Effect.Effect<Page<AuditEvent>, EngineError>
  /** A page of the log lines of a run. */
  readonly logsPage: (
    environment: string,
    runId: string,
    page: PageQuery
  ) => Effect.Effect<Page<RunLogLine>, EngineError>
  /** Waits until the run has ended, and returns the run; `undefined` if `giveUp` calls its listener first. */
  readonly awaitEnd: (
    environment: string,
    runId: string,
    giveUp: GiveUp
  ) => Effect.Effect<Run | undefined, EngineError>
  /** The name and the entity of the event that started a run; `undefined` for a run that was invoked. */
  readonly startedBy: (
    environment: string,
    runId: string
  ) => Effect.Effect<RunRows.StartedBy | undefined, StoreError>
  /** The environment of a run; `undefined` when there is no such run. */
  readonly environmentOfRun: (runId: string) => Effect.Effect<string | undefined, StoreError>
  /** Calls `listener` with what happens in runs, after each commit. Returns a function that removes the listener. */
  readonly observe: (listener: (activity: ReadonlyArray<ObservedActivity>) => void) => () => void
  /**
   * Counts the stuck runs: unfinished runs that cannot continue by themselves, see `Stuck.ts`. Reads every unfinished run.
   */
  readonly countStuck: Effect.Effect<number, StoreError>
  /** The runs that {@link countStuck} counts, 100 at most. */
  readonly findStuck: ReturnType<typeof findStuck>
}

export class Runs extends Context.Service<Runs, RunsService>()("@ironflow/node/Engine/Runs") {}

export const layer: Layer.Layer<Runs, StoreError, Store | LiveWorkers> = Layer.effect(
  Runs,
  Effect.gen(function* () {
    const store = yield* Store
    const workers = yield* LiveWorkers
    const services: WaitServices = {
      store,
      workers,
      scheduleTimeout: yield* Alarm.makeScheduleTimeout,
      endings: new NamedSignals()
    }
    const stop = store.onCommit(({ ended, endings, stale }) => {
      if (stale.has("ends")) services.endings.notifyAll(undefined)
      for (const runId of ended) services.endings.notify(runId, endings.get(runId))
    })
    yield* Effect.addFinalizer(() => Effect.sync(stop))
    yield* RunSweep.make(store)
    yield* RunLogs.make(store)
    yield* SearchFill.make(store)
    return make(services)
  })
)

const make = (services: WaitServices): RunsService => {
  const { store, workers } = services

  const stepsPage: RunsService["stepsPage"] = (environment, runId, { after, limit }) =>
    Effect.map(
      onRun(
        runId,
        Effect.andThen(
          checkCursor("getRunSteps", after, /^\d{0,9}$/),
          yieldFirst(
            Effect.suspend(() => {
              const reported = workers.running(environment, runId)
              return store.read(
                RunInspection.readRunSteps(environment, runId, { from: Number(after), limit, reported })
              )
            })
          )
        )
      ),
      ({ next, steps }) => ({ items: steps, ...(next === undefined ? {} : { nextCursor: String(next) }) })
    )

  const auditPage: RunsService["auditPage"] = (environment, runId, { after, limit }) =>
    Effect.map(
      onRun(
        runId,
        Effect.andThen(
          checkCursor("getRunAudit", after, /^\d{0,15}$/),
          store.read(RunAudit.readAuditRecord(environment, runId, { after: Number(after), limit }))
        )
      ),
      ({ events, next }) => ({ items: events, ...(next === undefined ? {} : { nextCursor: String(next) }) })
    )

  const logsPage: RunsService["logsPage"] = (environment, runId, page) =>
    onRun(
      runId,
      Effect.andThen(
        checkCursor("getRunLogs", page.after, /^\d{0,15}$/),
        RunLogs.logsPage(store, environment, runId, page)
      )
    )

  const list: RunsService["list"] = (environment, options = {}, visibility) =>
    Effect.flatMap(
      validated(() => ({
        limit: Limits.checkLimit("listRuns", options.limit ?? 50),
        filters: checkFilters(options),
        ...(options.cursor === undefined ? {} : { cursor: Limits.checkCursor("listRuns", options.cursor) })
      })),
      ({ filters, ...where }) => {
        const page = { environment, ...where }
        if (isSearch(filters)) return yieldFirst(searchMatchingRuns(store, { ...page, filters }, visibility))
        const { functionIds: [functionId] = [], statuses: [status] = [] } = filters
        return yieldFirst(
          RunList.listRuns(store, {
            ...page,
            ...(functionId === undefined ? {} : { functionId }),
            ...(status === undefined ? {} : { status })
          })
        )
      }
    )

  const count: RunsService["count"] = (environment, options, visibility) =>
    Effect.flatMap(
      validated(() => {
        const { filters, ...query } = checkCountRuns(options)
        return { ...query, environment, filters: checkFilters(filters, "countRuns") }
      }),
      (query) => yieldFirst(countMatchingRuns(store, query, visibility))
    )

  const runsIn = (environment: string): RunsOfEnvironment => ({
    getRun: (runId) => onRun(runId, yieldFirst(store.read(RunRows.getRun(environment, runId)))),
    listRuns: (options) => list(environment, options),
    countRuns: (options) => count(environment, options),
    getRunSteps: (runId) =>
      onRun(
        runId,
        yieldFirst(
          Effect.suspend(() =>
            RunInspection.getRunSteps(store, environment, runId, workers.running(environment, runId))
          )
        )
      ),
    getRunAudit: (runId) =>
      yieldFirst(allPages((after) => auditPage(environment, runId, { after, limit: LIST_PAGE }))),
    getRunLogs: (runId) =>
      yieldFirst(allPages((after) => logsPage(environment, runId, { after, limit: LIST_PAGE }))),
    explain: (runId) =>
      Effect.flatMap(onRun(runId, yieldFirst(readSituation(services, environment, runId))), (situation) =>
        Effect.map(timeOf(services.store), (now) => explain(situation, workers.workers(environment), now))
      ),
    waitForRun: (runId, { timeout } = {}) =>
      timeout === undefined || (timeout >= 0 && Number.isFinite(timeout))
        ? onRun(runId, waitForRun(services, environment, runId, timeout))
        : Effect.fail(
            new ValidationError(
              `The timeout of waitForRun must be a number of milliseconds, at least 0, got ${show(timeout)}`
            )
          ),
    cancelRun: (runId, reason) =>
      Effect.flatMap(
        validated(() => Limits.checkReason("cancelRun", reason)),
        (text) =>
          onRun(
            runId,
            store.write(
              RunControl.cancelRun(environment, runId, text === "" ? "Cancelled by a client" : text)
            )
          )
      ),
    retryRun: (runId, fromStep) =>
      onRun(runId, store.write(RunControl.retryRun(environment, runId, fromStep)), fromStep),
    resumeRun: (runId, fromStep) =>
      onRun(runId, store.write(RunControl.resumeRun(environment, runId, fromStep)), fromStep),
    pauseRun: (runId, reason) =>
      Effect.flatMap(
        validated(() => Limits.checkReason("pauseRun", reason)),
        (text) => onRun(runId, store.write(RunControl.pauseRun(environment, runId, text)))
      ),
    patchStep: (stepId, output, reason) =>
      Effect.flatMap(
        validated(() => {
          if (typeof stepId !== "string") {
            throw new ValidationError(`The step id must be a string, got ${show(stepId)}`)
          }
          const text = Limits.checkSize(
            `Output for step "${stepId}"`,
            encodeJson(output, `output for step "${stepId}"`) ?? "null",
            Limits.stepResultBytes
          )
          return { text, checkedReason: Limits.checkReason("patchStep", reason) }
        }),
        ({ text, checkedReason }) =>
          store.write(RunControl.patchStep(environment, stepId, text, checkedReason))
      )
  })

  return {
    in: runsIn,
    list,
    count,
    stepsPage,
    auditPage,
    logsPage,
    awaitEnd: (environment, runId, giveUp) => onRun(runId, awaitEnd(services, environment, runId, giveUp)),
    startedBy: (environment, runId) => store.read(RunRows.startedBy(environment, runId)),
    environmentOfRun: (runId) => store.read(RunRows.environmentOfRun(runId)),
    observe: (listener) =>
      store.onCommit(({ activity }) => void (activity.length > 0 && listener(activity)), {
        activity: "steps"
      }),
    countStuck: Effect.suspend(() => countStuckRuns(store, (id) => workers.findHolder(id))),
    findStuck: Effect.suspend(() => findStuck(store, (id) => workers.findHolder(id)))
  }
}

/** Checks the run id and, if it is given, `fromStep`; then runs `operation`. */
const onRun = <A, E>(
  runId: string,
  operation: Effect.Effect<A, E>,
  fromStep?: string
): Effect.Effect<A, E | ValidationError> =>
  Effect.andThen(
    validated(() => {
      Limits.checkName("run id", runId)
      Limits.checkStep(fromStep)
    }),
    operation
  )

const checkCursor = (method: string, cursor: string, format: RegExp): Effect.Effect<void, ValidationError> =>
  format.test(cursor)
    ? Effect.void
    : Effect.fail(
        new ValidationError(
          `Cursor ${show(cursor)} is not one that ${method} returned: pass the nextCursor of the previous page`
        )
      )
