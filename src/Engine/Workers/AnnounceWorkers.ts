/** Announces workers that come and go: in the log, and as system events. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { annotate } from "../../EffectLogger.ts"
import type { WorkerRegistration } from "../../Protocol/Worker.ts"
import { ShortLivedMap } from "../../ShortLivedMap.ts"
import type { SystemEventsService } from "../SystemEvents/SystemEvents.ts"
import { LEGACY_INSTANCE } from "./RemoteWorkers.ts"

/** In milliseconds: when a worker process registers again within this time, both registrations belong to the same reconnect. */
const SAME_RECONNECT_MS = 10_000

/** Maximum number of workers whose process is kept in memory. */
const MAX_KNOWN = 10_000

type Circumstance = "in this process" | "at the port" | "lost"
type WorkerChange = "connected" | "disconnected"

export interface Announcements {
  /** Announces that a worker has connected or disconnected. */
  readonly announce: (
    registration: WorkerRegistration,
    change: WorkerChange,
    circumstance: Circumstance
  ) => Effect.Effect<void>
  /**
   * Announces that a worker outside this process has connected. `instance` identifies the worker's process. A worker that moves
   * back and forth between engines is logged once by each of them. A worker that registers twice for one reconnect, because no
   * answer came, is logged once.
   */
  readonly announceAtPort: (
    registration: WorkerRegistration,
    outdatedIds: ReadonlyArray<string>,
    options: { readonly hasMovedHere: boolean; readonly instance: string | undefined }
  ) => Effect.Effect<void>
}

export const makeAnnouncements = (system: SystemEventsService, clock: Clock.Clock): Announcements => {
  /**
   * The process of each worker that has connected to this engine, by worker id, even after the worker has moved to another engine:
   * behind a load balancer, workers come back again and again.
   */
  const knownProcesses = new ShortLivedMap<string, { readonly instance: string; readonly at: number }>()
  const monotonicMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const emit = ({ environment, workerId }: WorkerRegistration, change: WorkerChange): Effect.Effect<void> =>
    Effect.sync(() =>
      system.announce(
        environment,
        `system.worker.${workerId}.${change}`,
        () => ({ id: workerId, status: change }),
        undefined,
        { action: "worker:read", resource: `worker:${workerId}` }
      )
    )
  const announce: Announcements["announce"] = (registration, change, circumstance) => {
    if (change === "disconnected") knownProcesses.delete(registration.workerId)
    return Effect.andThen(logWorker(registration, change, circumstance), emit(registration, change))
  }
  return {
    announce,
    announceAtPort: (registration, outdatedIds, { hasMovedHere, instance }) => {
      const { environment, workerId } = registration
      const lastProcess = knownProcesses.get(workerId)
      const isSameProcess = instance !== undefined && lastProcess?.instance === instance
      if (hasMovedHere && isSameProcess) {
        const line = `Worker ${workerId} has moved to this engine again`
        return annotate(Effect.logDebug(line), { worker: workerId, environment })
      }
      if (
        isSameProcess &&
        instance !== LEGACY_INSTANCE &&
        monotonicMs() - lastProcess.at < SAME_RECONNECT_MS
      ) {
        const line = `Worker ${workerId} has registered again`
        return Effect.andThen(
          annotate(Effect.logDebug(line), { worker: workerId, environment }),
          emit(registration, "connected")
        )
      }
      if (knownProcesses.size >= MAX_KNOWN) knownProcesses.clear()
      if (instance !== undefined) knownProcesses.set(workerId, { instance, at: monotonicMs() })
      return Effect.andThen(
        logOutdatedFunctions(workerId, outdatedIds),
        announce(registration, "connected", "at the port")
      )
    }
  }
}

/** Logs the functions whose latest version is not the one that this worker has registered. */
export const logOutdatedFunctions = (
  workerId: string,
  outdatedIds: ReadonlyArray<string>
): Effect.Effect<void> =>
  outdatedIds.length === 0
    ? Effect.void
    : Effect.logInfo(
        `Worker ${workerId} registered a version of ${outdatedIds.map((id) => `"${id}"`).join(", ")} that does not become the latest one: the latest version is that of a worker that was started later, or (for a function that pins its runs) of another worker that is still connected`
      )

/** Logs the functions that a worker has taken over from push endpoints, each with the URL of its endpoint. */
export const logTakenOver = (
  workerId: string,
  taken: ReadonlyArray<{ readonly id: string; readonly url: string }>
): Effect.Effect<void> =>
  Effect.forEach(
    new Set(taken.map(({ url }) => url)),
    (url) => {
      const ids = taken.filter((one) => one.url === url).map(({ id }) => `"${id}"`)
      const which = ids.length === 1 ? "this function" : "these functions"
      return Effect.logInfo(
        `Worker ${workerId} has taken over ${ids.join(", ")} from the push endpoint ${url}, which is no longer called for ${which}. ` +
          `To give back ${which}, register the endpoint again: ironflow functions register ${url}`
      )
    },
    { discard: true }
  )

/**
 * Logs one line for a worker that connects or disconnects. For a worker in the engine's own process it is a debug line, because
 * that worker comes and goes with the engine.
 */
const logWorker = (
  { environment, functions, hostname, maxConcurrentJobs, workerId }: WorkerRegistration,
  change: WorkerChange,
  circumstance: Circumstance
): Effect.Effect<void> => {
  const fields = { worker: workerId, environment }
  if (change === "connected") {
    const ids = functions.slice(0, 20).map(({ id }) => id)
    const more = functions.length > ids.length ? ` and ${functions.length - ids.length} more` : ""
    const line =
      `Worker ${workerId} has connected from ${hostname}: ${maxConcurrentJobs === 1 ? "1 turn" : `${maxConcurrentJobs} turns`} at once, ` +
      (ids.length === 0
        ? "no functions"
        : `${ids.length === 1 ? "function" : "functions"} ${ids.join(", ")}${more}`)
    return annotate(circumstance === "in this process" ? Effect.logDebug(line) : Effect.logInfo(line), fields)
  }
  if (circumstance === "lost") {
    return annotate(
      Effect.logWarning(
        `Worker ${workerId} was lost: nothing was heard of it for too long, or its process has ended`
      ),
      fields
    )
  }
  const line = `Worker ${workerId} has disconnected`
  return annotate(circumstance === "in this process" ? Effect.logDebug(line) : Effect.logInfo(line), fields)
}
