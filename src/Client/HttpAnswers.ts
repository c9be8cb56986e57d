/**
 * Reads what any Ironflow server answers, leniently: fields in either letter case, absent ones with their defaults (a
 * server leaves out what is zero or empty), 64-bit integers as text, run statuses in every spelling.
 *
 * Readers return `undefined` for what cannot be read.
 */
import type {
  EmitResult,
  AuditEvent,
  Explanation,
  FunctionInfo,
  DamagedRun,
  ListRunsResult,
  PublishResult,
  Run,
  RunError,
  RunStep,
  ServerCapabilities,
  TopicInfo,
  TopicStats,
  WorkerInfo
} from "./Client.ts"
import { isObject, numberOf } from "../Json.ts"
import { decodeRunStatus } from "../Protocol/Http/RunJson.ts"
import type { RunStatus } from "../RunStatus.ts"
import { revive } from "../Result.ts"
import { overlaps } from "../Overlap.ts"
import type { StepStatus } from "../StepStatus.ts"

export type Fields = { readonly [name: string]: unknown }

/** The field in lower camel case, else in snake case. */
export const field = (of: Fields, name: string): unknown => {
  if (Object.hasOwn(of, name)) return of[name]
  const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  return Object.hasOwn(of, snake) ? of[snake] : undefined
}

export const text = (of: Fields, name: string): string | undefined => {
  const value = field(of, name)
  return typeof value === "string" ? value : undefined
}

/** Text that is not empty: absent and empty are the same on the wire. */
export const filled = (of: Fields, name: string): string | undefined => text(of, name) || undefined

export const number = (of: Fields, name: string): number => {
  const value = numberOf(field(of, name))
  return Number.isFinite(value) ? value : 0
}

export const list = (of: Fields, name: string): ReadonlyArray<unknown> => {
  const value = field(of, name)
  return Array.isArray(value) ? value : []
}

const texts = (of: Fields, name: string): Array<string> =>
  list(of, name).filter((item) => typeof item === "string")

export const each = <A>(values: ReadonlyArray<unknown>, read: (value: unknown) => A | undefined): Array<A> =>
  values.flatMap((value) => read(value) ?? [])

/** Leaves out what is `undefined`. */
export const defined = <A extends object>(fields: A): { [K in keyof A]: Exclude<A[K], undefined> } =>
  // what is left has no member that is `undefined`, which is what the type says
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never

export const readEmitted = (answer: unknown): EmitResult | undefined =>
  isObject(answer)
    ? {
        runIds: texts(answer, "runIds"),
        eventId: text(answer, "eventId") ?? text(answer, "id") ?? "",
        ...(field(answer, "position") === undefined ? {} : { position: number(answer, "position") })
      }
    : undefined

export const readManyEmitted = (answer: unknown): Array<EmitResult> =>
  isObject(answer) ? each(list(answer, "results"), readEmitted) : []

export const readPublished = (answer: unknown): PublishResult | undefined =>
  isObject(answer)
    ? { eventId: text(answer, "eventId") ?? "", sequence: number(answer, "sequence") }
    : undefined

export const readCapabilities = (answer: unknown): ServerCapabilities | undefined =>
  isObject(answer)
    ? {
        transports: texts(answer, "transports"),
        features: texts(answer, "features"),
        version: text(answer, "version") ?? ""
      }
    : undefined

export const readTopics = (answer: unknown): Array<TopicInfo> | undefined =>
  isObject(answer)
    ? each(list(answer, "topics"), (topic) =>
        isObject(topic)
          ? {
              name: text(topic, "name") ?? "",
              messageCount: number(topic, "messageCount"),
              consumerCount: number(topic, "consumerCount"),
              ...defined({
                firstMessageAt: filled(topic, "firstMessageAt"),
                lastMessageAt: filled(topic, "lastMessageAt")
              })
            }
          : undefined
      )
    : undefined

