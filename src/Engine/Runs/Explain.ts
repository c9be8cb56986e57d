/**
 * Explains why a run makes no progress, or what the run does: finds the one reason that counts now, from the database and the
 * workers.
 */
import type { Explanation } from "../../Client/Client.ts"
import { formatDuration } from "../../Duration.ts"
import { describeError, type ReportedError, stepOf, thrownError } from "../../DescribeError.ts"
import type { ReasonCode } from "../../Protocol/ExplainReasons.ts"
import type { RunningStep } from "../../Protocol/RunningSteps.ts"
import { acceptsLabels } from "../Functions/Registry.ts"
import type { OtherEngine } from "./EngineWorkers.ts"
import type { RunSituation } from "./RunRecords.ts"
import { type Lease, type LeaseHolder, whyStuck } from "./Stuck.ts"

/** A worker that is connected now. */
export interface LiveWorker extends LeaseHolder {
  readonly id: string
  readonly functionIds: ReadonlySet<string>
  /** The code version of each function of the worker, by function id. */
  readonly codeVersions: ReadonlyMap<string, string>
  readonly labels: { readonly [key: string]: string }
  readonly maxConcurrentJobs: number
  readonly activeJobs: number
  /** Why no run is dispatched to the worker now; absent while the worker can be reached. */
  readonly problem?: string
  /** Why no run of a function is dispatched to the worker now, by function id. */
  readonly functionProblems?: ReadonlyMap<string, string>
  /**
   * How long the worker's leases last without a heartbeat, in milliseconds; absent for a worker in the process of the engine.
   */
  readonly leaseMs?: number
}

/** The explanation of a run. Each code has a section of its own in the docs. */
type Reason = Omit<Explanation, "runId" | "status" | "code"> & { readonly code: ReasonCode }

/** Explains a run. `now` is in epoch milliseconds; `workers` are those of the run's environment. */
export const explain = (
  situation: RunSituation,
  workers: ReadonlyArray<LiveWorker>,
  now: number
): Explanation => ({
  runId: situation.run.id,
  status: situation.run.status,
  ...addWaitingFires(situation, reasonOf(situation, workers, now))
})

/**
 * Adds to the explanation how many fires of the run's schedule wait for the end of this run, and how many were left out because
 * it had not ended.
 */
const addWaitingFires = ({ heldBack, run }: RunSituation, reason: Reason): Reason => {
  if (heldBack === undefined || run.endedAt !== undefined) return reason
  const { cron, overlap, queue, skipped, timezone } = heldBack
  const times = (count: number) => `${count} ${count === 1 ? "fire" : "fires"} of the schedule "${cron}"`
  const waiting =
    queue.length === 0
      ? ""
      : ` ${times(queue.length)} ${queue.length === 1 ? "waits" : "wait"} for the end of this run, the first one since ${iso(queue[0]!)}.`
  const skippedText =
    skipped === 0 ? "" : ` ${times(skipped)} ${skipped === 1 ? "was" : "were"} left out since this run began.`
  return {
    ...reason,
    message: `${reason.message}${waiting}${skippedText}`,
    details: {
      ...reason.details,
      schedule: {
        cron,
        timezone,
        overlap,
        skipped,
        waiting: queue.length,
        ...(queue.length === 0 ? {} : { waitingSince: iso(queue[0]!) })
      }
    }
  }
}

