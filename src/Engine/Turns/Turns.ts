/**
 * Takes reports of turns from callers that have no session of a worker. A turn is the time between two waits of a run, in which a
 * worker executes it; each turn has a job id, and whoever knows this id may report on the turn.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { StoreError } from "../../Errors.ts"
import type { TurnAck, TurnReport } from "../../Protocol/Worker.ts"
import { environmentOfRun } from "../Runs/RunRows.ts"
import { Counters } from "../Store/Counters.ts"
import { Store } from "../Store/Store.ts"
import * as ExtendLeases from "./ExtendLeases.ts"
import * as Reports from "./Reports.ts"

/** Called with reports and their answers. `environment` is `undefined` when the caller did not name the environment. */
type ReportListener = (
  reports: ReadonlyArray<TurnReport>,
  acks: ReadonlyArray<TurnAck>,
  environment: string | undefined
) => void

export interface TurnsService {
  /**
   * Applies reports of turns, in the environment if one is given. `revokesOnPause`: the worker does not understand pauses, so its
   * job loses its lease when the run is to be paused.
   */
  readonly report: (
    reports: ReadonlyArray<TurnReport>,
    environment?: string,
    options?: { readonly revokesOnPause?: boolean }
  ) => Effect.Effect<ReadonlyArray<TurnAck>, StoreError>
  /** Calls `listener` with the reports that {@link report} has applied. Returns a function that removes the listener. */
  readonly onReported: (listener: ReportListener) => () => void
  /** Extends leases, in the environment if one is given. Returns the job ids whose lease is gone. */
  readonly extend: (
    jobIds: ReadonlyArray<string>,
    leaseMs: number,
    environment?: string
  ) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Notes that the handler of the run went on after its turn had ended. For `lingerMs`, see `WorkerSession.late`. */
  readonly noteHandlerWentOn: (
    runId: string,
    lingerMs: number,
    environment?: string
  ) => Effect.Effect<void, StoreError>
  /** Counts a report or a renewal that was refused before it reached the store. */
  readonly countStale: (what: "staleReports" | "staleRenewals") => void
}

export class Turns extends Context.Service<Turns, TurnsService>()("@ironflow/node/Engine/Turns") {}

export const layer: Layer.Layer<Turns, never, Store | Counters> = Layer.effect(
  Turns,
  Effect.gen(function* () {
    const store = yield* Store
    const counters = yield* Counters
    const listeners = new Set<ReportListener>()
    return Turns.of({
      report: (reports, environment, { revokesOnPause = false } = {}) =>
        Effect.tap(
          environment === undefined
            ? Reports.applyInAnyEnvironment(store, reports, { revokesOnPause })
            : Reports.applyReports(store, environment, reports, { revokesOnPause }),
          (acks) =>
            Effect.sync(() => {
              for (const listener of listeners) listener(reports, acks, environment)
            })
        ),
      onReported: (listener) => {
        listeners.add(listener)
        return () => void listeners.delete(listener)
      },
      extend: (jobIds, leaseMs, environment) =>
        environment === undefined
          ? ExtendLeases.extendInAnyEnvironment(store, jobIds, leaseMs)
          : store.write(ExtendLeases.extendLeases(environment, jobIds, leaseMs)),
      noteHandlerWentOn: (runId, lingerMs, environment) =>
        Effect.flatMap(
          environment === undefined ? store.read(environmentOfRun(runId)) : Effect.succeed(environment),
          (found) =>
            found === undefined ? Effect.void : store.write(Reports.noteHandlerWentOn(found, runId, lingerMs))
        ),
      countStale: (what) => counters.count(what)
    })
  })
)