export const readTopicStats = (answer: unknown, topic: string): TopicStats | undefined =>
  isObject(answer)
    ? {
        name: filled(answer, "name") ?? topic,
        messageCount: number(answer, "messageCount"),
        consumerCount: number(answer, "consumerCount"),
        lag: number(answer, "lag"),
        firstSeq: number(answer, "firstSeq"),
        lastSeq: number(answer, "lastSeq")
      }
    : undefined

export const readRun = (answer: unknown): Run | undefined => {
  if (!isObject(answer)) return undefined
  const id = text(answer, "id")
  if (id === undefined) return undefined
  const createdAt = text(answer, "createdAt") ?? ""
  return {
    id,
    functionId: text(answer, "functionId") ?? "",
    eventId: text(answer, "eventId") ?? "",
    status: readStatus(answer),
    attempt: number(answer, "attempt"),
    maxAttempts: number(answer, "maxAttempts"),
    createdAt,
    updatedAt: text(answer, "updatedAt") ?? createdAt,
    ...defined({
      input: field(answer, "input"),
      output: readOutput(answer),
      error: readError(field(answer, "error")),
      workerId: filled(answer, "workerId"),
      actorId: filled(answer, "actorId"),
      parentRunId: filled(answer, "parentRunId"),
      pauseReason: filled(answer, "pauseReason"),
      startedAt: filled(answer, "startedAt"),
      endedAt: filled(answer, "endedAt")
    })
  }
}

/** The run in the answer to a request to pause it, where there is one. */
export const readPaused = (answer: unknown): Run | undefined =>
  isObject(answer) ? readRun(field(answer, "run")) : undefined

/** `outputHasErrors` is what our engine adds. */
const readOutput = (answer: Fields): unknown => {
  const output = field(answer, "output")
  return field(answer, "outputHasErrors") === true ? revive(output) : output
}

/** `state` is what our engine adds: exact where `status` has fewer words. */
const readStatus = (run: Fields): RunStatus => {
  const said = filled(run, "state") ?? filled(run, "status")
  if (said === undefined || /unspecified$/i.test(said)) return "pending"
  return decodeRunStatus(said) ?? "failed"
}

const readError = (error: unknown): RunError | undefined => {
  if (typeof error === "string" && error !== "") return { message: error, code: "UNKNOWN_ERROR" }
  if (!isObject(error)) return undefined
  const { details, retryable } = error
  return {
    message: text(error, "message") ?? "",
    code: filled(error, "code") ?? "UNKNOWN_ERROR",
    ...defined({
      name: filled(error, "name"),
      stack: filled(error, "stack"),
      retryable: typeof retryable === "boolean" ? retryable : undefined,
      details,
      cause: readError(field(error, "cause"))
    })
  }
}

export const readRuns = (answer: unknown): ListRunsResult | undefined => {
  if (!isObject(answer)) return undefined
  const nextCursor = filled(answer, "nextCursor")
  const damaged = list(answer, "damaged")
  return {
    runs: each(list(answer, "runs"), readRun),
    ...(damaged.length === 0 ? {} : { damaged: each(damaged, readDamagedRun) }),
    totalCount: number(answer, "totalCount"),
    ...(nextCursor === undefined ? {} : { nextCursor })
  }
}

const readDamagedRun = (run: unknown): DamagedRun | undefined => {
  const id = isObject(run) ? text(run, "id") : undefined
  return id === undefined || !isObject(run) ? undefined : { id, message: text(run, "message") ?? "" }
}

export const readSteps = (answer: unknown): Array<RunStep> | undefined =>
  isObject(answer) ? each(list(answer, "steps"), readStep) : undefined

