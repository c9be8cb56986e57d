/**
 * Makes sure that the registration in force of each function is one of a live worker. It is that of the worker whose process
 * started last. When that worker has left, and no live worker has the same registration, an older registration holds again: that
 * of the live worker whose process started last.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { annotate } from "../../EffectLogger.ts"
import type { StoreError, ValidationError } from "../../Errors.ts"
import { codeVersionOf } from "../../Versioning.ts"
import type { Restorable } from "../Functions/FunctionRows.ts"
import type { FunctionsService } from "../Functions/Functions.ts"
import { yieldToEventLoop } from "../Yielding.ts"
import type { ConnectedWorkers } from "./ConnectedWorkers.ts"
import { type Left, restorableOf } from "./LiveRegistrations.ts"
import { MAX_LEAVING_MS } from "./SharedWorkers.ts"

/**
 * How long the worker of the registration in force may be away before an older registration holds again, in milliseconds: it may
 * be restarting, or its network may be down.
 */
export const AwayMs = Context.Reference<number>("@ironflow/node/Engine/Workers/AwayMs", {
  defaultValue: () => 60_000
})

/** How many functions are looked at before other work may run. */
const FUNCTIONS_PER_PART = 500

/** How many functions a log line names. */
const MAX_NAMES = 20

export interface RestoredRegistrations {
  /** To be called when a worker has left for good, or was lost, after its session has ended. */
  readonly left: (worker: Left) => Effect.Effect<void>
  /** To be called when a worker may come back at once, or has left another engine. */
  readonly mayHaveLeft: (worker: Left) => void
  /**
   * To be called when a worker's registrations of these functions were not put in force. Looks within {@link AwayMs} whether live
   * workers have those that are.
   */
  readonly keptOut: (environment: string, functionIds: ReadonlyArray<string>) => void
}

export interface RestoredRegistrationsOptions {
  readonly connected: ConnectedWorkers
  readonly functions: FunctionsService
  /** Reads the workers of other engines now. */
  readonly readElsewhere: Effect.Effect<void, StoreError>
}

/** Checks until the scope ends. */
export const makeRestoredRegistrations = ({
  connected,
  functions,
  readElsewhere
}: RestoredRegistrationsOptions): Effect.Effect<RestoredRegistrations, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.Scope
    const awayMs = yield* AwayMs
    const clock = yield* Clock.Clock
    const runFork = Effect.runForkWith(yield* Effect.context<never>())
    const monotonicMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    /** When the registrations in force are to be checked, by environment and function id; milliseconds of the monotonic clock. */
    const dueAt = new Map<string, Map<string, number>>()

    /** For each of the functions whose registration in force no live worker has: the registration that may hold again. */
    const restorableIn = (environment: string, functionIds: ReadonlyArray<string>) =>
      Effect.gen(function* () {
        const liveOf = connected.liveRegistrations(environment)
        const restorable: Array<Restorable> = []
        for (const [i, id] of functionIds.entries()) {
          if (i % FUNCTIONS_PER_PART === FUNCTIONS_PER_PART - 1) yield* yieldToEventLoop
          const inForce = functions.find(environment, id)
          const one = inForce === undefined ? undefined : restorableOf(inForce, liveOf(id))
          if (one !== undefined) restorable.push(one)
        }
        return restorable
      })

    const restore = (
      environment: string,
      functionIds: ReadonlyArray<string>,
      hasWaited: boolean
    ): Effect.Effect<void, StoreError | ValidationError> =>
      Effect.gen(function* () {
        // news of workers of other engines may still be under way
        yield* readElsewhere
        const restorable = yield* restorableIn(environment, functionIds)
        if (restorable.length === 0) return
        const { restored, waiting } = yield* functions.restore(environment, restorable, hasWaited)
        checkLater(environment, waiting)
        if (restored.length === 0) return
        yield* annotate(
          Effect.logInfo(
            `The registration of ${namesOf(restored.map(({ id }) => id))} that was in force belongs to no live worker: the registration of the live worker that started last is in force again, with its triggers and schedules`
          ),
          { environment }
        )
        yield* functions.runFollowers
      })

    const tryRestore = (environment: string, functionIds: ReadonlyArray<string>, hasWaited: boolean) =>
      Effect.catch(restore(environment, functionIds, hasWaited), (error) =>
        Effect.andThen(
          Effect.logWarning(
            `The registrations of live workers could not be put in force again; trying again in ${awayMs / 1000} s`,
            error
          ),
          Effect.sync(() => checkLater(environment, functionIds))
        )
      )

    /** Checks, until nothing is left to check. */
    const checkWhenDue: Effect.Effect<void> = Effect.gen(function* () {
      while (dueAt.size > 0) {
        const next = Math.min(...[...dueAt.values()].flatMap((dues) => Math.min(...dues.values())))
        const now = monotonicMs()
        if (next > now) {
          yield* Effect.sleep(next - now)
          continue
        }
        for (const [environment, dues] of dueAt) {
          const ids = [...dues].filter(([, at]) => at <= now).map(([id]) => id)
          for (const id of ids) dues.delete(id)
          if (dues.size === 0) dueAt.delete(environment)
          if (ids.length > 0) yield* tryRestore(environment, ids, true)
        }
      }
    })

    let isChecking = false
    const checkLater = (environment: string, functionIds: ReadonlyArray<string>): void => {
      const at = monotonicMs() + awayMs
      for (const id of functionIds) {
        const dues = dueAt.get(environment) ?? new Map<string, number>()
        dueAt.set(environment, dues.set(id, at))
      }
      if (isChecking || dueAt.size === 0) return
      isChecking = true
      runFork(
        Effect.forkIn(
          Effect.ensuring(
            checkWhenDue,
            Effect.sync(() => void (isChecking = false))
          ),
          scope
        )
      )
    }

    /** The functions of a worker whose registration in force has the worker's code version. */
    const decidedBy = ({ codeVersions, environment }: Left): ReadonlyArray<string> =>
      [...codeVersions].flatMap(([id, version]) => {
        const inForce = functions.find(environment, id)
        return inForce !== undefined && codeVersionOf(inForce) === version ? [id] : []
      })

    return {
      left: (worker) =>
        Effect.suspend(() => {
          const ids = decidedBy(worker)
          if (ids.length === 0) return Effect.void
          const trying = Effect.interruptible(tryRestore(worker.environment, ids, false))
          return Effect.timeoutOrElse(trying, {
            duration: MAX_LEAVING_MS,
            orElse: () => Effect.sync(() => checkLater(worker.environment, ids))
          })
        }),
      mayHaveLeft: (worker) => checkLater(worker.environment, decidedBy(worker)),
      // a worker that reconnects often must not postpone the check
      keptOut: (environment, functionIds) =>
        checkLater(
          environment,
          functionIds.filter((id) => dueAt.get(environment)?.has(id) !== true)
        )
    }
  })

const namesOf = (functionIds: ReadonlyArray<string>): string => {
  const names = functionIds.slice(0, MAX_NAMES).map((id) => `"${id}"`)
  return functionIds.length > names.length
    ? `${names.join(", ")} and ${functionIds.length - names.length} more functions`
    : names.join(", ")
}
