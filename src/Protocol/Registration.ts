/** A function as it is announced to an engine. */
import { resolveRetry } from "../Backoff.ts"
import { functionCodeHash } from "../CodeHash.ts"
import { keptRuns } from "../KeepRuns.ts"
import { type AnyFunction, functionTimeout } from "../Function.ts"
import type { FunctionRegistration, WorkerRegistration } from "./Worker.ts"

/** What every Ironflow server reads of the registration of a worker. */
export const announcement = ({
  functions,
  hostname,
  labels,
  maxConcurrentJobs,
  version,
  workerId
}: WorkerRegistration) => ({
  worker_id: workerId,
  hostname,
  function_ids: functions.map(({ id }) => id),
  max_concurrent_jobs: maxConcurrentJobs,
  labels,
  version
})

/** The registration of a function, with every default filled in. */
export const toRegistration = (fn: AnyFunction): FunctionRegistration => {
  const { config } = fn
  return {
    id: config.id,
    name: config.name ?? config.id,
    triggers: config.triggers.map(({ event, expression, cron, overlap, timezone }) => ({
      ...(event === undefined ? {} : { event }),
      ...(expression === undefined ? {} : { expression }),
      ...(cron === undefined ? {} : { cron }),
      ...(timezone === undefined ? {} : { timezone }),
      ...(overlap === undefined ? {} : { overlap })
    })),
    retry: resolveRetry(config.retry),
    timeoutMs: functionTimeout(fn),
    mode: config.mode ?? "pull",
    secrets: config.secrets ?? [],
    codeHash: functionCodeHash(fn),
    ...(config.concurrency === undefined ? {} : { concurrency: config.concurrency }),
    ...(config.actorKey === undefined ? {} : { actorKey: config.actorKey }),
    ...(config.searchBy === undefined ? {} : { searchBy: config.searchBy }),
    ...(config.recording === undefined ? {} : { recording: config.recording }),
    ...(config.recordingRetention === undefined ? {} : { recordingRetention: config.recordingRetention }),
    ...(config.metadata === undefined ? {} : { metadata: config.metadata }),
    ...(config.version === undefined ? {} : { version: config.version }),
    ...(config.versioning === undefined ? {} : { versioning: config.versioning }),
    ...(config.keepRuns === undefined ? {} : { keepRuns: keptRuns(config.keepRuns, "`keepRuns`") })
  }
}