const reasonOf = (situation: RunSituation, workers: ReadonlyArray<LiveWorker>, now: number): Reason => {
  const { run, pause, lease } = situation
  switch (run.status) {
    case "completed":
      return {
        code: "COMPLETED",
        message: `It completed at ${run.endedAt}.`,
        details: { endedAt: run.endedAt }
      }
    case "failed":
      return {
        code: "FAILED",
        message: `It failed at ${run.endedAt}${run.error === undefined ? "" : `: ${describeError(run.error)}`}`,
        details: { endedAt: run.endedAt, ...(run.error === undefined ? {} : failureOf(run.error)) }
      }
    case "cancelled":
      return {
        code: "CANCELLED",
        message:
          `It was cancelled at ${run.endedAt}: ${sentence(run.error?.message ?? "")} A cancelled run is not compensated.` +
          (lease?.until === undefined
            ? ""
            : ` Worker ${lease.workerId} may still be executing the run, until the worker confirms that it has dropped the run, or until ${iso(lease.until)}`),
        details: { endedAt: run.endedAt, reason: run.error?.message }
      }
    case "paused":
      return {
        code: "PAUSED",
        message: `It is paused (${pause?.code}): ${sentence(pause?.message ?? "")} Resume it with resumeRun.`,
        details: { code: pause?.code, message: pause?.message, details: pause?.details }
      }
  }
  if (situation.damage !== undefined) {
    return {
      code: "DAMAGED",
      message:
        `The engine does not continue the run, because the run is damaged in the database: ${sentence(situation.damage)} Restore the database from a backup. ` +
        "If the damage is gone, resume the run, patch a step or cancel the run: the engine then looks at the run again.",
      details: { damage: situation.damage }
    }
  }
  if (lease !== undefined) return leasedReason(situation, lease, workers, now)
  return situation.readyAt === undefined
    ? waitingReason(situation, now)
    : readyReason(situation, workers, now)
}

/** An engine without a sign of life for this many milliseconds may be gone: a live engine shows itself more often. */
const SILENT_MS = 5000

/**
 * The time, in epoch milliseconds, at which other engines take over the run unless the engine of its worker comes back.
 * `undefined` while that engine is seen often enough.
 */
const takeoverTime = (engine: OtherEngine | undefined, { until }: Lease, now: number): number | undefined => {
  if (engine === undefined || now - engine.seenAt < SILENT_MS) return undefined
  return until ?? engine.goneAt
}

/** A sentence about an engine that may be gone: when it was last seen, and what happens to the run. */
const describeSilence = (
  { name, seenAt }: OtherEngine,
  { until }: Lease,
  takeoverAt: number,
  now: number
): string =>
  ` The engine that this worker is connected to (${name}) was last seen ${formatDuration(Math.floor((now - seenAt) / 1000) * 1000)} ago. If that engine is gone, ` +
  (until === undefined
    ? "the run continues on another worker, "
    : "the run continues at another engine, on this worker or another one, ") +
  (takeoverAt > now
    ? `at ${iso(takeoverAt)} (in ${formatDuration(Math.ceil((takeoverAt - now) / 1000) * 1000)}), from its last finished step.`
    : "in a moment, from its last finished step.")

/** Explains a leased run: which worker executes it, which steps run now, and whether it is stuck. */
const leasedReason = (
  { engine, lastStepAt, pause, run, running = [] }: RunSituation,
  lease: Lease,
  workers: ReadonlyArray<LiveWorker>,
  now: number
): Reason => {
  const worker = workers.find(({ id }) => id === lease.workerId)
  const stuck = whyStuck(lease, () => worker, now)
  if (lease.isRevoked === true && lease.until !== undefined && stuck === undefined) {
    const handOutFrom = iso(lease.until)
    return {
      code: "WORKER_STOPPING",
      message:
        `Worker ${lease.workerId} was told to drop the run, and may still be executing it. Other workers can get the run when that worker confirms that it ` +
        `has dropped the run, or at ${handOutFrom} (in ${formatDuration(Math.max(0, lease.until - now))}), when the lease of that worker ends.`,
      details: { workerId: lease.workerId, workerConnected: worker !== undefined, handOutFrom }
    }
  }
  const takeoverAt = takeoverTime(engine, lease, now)
  const details = {
    workerId: lease.workerId,
    workerConnected: worker !== undefined,
    leasedSince: iso(lease.since),
    leaseUntil: lease.until === undefined ? undefined : iso(lease.until),
    ...(lease.until === undefined || worker?.leaseMs === undefined
      ? {}
      : { renewedAt: iso(lease.until - worker.leaseMs) }),
    ...(lastStepAt === undefined ? {} : { lastStepAt: iso(lastStepAt) }),
    ...(engine === undefined ? {} : { engine: engine.name, engineSeenAt: iso(engine.seenAt) }),
    ...(takeoverAt === undefined ? {} : { handOutFrom: iso(takeoverAt) }),
    ...(running.length === 0 ? {} : { running: running.map((step) => factsOf(run.id, step, now)) }),
    ...(pause === undefined ? {} : { pauseRequested: pause.message })
  }
  if (stuck !== undefined) {
    return {
      code: "STUCK",
      message: `Worker ${lease.workerId} holds the run, which makes no progress: ${stuck}. Restart that worker: the run continues on another worker, from its last finished step.`,
      details
    }
  }
  const whatRuns = run.status === "compensating" ? "Its compensations run" : "It runs"
  return {
    code: "RUNNING",
    message:
      `${whatRuns} on worker ${lease.workerId}${details.leaseUntil === undefined ? "" : `, whose lease holds until ${details.leaseUntil}`}.` +
      describeRunning(running) +
      (engine === undefined || takeoverAt === undefined
        ? ""
        : describeSilence(engine, lease, takeoverAt, now)) +
      (pause === undefined
        ? ""
        : ` It will be paused when its running steps have ended: ${sentence(pause.message)}`),
    details
  }
}

