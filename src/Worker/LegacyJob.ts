/**
 * Makes a job from the assignment of a legacy server.
 *
 * Such a server only stores which steps have completed, and their output. So everything else that a run must
 * remember from turn to turn is stored as completed steps too:
 *
 * ```
 * <step>:failed      the step has failed for good; the output is the error
 * <step>:retry:<n>   the delay after the n-th failure has passed
 * <step>:pending     when the step is due, and how often it has failed
 * ```
 */
import type { SerializedError } from "../Errors.ts"
import { type JsonText, isObject } from "../Json.ts"
import type { Job, JournalEntry, OpenStep, Outcome } from "../Protocol/Worker.ts"
import { fromLegacyOutput } from "../ResultEncoding.ts"

/** A step that an earlier turn has left open. */
export interface PendingStep {
  /** When the step is due, in epoch milliseconds. */
  readonly dueAt: number
  /** How many attempts have failed so far. */
  readonly failures: number
}

/** Proves the right to report on a run; repeated in every update. */
export interface Fence {
  readonly execution_seq: number | undefined
  readonly lease_token: string
}

export interface LegacyJob {
  readonly job: Job
  readonly fence: Fence | undefined
  /** The number of steps that were stored before this turn, for `step_offset`. */
  readonly stepBase: number
  readonly pendingSteps: ReadonlyMap<string, PendingStep>
}

/**
 * How long a turn with suspended steps stays alive after the last activity of its handler, in milliseconds. A legacy
 * server cannot be told that a turn ended too early.
 */
const LINGER_MS = 50

export const failedId = (stepKey: string): string => `${stepKey}:failed`
export const retryId = (stepKey: string, failures: number): string => `${stepKey}:retry:${failures}`
export const pendingId = (stepKey: string): string => `${stepKey}:pending`

/**
 * Reads the job of an assignment. If something is wrong with the assignment, returns a string that says what. `nowMs`
 * is in epoch milliseconds.
 */
export const readJob = (assignment: unknown, environment: string, nowMs: number): LegacyJob | string => {
  if (!isObject(assignment)) return "it is not an object"
  const { job_id, run_id, function_id, event, attempt, context, execution_seq, lease_token } = assignment
  if (typeof job_id !== "string" || job_id === "") return "`job_id` must be a non-empty string"
  if (typeof run_id !== "string" || run_id === "") return "`run_id` must be a non-empty string"
  if (typeof function_id !== "string") return "`function_id` must be a string"
  if (!isObject(event) || typeof event.id !== "string" || typeof event.name !== "string") {
    return "`event` must be an object with the strings `id` and `name`"
  }
  const timestamp = typeof event.timestamp === "string" ? Date.parse(event.timestamp) : Number.NaN
  if (Number.isNaN(timestamp)) return "`event.timestamp` must be a time in ISO format"

  const progress = readSteps(assignment.completed_steps, run_id)
  const secrets = isObject(context) && isObject(context.secrets) ? context.secrets : undefined
  const base = Number(assignment.step_sequence_base ?? 0)
  return {
    job: {
      jobId: job_id,
      runId: run_id,
      functionId: function_id,
      environment,
      attempt: Number.isInteger(attempt) && Number(attempt) >= 1 ? Number(attempt) : 1,
      generation: 0,
      event: {
        id: event.id,
        name: event.name,
        version: Number.isInteger(event.version) && Number(event.version) >= 1 ? Number(event.version) : 1,
        data: JSON.stringify(event.data ?? null),
        timestamp,
        ...(isObject(event.metadata) ? { metadata: JSON.stringify(event.metadata) } : {}),
        ...(typeof event.source === "string" ? { source: event.source } : {}),
        ...(typeof event.idempotency_key === "string" ? { idempotencyKey: event.idempotency_key } : {})
      },
      journal: progress.journal,
      open: openSteps(progress, nowMs),
      lingerMs: LINGER_MS,
      createdAt: nowMs,
      ...(secrets === undefined
        ? {}
        : {
            secrets: Object.fromEntries(Object.entries(secrets).map(([name, value]) => [name, String(value)]))
          })
    },
    fence:
      typeof lease_token === "string"
        ? {
            execution_seq: typeof execution_seq === "number" ? execution_seq : undefined,
            lease_token
          }
        : undefined,
    stepBase: Number.isFinite(base) ? base : 0,
    pendingSteps: progress.pendingSteps
  }
}

