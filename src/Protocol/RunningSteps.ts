/**
 * What a worker reports about running steps, to be shown to users. The report is sent with the renewals of
 * leases (`Renewal` in `Http/Turns.ts`), and the engine keeps the latest report in memory. Nothing else depends
 * on it: when the engine was restarted, the next renewal brings a new report.
 */
import { isObject } from "../Json.ts"
import { nameLength } from "../Limits.ts"
import { type StepKind, stepKinds } from "../StepKind.ts"

/** Progress of a step, as reported by its code. */
export interface StepProgress {
  /** Fraction from 0 to 1. */
  readonly fraction?: number
  /** Text of at most {@link PROGRESS_TEXT_LENGTH} characters. */
  readonly text?: string
}

/** A running step. */
export interface RunningStep {
  /** The step id without the leading `<run id>:`. */
  readonly stepKey: string
  readonly name: string
  readonly kind: StepKind
  /** Number of attempts of the step, this one included. */
  readonly attempt: number
  /**
   * How long this attempt has been running, in milliseconds. A duration, since the clocks of worker and engine may
   * differ.
   */
  readonly forMs: number
  readonly progress?: StepProgress
}

/** The running steps of one turn. */
export interface RunningTurn {
  readonly jobId: string
  readonly runId: string
  readonly steps: ReadonlyArray<RunningStep>
}

/** How long a step must have been running before a remote worker reports it, in milliseconds. */
export const REPORT_AFTER_MS = 1000
/** Maximum number of reported steps of one turn. */
export const MAX_STEPS_PER_TURN = 32
/** Maximum number of reported steps of all turns of a worker. */
export const MAX_STEPS_PER_WORKER = 1024
const PROGRESS_TEXT_LENGTH = 200

/** The progress that the code of a step reports. Invalid arguments are ignored, so that they never fail a step. */
export const progressOf = (fraction: unknown, text: unknown): StepProgress | undefined => {
  const progress = {
    ...(typeof fraction === "number" && Number.isFinite(fraction)
      ? { fraction: Math.min(1, Math.max(0, fraction)) }
      : {}),
    ...(typeof text === "string" && text !== "" ? { text: text.slice(0, PROGRESS_TEXT_LENGTH) } : {})
  }
  return Object.keys(progress).length === 0 ? undefined : progress
}

/** Cuts the steps of the turns to as many as may be reported. Leaves out the turns that then have no steps. */
export const limitSteps = (turns: ReadonlyArray<RunningTurn>): ReadonlyArray<RunningTurn> => {
  let stepsLeft = MAX_STEPS_PER_WORKER
  const reported: Array<RunningTurn> = []
  for (const turn of turns) {
    const steps = turn.steps.slice(0, Math.min(MAX_STEPS_PER_TURN, stepsLeft))
    if (steps.length === 0) continue
    stepsLeft -= steps.length
    reported.push({ ...turn, steps })
  }
  return reported
}

const kinds: ReadonlySet<unknown> = new Set(stepKinds)

/**
 * Reads a report. Invalid parts are left out: a report is only shown to users, so an invalid one is no reason to refuse
 * the renewal that contains it.
 */
export const readRunningTurns = (value: unknown): ReadonlyArray<RunningTurn> =>
  !Array.isArray(value)
    ? []
    : limitSteps(
        value.slice(0, MAX_STEPS_PER_WORKER).flatMap((turn: unknown): ReadonlyArray<RunningTurn> => {
          if (!isObject(turn) || !Array.isArray(turn.steps)) return []
          const { jobId, runId } = turn
          if (typeof jobId !== "string" || typeof runId !== "string") return []
          return [{ jobId, runId, steps: turn.steps.slice(0, MAX_STEPS_PER_TURN).flatMap(readStep) }]
        })
      )

const readStep = (value: unknown): ReadonlyArray<RunningStep> => {
  if (!isObject(value)) return []
  const { attempt, forMs, kind, name, progress, stepKey } = value
  if (typeof stepKey !== "string" || typeof name !== "string" || !kinds.has(kind)) return []
  if (!Number.isSafeInteger(attempt) || Number(attempt) < 1 || !(Number(forMs) >= 0)) return []
  const validProgress = isObject(progress) ? progressOf(progress.fraction, progress.text) : undefined
  return [
    {
      // no valid step key or name is longer
      stepKey: stepKey.slice(0, 4 * nameLength),
      name: name.slice(0, 2 * nameLength),
      kind: kind as StepKind,
      attempt: Number(attempt),
      forMs: Math.min(Number(forMs), Number.MAX_SAFE_INTEGER),
      ...(validProgress === undefined ? {} : { progress: validProgress })
    }
  ]
}