/** The facts about a step whose code runs now: its name, how long it has run, and the progress that its code has reported. */
const factsOf = (runId: string, { attempt, forMs, name, progress, stepKey }: RunningStep, now: number) => ({
  stepId: `${runId}:${stepKey}`,
  name,
  attempt,
  startedAt: iso(now - forMs),
  runningMs: forMs,
  ...(progress === undefined ? {} : { progress })
})

const describeRunning = (running: ReadonlyArray<RunningStep>): string => {
  const longest = running.reduce<RunningStep | undefined>(
    (longest, step) => (longest === undefined || step.forMs > longest.forMs ? step : longest),
    undefined
  )
  if (longest === undefined) return ""
  const { attempt, forMs, name, progress = {} } = longest
  const { fraction, text } = progress
  const progressText = [
    ...(fraction === undefined ? [] : [`${Math.floor(fraction * 100)} %`]),
    ...(text === undefined ? [] : [text])
  ].join(", ")
  const others = running.length - 1
  return (
    ` Step "${name}" has run for ${formatDuration(forMs < 1000 ? forMs : Math.floor(forMs / 1000) * 1000)}` +
    ` (attempt ${attempt})${others === 0 ? "" : `, and ${others} other ${others === 1 ? "step is" : "steps are"} running`}` +
    (progressText === "" ? "." : `. Its progress: ${sentence(progressText)}`)
  )
}

