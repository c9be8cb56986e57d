/**
 * What a worker says of the steps whose code runs now, so that somebody who looks sees them. It goes along with what the worker
 * sends anyway (`Renewal`), and the engine keeps the last word of it in memory: nothing depends on it, and what runs after a
 * restart is said again with the next renewal.
 */
import { isObject } from "../Json.ts"
import { nameLength } from "../Limits.ts"
import { type StepKind, stepKinds } from "../StepKind.ts"

/** How far the code of a step says that it has come. */
export interface StepProgress {
  /** From 0 to 1. */
  readonly fraction?: number
  /** At most {@link progressTextLength} characters. */
  readonly text?: string
}

/** A step whose code runs. */
export interface RunningStep {
  /** The step id without the leading `<run id>:`. */
  readonly stepKey: string
  readonly name: string
  readonly kind: StepKind
  /** Executions of the step, this one included. */
  readonly attempt: number
  /** How long this attempt has run, milliseconds: the clocks of the two need not agree. */
  readonly forMs: number
  readonly progress?: StepProgress
}

/** The steps that run in one turn. */
export interface RunningTurn {
  readonly jobId: string
  readonly runId: string
  readonly steps: ReadonlyArray<RunningStep>
}

/** How long a step has run before a worker elsewhere tells of it, milliseconds: short ones are not worth the words. */
export const tellAfterMs = 1000
/** Most steps of one turn, and of all turns of a worker, that are told of: those that have run longest. */
export const stepsToldPerTurn = 32
export const stepsToldPerWorker = 1024
const progressTextLength = 200

/** What the code of a step says, whatever it is given: a word about progress never fails a step. */
export const progressOf = (fraction: unknown, text: unknown): StepProgress | undefined => {
  const progress = {
    ...(typeof fraction === "number" && Number.isFinite(fraction)
      ? { fraction: Math.min(1, Math.max(0, fraction)) }
      : {}),
    ...(typeof text === "string" && text !== "" ? { text: text.slice(0, progressTextLength) } : {})
  }
  return Object.keys(progress).length === 0 ? undefined : progress
}

/** At most as much as may be told. */
export const bounded = (turns: ReadonlyArray<RunningTurn>): ReadonlyArray<RunningTurn> => {
  let room = stepsToldPerWorker
  const told: Array<RunningTurn> = []
  for (const turn of turns) {
    const steps = turn.steps.slice(0, Math.min(stepsToldPerTurn, room))
    if (steps.length === 0) continue
    room -= steps.length
    told.push({ ...turn, steps })
  }
  return told
}

const kinds: ReadonlySet<unknown> = new Set(stepKinds)

/** Reads what a worker says. What cannot be read is left out: it is only shown, and is no reason to refuse a renewal. */
export const readRunning = (value: unknown): ReadonlyArray<RunningTurn> =>
  !Array.isArray(value)
    ? []
    : bounded(
        value.slice(0, stepsToldPerWorker).flatMap((turn: unknown): ReadonlyArray<RunningTurn> => {
          if (!isObject(turn) || !Array.isArray(turn.steps)) return []
          const { jobId, runId } = turn
          if (typeof jobId !== "string" || typeof runId !== "string") return []
          return [{ jobId, runId, steps: turn.steps.slice(0, stepsToldPerTurn).flatMap(readStep) }]
        })
      )

const readStep = (value: unknown): ReadonlyArray<RunningStep> => {
  if (!isObject(value)) return []
  const { attempt, forMs, kind, name, progress, stepKey } = value
  if (typeof stepKey !== "string" || typeof name !== "string" || !kinds.has(kind)) return []
  if (!Number.isSafeInteger(attempt) || Number(attempt) < 1 || !(Number(forMs) >= 0)) return []
  const said = isObject(progress) ? progressOf(progress.fraction, progress.text) : undefined
  return [
    {
      // as long as the names and keys of steps may be
      stepKey: stepKey.slice(0, 4 * nameLength),
      name: name.slice(0, 2 * nameLength),
      kind: kind as StepKind,
      attempt: Number(attempt),
      forMs: Math.min(Number(forMs), Number.MAX_SAFE_INTEGER),
      ...(said === undefined ? {} : { progress: said })
    }
  ]
}
