/** Announces workers that come and go: in the log, and as system events. */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { annotated } from "../../EffectLogger.ts"
import type { WorkerRegistration } from "../../Protocol/Worker.ts"
import { ShortLivedMap } from "../../ShortLivedMap.ts"
import type { SystemEventsService } from "../SystemEvents/SystemEvents.ts"
import { LEGACY } from "./RemoteWorkers.ts"

/** In milliseconds: a registration of a worker process within this time after the last one belongs to the same reconnect. */
const SAME_RECONNECT_MS = 10_000

/** Maximum number of workers whose process is kept in memory. */
const MAX_KNOWN = 10_000

type How = "in this process" | "at the port" | "lost"
type What = "connected" | "disconnected"

export interface Announcements {
  /** Announces that a worker has connected or disconnected. */
  readonly announce: (registration: WorkerRegistration, what: What, how: How) => Effect.Effect<void>
  /**
   * Announces that a worker outside this process has connected. `instance` identifies the worker's process. A worker that moves
   * back and forth between engines is logged once by each of them. A worker that registers twice for one reconnect, because no
   * answer came, is logged once.
   */
  readonly announceAtPort: (
    registration: WorkerRegistration,
    keptNewer: ReadonlyArray<string>,
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
  const emit = ({ environment, workerId }: WorkerRegistration, what: What): Effect.Effect<void> =>
    Effect.sync(() =>
      system.announce(
        environment,
        `system.worker.${workerId}.${what}`,
        () => ({ id: workerId, status: what }),
        undefined,
        { action: "worker:read", resource: `worker:${workerId}` }
      )
    )
  const announce: Announcements["announce"] = (registration, what, how) => {
    if (what === "disconnected") knownProcesses.delete(registration.workerId)
    return Effect.andThen(logWorker(registration, what, how), emit(registration, what))
  }
  return {
    announce,
    announceAtPort: (registration, keptNewer, { hasMovedHere, instance }) => {
      const { environment, workerId } = registration
      const lastProcess = knownProcesses.get(workerId)
      const isSame = instance !== undefined && lastProcess?.instance === instance
      if (hasMovedHere && isSame) {
        const line = `Worker ${workerId} has moved to this engine again`
        return annotated(Effect.logDebug(line), { worker: workerId, environment })
      }
      if (isSame && instance !== LEGACY && monotonicMs() - lastProcess.at < SAME_RECONNECT_MS) {
        const line = `Worker ${workerId} has registered again`
        return Effect.andThen(
          annotated(Effect.logDebug(line), { worker: workerId, environment }),
          emit(registration, "connected")
        )
      }
      if (knownProcesses.size >= MAX_KNOWN) knownProcesses.clear()
      if (instance !== undefined) knownProcesses.set(workerId, { instance, at: monotonicMs() })
      return Effect.andThen(
        logKeptNewer(workerId, keptNewer),
        announce(registration, "connected", "at the port")
      )
    }
  }
}

/** Logs the functions of which a worker has not registered the latest version. */
export const logKeptNewer = (workerId: string, keptNewer: ReadonlyArray<string>): Effect.Effect<void> =>
  keptNewer.length === 0
    ? Effect.void
    : Effect.logInfo(
        `Worker ${workerId} registered a version of ${keptNewer.map((id) => `"${id}"`).join(", ")} that does not become the latest one: the latest version is that of a worker that was started later, or (for a function that pins its runs) of another worker that is still connected`
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
  what: What,
  how: How
): Effect.Effect<void> => {
  const fields = { worker: workerId, environment }
  if (what === "connected") {
    const ids = functions.slice(0, 20).map(({ id }) => id)
    const more = functions.length > ids.length ? ` and ${functions.length - ids.length} more` : ""
    const line =
      `Worker ${workerId} has connected from ${hostname}: ${maxConcurrentJobs} turns at once, ` +
      (ids.length === 0 ? "no functions" : `functions ${ids.join(", ")}${more}`)
    return annotated(how === "in this process" ? Effect.logDebug(line) : Effect.logInfo(line), fields)
  }
  if (how === "lost") {
    return annotated(
      Effect.logWarning(
        `Worker ${workerId} was lost: nothing was heard of it for too long, or its process has ended`
      ),
      fields
    )
  }
  const line = `Worker ${workerId} has disconnected`
  return annotated(how === "in this process" ? Effect.logDebug(line) : Effect.logInfo(line), fields)
}