/** Explains a run that could start now: why it has not started. */
const readyReason = (situation: RunSituation, workers: ReadonlyArray<LiveWorker>, now: number): Reason => {
  const { run, registration, concurrencyKey, functionPaused, held, holders, actorWorkerId } = situation
  const since = { readySince: iso(situation.readyAt!), waitingMs: Math.max(0, now - situation.readyAt!) }
  if (functionPaused !== undefined && run.startedAt === undefined) {
    const { at, by, reason } = functionPaused
    return {
      code: "FUNCTION_PAUSED",
      message:
        `Function "${run.functionId}" has been paused since ${iso(at)}, by ${by}${reason === undefined ? "." : `: ${sentence(reason)}`} ` +
        "Its new runs begin when it is resumed with resumeFunction.",
      details: {
        functionId: run.functionId,
        pausedAt: iso(at),
        pausedBy: by,
        ...(reason === undefined ? {} : { reason }),
        ...since
      }
    }
  }
  const withFunction = workers.filter((worker) => worker.functionIds.has(run.functionId))
  const { pin } = situation
  const isOfVersion = (worker: LiveWorker) => worker.codeVersions.get(run.functionId) === pin?.version
  if (pin?.hasBegun === true && !withFunction.some(isOfVersion)) {
    const workerVersions = withFunction.map(({ codeVersions, id }) => ({
      id,
      codeVersion: codeVersions.get(run.functionId)
    }))
    return {
      code: "NO_WORKER_OF_VERSION",
      message:
        `It is pinned to version "${pin.version}" of function "${run.functionId}", with which it began, and no live worker has that version` +
        (workerVersions.length === 0
          ? ""
          : ` (${workerVersions
              .slice(0, 5)
              .map(({ codeVersion, id }) => `${id} has "${codeVersion}"`)
              .join(", ")})`) +
        `: start a worker with version "${pin.version}", or move the run to the latest version with moveRun.`,
      details: { functionId: run.functionId, codeVersion: pin.version, workers: workerVersions, ...since }
    }
  }
  if (withFunction.length === 0) {
    return {
      code: "NO_WORKER",
      message: situation.functionDeleted
        ? `Function "${run.functionId}" was deleted, and no live worker has it: cancel the run, or start a worker that has it.`
        : `No live worker has function "${run.functionId}": start one that registers it.${sayFormer(situation)}`,
      details: {
        functionId: run.functionId,
        liveWorkers: workers.map((worker) => worker.id),
        ...(situation.formerEndpoint === undefined ? {} : { formerEndpoint: situation.formerEndpoint }),
        ...since
      }
    }
  }
  const withLabels =
    registration === undefined
      ? withFunction
      : withFunction.filter((worker) => acceptsLabels(registration, worker.labels))
  const withVersion = pin === undefined ? withLabels : withLabels.filter(isOfVersion)
  // when no worker has the latest version, a run that has not begun may take any version
  const eligible = withVersion.length === 0 && pin?.hasBegun !== true ? withLabels : withVersion
  if (eligible.length === 0) {
    return {
      code: "NO_WORKER",
      message: `No live worker with function "${run.functionId}" has the labels that the function requires: start one that has them.`,
      details: {
        functionId: run.functionId,
        requires: registration?.metadata?.requires,
        workers: withFunction.map(({ id, labels }) => ({ id, labels })),
        ...since
      }
    }
  }
  const problem = eligible.every((worker) => worker.problem !== undefined) ? eligible[0]?.problem : undefined
  if (problem !== undefined) {
    return {
      code: "ENDPOINT_UNAVAILABLE",
      message: `${sentence(problem)} The run is dispatched as soon as the endpoint answers.`,
      details: { workers: eligible.map(({ id }) => id), ...since }
    }
  }
  const missing = eligible
    .map(({ functionProblems }) => functionProblems?.get(run.functionId))
    .find((one) => one !== undefined)
  if (
    missing !== undefined &&
    eligible.every((one) => one.problem !== undefined || one.functionProblems?.has(run.functionId) === true)
  ) {
    return {
      code: "ENDPOINT_UNAVAILABLE",
      message: `${sentence(missing)} The run is dispatched as soon as the endpoint has the function.`,
      details: { workers: eligible.map(({ id }) => id), missing: run.functionId, ...since }
    }
  }
  const limit = registration?.concurrency?.limit
  if (limit !== undefined && concurrencyKey !== undefined && held >= limit) {
    const key = concurrencyKey === "" ? undefined : concurrencyKey
    return {
      code: "CONCURRENCY_LIMIT",
      message:
        `Function "${run.functionId}" may execute ${limit} ${limit === 1 ? "run" : "runs"} at a time${key === undefined ? "" : ` for key ${key}`}, ` +
        `and ${held} ${held === 1 ? "is" : "are"} running: ${holders.join(", ")}${held > holders.length ? ", ..." : ""}.`,
      details: { limit, key, held, holders, ...since }
    }
  }
  const areAllBusy = eligible.every((worker) => worker.activeJobs >= worker.maxConcurrentJobs)
  const actorWorker = eligible.find((worker) => worker.id === actorWorkerId)
  if (actorWorker !== undefined && actorWorker.activeJobs >= actorWorker.maxConcurrentJobs) {
    return {
      code: "ACTOR_BUSY",
      message: `Its actor is bound to worker ${actorWorker.id}, which is busy with ${actorWorker.activeJobs} of ${actorWorker.maxConcurrentJobs} runs.`,
      details: {
        actor: run.actorId,
        workerId: actorWorker.id,
        activeJobs: actorWorker.activeJobs,
        maxConcurrentJobs: actorWorker.maxConcurrentJobs,
        ...since
      }
    }
  }
  if (areAllBusy) {
    return {
      code: "NO_CAPACITY",
      message: `Every worker with function "${run.functionId}" is busy: ${eligible.map(({ id, activeJobs, maxConcurrentJobs }) => `${id} (${activeJobs} of ${maxConcurrentJobs})`).join(", ")}.`,
      details: {
        workers: eligible.map(({ id, activeJobs, maxConcurrentJobs }) => ({
          id,
          activeJobs,
          maxConcurrentJobs
        })),
        ...since
      }
    }
  }
  const { losses } = situation
  if (losses !== undefined) {
    return {
      code: "READY",
      message:
        `Its worker was lost ${losses} times without a completed step in between. Such runs are executed a few at a time, because one of them may be what ends the workers. This run continues ` +
        "as soon as a worker has room for another one of them.",
      details: { losses, ...since }
    }
  }
  return { code: "READY", message: "It is about to be handed to a worker.", details: since }
}

