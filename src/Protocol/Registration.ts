/** What a worker tells an engine about itself and its functions when it registers. */
import { resolveRetry } from "../Backoff.ts"
import { functionCodeHash } from "../CodeHash.ts"
import { keptRuns } from "../KeepRuns.ts"
import { jsonSchemaOf } from "../EffectSchema.ts"
import { type AnyFunction, functionTimeout } from "../Function.ts"
import * as Limits from "../Limits.ts"
import type { AnySchema } from "../StandardSchema.ts"
import type { Trigger } from "../Trigger.ts"
import type { FunctionRegistration, WorkerRegistration } from "./Worker.ts"

/** The part of a worker's registration that every Ironflow server reads. */
export const legacyRegistration = ({
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

/** The registrations of a program's functions. */
export const toRegistrations = (functions: Iterable<AnyFunction>): Array<FunctionRegistration> => {
  const registrations = Array.from(functions, toRegistration)
  // schemas are only for display: leave them out if they would make the registration too large
  const bytes = Buffer.byteLength(JSON.stringify(registrations))
  return bytes <= Limits.registrationBytes / 2 ? registrations : registrations.map(withoutSchemas)
}

/** The registration of a function, with all defaults. */
export const toRegistration = (fn: AnyFunction): FunctionRegistration => {
  const { config } = fn
  const registration: FunctionRegistration = {
    id: config.id,
    name: config.name ?? config.id,
    triggers: config.triggers.map((trigger) => registeredTrigger(fn, trigger)),
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
  return JSON.stringify(registration.triggers).length <= Limits.functionSchemaBytes
    ? registration
    : withoutSchemas(registration)
}

type RegisteredTrigger = FunctionRegistration["triggers"][number]

const registeredTrigger = (fn: AnyFunction, trigger: Trigger): RegisteredTrigger => {
  const { event, expression, cron, overlap, timezone } = trigger
  const description = event === undefined || cron !== undefined ? undefined : descriptionOf(fn, event)
  const schema = description?.schema === undefined ? undefined : jsonSchemaOf(description.schema)
  return {
    ...(event === undefined ? {} : { event }),
    ...(expression === undefined ? {} : { expression }),
    ...(cron === undefined ? {} : { cron }),
    ...(timezone === undefined ? {} : { timezone }),
    ...(overlap === undefined ? {} : { overlap }),
    ...(schema === undefined ? {} : { schema }),
    ...(schema === undefined || description?.version === undefined ? {} : { version: description.version })
  }
}

/** The schema of an event's data and its version, from the event's definition, or else from the function. */
const descriptionOf = (
  { config: { definitions = [], schema } }: AnyFunction,
  event: string
): { readonly schema?: AnySchema | undefined; readonly version?: number } =>
  definitions.find(({ name }) => name === event) ?? { schema }

const withoutSchemas = (registration: FunctionRegistration): FunctionRegistration => ({
  ...registration,
  triggers: registration.triggers.map(({ schema: _, version: _of, ...trigger }) => trigger)
})