interface RecordedProgress {
  readonly journal: ReadonlyArray<JournalEntry>
  readonly pendingSteps: ReadonlyMap<string, PendingStep>
  /** For each step: the number of its latest failure whose retry delay has passed. */
  readonly retries: ReadonlyMap<string, number>
}

const readSteps = (steps: unknown, runId: string): RecordedProgress => {
  const journal: Array<JournalEntry> = []
  const pending = new Map<string, PendingStep>()
  const retries = new Map<string, number>()
  for (const step of Array.isArray(steps) ? steps : []) {
    if (!isObject(step) || typeof step.step_id !== "string") continue
    const { output } = step
    const key = step.step_id.startsWith(`${runId}:`) ? step.step_id.slice(runId.length + 1) : step.step_id
    const name = typeof step.name === "string" ? step.name : key
    if (isContinuation(key)) continue
    const [, failedKey] = /^(.*):failed$/s.exec(key) ?? []
    const [, waitingKey] = /^(.*):pending$/s.exec(key) ?? []
    const [, retriedKey, failures] = /^(.*):retry:([1-9]\d*)$/s.exec(key) ?? []
    if (failedKey !== undefined && isObject(output) && isObject(output.error)) {
      // this package has stored the step, with an error in this form
      const error = output.error as unknown as SerializedError
      journal.push(journalEntry(failedKey, name, { _tag: "Failure", error }))
    } else if (waitingKey !== undefined && isObject(output)) {
      const until = Date.parse(String(output.until))
      if (!Number.isNaN(until))
        pending.set(waitingKey, { dueAt: until, failures: Number(output.failures ?? 0) })
    } else if (retriedKey !== undefined && failures !== undefined && (output ?? null) === null) {
      retries.set(retriedKey, Math.max(Number(failures), retries.get(retriedKey) ?? 0))
    } else {
      const value = fromLegacyOutput(output) ?? valueOf(output)
      journal.push(journalEntry(key, name, { _tag: "Success", value }))
    }
  }
  return { journal, pendingSteps: pending, retries }
}

/**
 * The step key of a sleep that only makes the run continue in another turn. The keys of other steps end with a
 * number, so this key is unique.
 */
export const continuationKey = (jobId: string): string => `continue:${jobId}`
const isContinuation = (stepKey: string): boolean => /^continue:(?!\d+$)/.test(stepKey)

const journalEntry = (stepKey: string, name: string, outcome: Outcome): JournalEntry => ({
  stepKey,
  name,
  kind: stepKey.startsWith("compensate:") ? "compensate" : "run",
  anyKind: true,
  outcome,
  attempt: 1
})

/**
 * The result of a step whose kind is not known. Results that the server itself has stored (a received event,
 * the run of an invoked function) get the fields that handlers expect.
 */
const valueOf = (output: unknown): JsonText | undefined => {
  if (!isObject(output)) return output === undefined ? undefined : JSON.stringify(output)
  const { id, name, run_id, timestamp, version } = output
  if (typeof run_id === "string" && Object.keys(output).length === 1) {
    return JSON.stringify({ ...output, runId: run_id })
  }
  const isEvent = typeof id === "string" && typeof name === "string" && typeof timestamp === "string"
  return JSON.stringify(
    isEvent && "data" in output && version === undefined ? { ...output, version: 1 } : output
  )
}

/** The steps that have failed and are tried again, now or after a delay. */
const openSteps = (
  { journal, pendingSteps, retries }: RecordedProgress,
  nowMs: number
): ReadonlyArray<OpenStep> => {
  const finished = new Set(journal.map(({ stepKey }) => stepKey))
  const open: Array<OpenStep> = []
  for (const stepKey of new Set([...retries.keys(), ...pendingSteps.keys()])) {
    const pendingStep = pendingSteps.get(stepKey)
    const latestFailure = retries.get(stepKey) ?? 0
    const failures = Math.max(latestFailure, pendingStep?.failures ?? 0)
    if (failures === 0 || finished.has(stepKey)) continue
    open.push({
      stepKey,
      name: stepKey,
      kind: stepKey.startsWith("compensate:") ? "compensate" : "run",
      failures,
      pending: failures > latestFailure && pendingStep !== undefined && pendingStep.dueAt > nowMs
    })
  }
  return open
}