/** Explains a suspended run: by the wait for the next attempt of the whole run, or else by the wait that is due first. */
const waitingReason = ({ losses, run, waits }: RunSituation, now: number): Reason => {
  const wait =
    waits.find(({ kind, fired }) => kind === "run-retry" && !fired) ?? waits.find(({ fired }) => !fired)
  if (wait === undefined) {
    return { code: "READY", message: "It is about to be handed to a worker.", details: {} }
  }
  const others = waits.filter((other) => other !== wait && !other.fired)
  const dueFields =
    wait.dueAt === undefined ? {} : { dueAt: iso(wait.dueAt), dueInMs: Math.max(0, wait.dueAt - now) }
  const details = {
    stepId: wait.stepId,
    ...dueFields,
    ...(others.length === 0 ? {} : { alsoWaitingFor: others.map(({ stepId, kind }) => ({ stepId, kind })) })
  }
  const at =
    wait.dueAt === undefined ? "" : `${iso(wait.dueAt)} (in ${formatDuration(Math.max(0, wait.dueAt - now))})`
  switch (wait.kind) {
    case "sleep":
      return { code: "SLEEPING", message: `Step "${wait.name}" sleeps until ${at}.`, details }
    case "event":
      return {
        code: "WAITING_FOR_EVENT",
        message:
          `Step "${wait.name}" waits for event "${wait.event}"` +
          (wait.match === undefined
            ? ""
            : wait.matchValue === undefined
              ? ` that satisfies ${wait.match}`
              : wait.matchValue === ""
                ? ` with the value at ${wait.match} that the event of the run has`
                : ` whose ${wait.match} is ${wait.matchValue}`) +
          `, until ${at}.` +
          (wait.matchValue === ""
            ? " The event of the run has no value there, so no event can match: correct `match` in the code."
            : "") +
          (wait.isBeingDelivered === true
            ? " Very many runs wait for this event: it has arrived, and is delivered to a few hundred of them at a time."
            : ""),
        details: {
          ...details,
          event: wait.event,
          match: wait.match,
          matchValue: wait.matchValue,
          ...(wait.isBeingDelivered === true ? { isBeingDelivered: true } : {})
        }
      }
    case "child":
      return {
        code: "WAITING_FOR_CHILD",
        message: `Step "${wait.name}" waits for run ${wait.childRunId}, until ${at}.`,
        details: { ...details, childRunId: wait.childRunId }
      }
    case "retry":
      return {
        code: "WAITING_FOR_RETRY",
        message: `Step "${wait.name}" failed ${wait.failures === 1 ? "once" : `${wait.failures} times`} (last: ${wait.error}) and is tried again at ${at}.`,
        details: { ...details, failures: wait.failures, error: wait.error }
      }
    case "run-retry":
      return {
        code: "WAITING_FOR_RETRY",
        message: `The run is tried again at ${at}${run.error === undefined ? sayLost(losses) : `, after: ${describeError(run.error)}`}.`,
        details: {
          ...details,
          attempt: run.attempt,
          error: run.error?.message,
          ...(run.error !== undefined || losses === undefined ? {} : { losses })
        }
      }
  }
}

const sayFormer = ({ formerEndpoint }: RunSituation): string =>
  formerEndpoint === undefined
    ? ""
    : ` Before, the push endpoint ${formerEndpoint} had it; \`ironflow functions register ${formerEndpoint}\` gives it back to the endpoint.`

const sayLost = (losses: number | undefined): string =>
  losses === undefined
    ? ""
    : `. Its turn was lost ${losses} times without a completed step in between: the log of the engine says how`

/** The details of a failure: the error, the name of what the code has thrown, and the step that failed, if any. */
const failureOf = (error: ReportedError) => {
  const step = stepOf(error)
  return { ...(step === undefined ? {} : { step }), thrown: thrownError(error).name ?? "Error", error }
}

const iso = (at: number): string => new Date(at).toISOString()

/** A text of a user as a sentence, with a full stop if it has none. */
const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`)
