/** Waits for a run to end. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { Run } from "../../Client/Client.ts"
import { type EngineError, TimeoutError } from "../../Errors.ts"
import type { ScheduleTimeout } from "../../Execution/Alarm.ts"
import { isTerminal } from "../../RunStatus.ts"
import { inTurn } from "../EventLoop.ts"
import type { NamedSignals } from "../NamedSignals.ts"
import { type StoreService, timeOf } from "../Store/Store.ts"
import type { EndedRunRecord } from "../Store/EndedRunRecord.ts"
import { explain } from "./Explain.ts"
import type { LiveWorkersService } from "./LiveWorkers.ts"
import * as RunInspection from "./RunInspection.ts"
import * as RunRows from "./RunRows.ts"
import { showMs } from "../../Show.ts"

/** Registers a listener, which is called when the wait is to be given up. Returns a function that removes the listener. */
export type GiveUp = (listener: () => void) => () => void

const neverGiveUp: GiveUp = () => () => undefined

export interface WaitServices {
  readonly store: StoreService
  readonly workers: LiveWorkersService
  readonly scheduleTimeout: ScheduleTimeout
  /** Signals the id of each run that has ended. If the signal carries the ending, the run need not be read. */
  readonly endings: NamedSignals<EndedRunRecord | undefined>
}

/** Waits until the run has ended, and returns the run. Returns `undefined` when `giveUp` called its listener first. */
export const awaitEnd = (
  { endings, store }: WaitServices,
  environment: string,
  runId: string,
  giveUp: GiveUp
): Effect.Effect<Run | undefined, EngineError> =>
  Effect.suspend(() => {
    let isGivenUp = false
    let wake = (_ending: EndedRunRecord | undefined): void => undefined
    const removeListener = giveUp(() => {
      isGivenUp = true
      wake(undefined)
    })
    const readIfEnded: Effect.Effect<Run | undefined, EngineError> = Effect.suspend(() => {
      const woken = Deferred.makeUnsafe<EndedRunRecord | undefined>()
      // wakes the waiting callers in turn, not all at once: many may wait for the same run, or for the same length of time
      wake = (ending) => inTurn("woken", () => void Deferred.doneUnsafe(woken, Exit.succeed(ending)))
      // listens before it reads the run, because the run may end in between
      const stopListening = endings.listen([runId], (ending) => wake(ending))
      return Effect.ensuring(
        Effect.flatMap(store.read(RunRows.getEndedRun(environment, runId)), (run) => {
          if (run !== undefined) return Effect.succeed(run)
          if (isGivenUp) return Effect.undefined
          return Effect.flatMap(Deferred.await(woken), (ending) => {
            if (ending !== undefined) return store.read(RunRows.showEnding(environment, ending))
            return isGivenUp
              ? Effect.undefined
              : Effect.flatMap(store.read(RunRows.getRun(environment, runId)), (run) =>
                  // the run may have been retried in the meantime
                  isTerminal(run.status) ? Effect.succeed(run) : readIfEnded
                )
          })
        }),
        Effect.sync(stopListening)
      )
    })
    return Effect.ensuring(readIfEnded, Effect.sync(removeListener))
  })

/**
 * Waits until the run has ended, and returns the run. Fails after `timeoutMs` with a `TimeoutError`, whose message says what the
 * run waits for.
 */
export const waitForRun = (
  services: WaitServices,
  environment: string,
  runId: string,
  timeoutMs: number | undefined
): Effect.Effect<Run, EngineError> =>
  Effect.flatMap(
    awaitEnd(
      services,
      environment,
      runId,
      timeoutMs === undefined ? neverGiveUp : (listener) => services.scheduleTimeout(timeoutMs, listener)
    ),
    (run) =>
      run === undefined ? failWithTimeout(services, environment, runId, timeoutMs ?? 0) : Effect.succeed(run)
  )

/** The situation of a run as `explain` needs it, with the steps that the run's worker reports. */
export const readSituation = ({ store, workers }: WaitServices, environment: string, runId: string) =>
  Effect.suspend(() =>
    store.read(RunInspection.getSituation(environment, runId, workers.running(environment, runId)))
  )

const failWithTimeout = (
  services: WaitServices,
  environment: string,
  runId: string,
  timeoutMs: number
): Effect.Effect<never, EngineError> =>
  Effect.flatMap(readSituation(services, environment, runId), (situation) =>
    Effect.flatMap(timeOf(services.store), (now) =>
      Effect.fail(
        new TimeoutError(
          `Run ${runId} has not ended within ${showMs(timeoutMs)}. Only the wait is over: the run itself is unchanged. ${explain(situation, services.workers.workers(environment), now).message}`,
          timeoutMs
        )
      )
    )
  )