const readStep = (step: unknown): RunStep | undefined => {
  if (!isObject(step)) return undefined
  const id = text(step, "id") ?? text(step, "stepId")
  if (id === undefined) return undefined
  return {
    id,
    name: text(step, "name") ?? id,
    kind: filled(step, "kind") ?? filled(step, "type") ?? filled(step, "stepType") ?? "run",
    status: stepStatus(text(step, "status") ?? ""),
    attempt: number(step, "attempt"),
    ...defined({
      output: readOutput(step),
      error: readError(field(step, "error")),
      startedAt: filled(step, "startedAt"),
      endedAt: filled(step, "endedAt") ?? filled(step, "completedAt"),
      dueAt: filled(step, "dueAt")
    })
  }
}

const stepStatus = (said: string): StepStatus => {
  const word = said.toLowerCase().replace(/^step_status_/, "")
  return word === "completed" || word === "failed" ? word : "waiting"
}

export const readAudit = (answer: unknown): Array<AuditEvent> | undefined =>
  isObject(answer) ? each(list(answer, "events"), readAuditEvent) : undefined

const readAuditEvent = (event: unknown): AuditEvent | undefined => {
  if (!isObject(event)) return undefined
  const at = text(event, "at")
  const type = text(event, "type")
  const details = field(event, "details")
  if (at === undefined || type === undefined) return undefined
  return {
    at,
    type,
    ...defined({ stepName: filled(event, "stepName") }),
    details: isObject(details) ? details : {}
  }
}

export const readExplanation = (answer: unknown): Explanation | undefined => {
  if (!isObject(answer)) return undefined
  const code = text(answer, "code")
  const details = field(answer, "details")
  if (code === undefined) return undefined
  return {
    runId: text(answer, "runId") ?? "",
    status: readStatus(answer),
    code,
    message: text(answer, "message") ?? "",
    details: isObject(details) ? details : {}
  }
}

export const readFunctions = (answer: unknown): Array<FunctionInfo> | undefined =>
  isObject(answer) ? each(list(answer, "functions"), readFunction) : undefined

const readFunction = (fn: unknown): FunctionInfo | undefined => {
  if (!isObject(fn)) return undefined
  const id = text(fn, "id")
  if (id === undefined) return undefined
  const metadata = field(fn, "metadata")
  const createdAt = text(fn, "createdAt") ?? ""
  return {
    id,
    name: filled(fn, "name") ?? id,
    triggers: each(list(fn, "triggers"), (trigger) =>
      isObject(trigger)
        ? defined({
            event: filled(trigger, "event"),
            expression: filled(trigger, "expression"),
            cron: filled(trigger, "cron"),
            timezone: filled(trigger, "timezone"),
            overlap: overlaps.find((overlap) => overlap === trigger["overlap"])
          })
        : undefined
    ),
    version: number(fn, "version"),
    codeHash: filled(fn, "codeHash") ?? (isObject(metadata) ? (text(metadata, CODE_HASH_KEY) ?? "") : ""),
    createdAt,
    updatedAt: text(fn, "updatedAt") ?? createdAt
  }
}

/** Where workers put the hash of a function's code in its metadata. */
export const CODE_HASH_KEY = "__ironflow_code_hash"

export const readWorkers = (answer: unknown): Array<WorkerInfo> | undefined =>
  isObject(answer) ? each(list(answer, "workers"), readWorker) : undefined

const readWorker = (worker: unknown): WorkerInfo | undefined => {
  if (!isObject(worker)) return undefined
  const id = text(worker, "id")
  if (id === undefined) return undefined
  const labels = field(worker, "labels")
  return {
    id,
    hostname: text(worker, "hostname") ?? "",
    functionIds: texts(worker, "functionIds"),
    maxConcurrentJobs: number(worker, "maxConcurrent") || number(worker, "maxConcurrentJobs"),
    activeJobs: number(worker, "activeJobs"),
    labels: isObject(labels)
      ? Object.fromEntries(Object.entries(labels).map(([name, value]) => [name, String(value)]))
      : {},
    transport: text(worker, "transport") ?? "",
    registeredAt: text(worker, "registeredAt") ?? ""
  }
}

export const readHealth = (answer: unknown): string | undefined =>
  isObject(answer) ? text(answer, "status") : undefined
