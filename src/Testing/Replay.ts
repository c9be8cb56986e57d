/**
 * Runs a handler from the top against what was recorded of a run, and says where the two part. No step's code runs and
 * nothing is recorded: the handler is stopped where it would go on to something new.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type { Alarm } from "../Execution/Alarm.ts"
import { startTurn, type TurnEnd } from "../Execution/Turn.ts"
import type { AnyFunction } from "../Function.ts"
import { createNoopLogger } from "../Logger.ts"
import type { JournalEntry, OpenStep, TurnOp } from "../Protocol/Worker.ts"
import type { RunHistory } from "../Protocol/History.ts"
import { makeClock } from "./VirtualTime.ts"
import { clearImmediate, clearTimeout, setImmediate, setTimeout } from "../RealTimers.ts"
import type { StepKind } from "../StepKind.ts"

/** A step by its id within the run. */
export interface StepName {
  /** The step id without the leading `<run id>:`. */
  readonly stepKey: string
  /** Name of the step. */
  readonly name: string
  /** What kind of step it is. */
  readonly kind: StepKind
}

/** Where code parts from a history. */
export interface Divergence {
  /** Id of the run. */
  readonly runId: string
  /** Id of its function. */
  readonly functionId: string
  /** The first recorded step that the code does not ask for as it was recorded. */
  readonly recorded?: StepName
  /** What the code asks for instead: another kind of the same step, or the first step that was not recorded. */
  readonly asked?: StepName
  /** All recorded steps that the code asks for no longer, in order. */
  readonly missing: ReadonlyArray<StepName>
  /** One sentence with all of it. */
  readonly message: string
}

export interface Replayed {
  readonly divergence: Divergence | undefined
  /** How the handler ended, if it did. */
  readonly end: TurnEnd | undefined
}

/** The service that an Effect handler needs and that is not in context, as Effect says it; the replay proves nothing then. */
export const missingService = ({ end }: Replayed): string | undefined =>
  end?._tag === "Failed" || end?._tag === "Retrying"
    ? /^Service not found: (\S+)/.exec(end.error.message)?.[1]
    : undefined

/** Rounds of the event loop that a handler at rest gets before it is judged to have come to where it waits. */
const restRounds = 20
/** Real milliseconds that a handler may spend outside of steps, and such a one that waits for something new beside it. */
const patienceMs = 2000
const patienceBesideNewMs = 250

/** No step's code runs, so that none runs into a time limit; a handler at rest is found out by its rest. */
const silent: Alarm = { at: () => () => undefined }

/**
 * Replays with the services in context, which an Effect handler may need.
 *
 * A handler that does not wait for all of its steps (a race, a branch that failed) leaves some unrecorded, and goes on
 * while they are pending here. One that has waited on its clock, as `Effect.timeout` does, sees time pass as soon as
 * nothing else explains what is recorded.
 */
export const replay = (fn: AnyFunction, history: RunHistory): Effect.Effect<Replayed> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    // what had passed by then, had passed for the run
    const manual = makeClock(history.createdAt)
    const context = Context.add(yield* Effect.context<never>(), Clock.Clock, manual.clock)
    return yield* Effect.callback<Replayed>((resume) => {
      const asked = new Map<string, RequestedStep>()
      let end: TurnEnd | undefined
      /** Sleeps until a time that is over, which the run may have found over too: that leaves no record. */
      const untils: Array<{ readonly at: number; readonly pass: () => void }> = []
      let wantsNew = false
      let movements = 0
      let outcomes = 0
      const turn = startTurn(
        fn,
        // it does not end for want of something to wait for: how long it lingers is up to the alarm
        { ...history, jobId: `replay-${history.runId}`, lingerMs: 1, transactions: true },
        {
          clock: manual.clock,
          alarm: silent,
          context,
          logger: createNoopLogger(),
          late: () => undefined,
          report: (op, onAck) => {
            movements++
            // what only an engine could answer is not answered
            if (!asksEngine(op)) return onAck?.(undefined)
            wantsNew = true
            if (op._tag === "Sleep" && "at" in op.due && op.due.at <= now) {
              untils.push({ at: op.due.at, pass: () => onAck?.({ _tag: "Success", value: undefined }) })
            }
          },
          mayBegin: () => {
            movements++
            wantsNew = true
            return false
          },
          probe: {
            asked: ({ key, kind, name }) => {
              movements++
              asked.set(key, { stepKey: key, name, kind, outcomes })
            },
            delivers: () => {
              movements++
              outcomes++
            }
          }
        },
        (ended) => {
          movements++
          end = ended
        }
      )
      const recorded = recordedSteps(history)
      const isExplained = () =>
        (history.status !== "completed" || end !== undefined) &&
        recorded.every(({ stepKey }) => asked.has(stepKey))
      let seen = -1
      let rest = 0
      let waited = 0
      let next: NodeJS.Immediate | NodeJS.Timeout
      const look = (): void => {
        rest = seen === movements ? rest + 1 : 0
        seen = movements
        const isAtRest = rest > restRounds
        const patience = wantsNew ? patienceBesideNewMs : patienceMs
        if (end !== undefined || (isAtRest && (waited > patience || isExplained()))) {
          const result = { divergence: compare(history, recorded, asked, end, fn), end }
          turn.abort(new Error("The replay is over"))
          return resume(Effect.succeed(result))
        }
        if (!isAtRest) {
          next = setImmediate(look)
          return
        }
        waited++
        const wakesAt = manual.nextWake()
        const [until] = untils.sort((a, b) => a.at - b.at)
        if (until === undefined && !Number.isFinite(wakesAt)) {
          next = setTimeout(look, 1)
          return
        }
        if (until !== undefined && until.at <= wakesAt) {
          untils.shift()
          until.pass()
        }
        Effect.runSync(manual.passTo(Math.min(until?.at ?? wakesAt, wakesAt)))
        rest = 0
        next = setImmediate(look)
      }
      next = setImmediate(look)
      return Effect.sync(() => {
        clearImmediate(next as NodeJS.Immediate)
        clearTimeout(next as NodeJS.Timeout)
        turn.abort(new Error("The replay was interrupted"))
      })
    })
  })

const asksEngine = ({ _tag }: TurnOp): boolean =>
  _tag === "Sleep" ||
  _tag === "WaitForEvent" ||
  _tag === "Invoke" ||
  _tag === "InvokeAsync" ||
  _tag === "Publish"

/** A step that the code has asked for. */
interface RequestedStep extends StepName {
  /** How many the handler had been given before. */
  readonly outcomes: number
}

/** What the handler asks for by itself: not compensations, nor the verdict on branches, which follows from them. */
const recordedSteps = ({ journal, open }: RunHistory): ReadonlyArray<JournalEntry | OpenStep> =>
  [...journal, ...open].filter(({ kind }) => kind !== "compensate" && kind !== "parallel")

const compare = (
  history: RunHistory,
  recorded: ReadonlyArray<JournalEntry | OpenStep>,
  asked: ReadonlyMap<string, RequestedStep>,
  end: TurnEnd | undefined,
  fn: AnyFunction
): Divergence | undefined => {
  const { functionId, runId } = history
  const missing = recorded.filter(({ stepKey }) => !asked.has(stepKey)).map(stepName)
  // a handler that has ended went on to nothing more
  const added = end === undefined || end._tag === "Paused" ? goesOnTo(recorded, asked) : undefined
  const changed = recorded.find(
    (step) =>
      asked.has(step.stepKey) &&
      asked.get(step.stepKey)?.kind !== step.kind &&
      !("anyKind" in step && step.anyKind === true)
  )
  const ofRun = `Run ${runId} of function "${fn.config.id}"`
  if (changed !== undefined) {
    const now = asked.get(changed.stepKey)
    return {
      runId,
      functionId,
      recorded: stepName(changed),
      ...(now === undefined ? {} : { asked: stepName(now) }),
      missing: missing.filter(({ stepKey }) => stepKey !== changed.stepKey),
      message: `${ofRun} parts at step ${changed.stepKey}: recorded was ${shown(changed)}, and the code asks for ${now === undefined ? "nothing" : shown(now)}`
    }
  }
  const [first] = missing
  if (first !== undefined) {
    const why =
      end?._tag === "Failed" || end?._tag === "Retrying"
        ? `the handler fails before it: ${end.error.message}`
        : added !== undefined
          ? `the code asks for ${shown(added)} (${added.stepKey}) instead`
          : end?._tag === "Completed"
            ? "the code returns without it"
            : "the code does not ask for it"
    const others =
      missing.length === 1 ? "" : `. No longer asked for: ${missing.map(({ stepKey }) => stepKey).join(", ")}`
    return {
      runId,
      functionId,
      recorded: first,
      ...(added === undefined ? {} : { asked: added }),
      missing,
      message: `${ofRun} parts at step ${first.stepKey}: recorded was ${shown(first)}, and ${why}${others}`
    }
  }
  // what a run did not wait for is not recorded either: it parts when it does not end without that
  if (history.status !== "completed" || end?._tag === "Completed") return undefined
  const fails = end?._tag === "Failed" || end?._tag === "Retrying" ? end.error.message : undefined
  if (fails === undefined && added === undefined) return undefined
  return {
    runId,
    functionId,
    ...(added === undefined ? {} : { asked: added }),
    missing,
    message:
      `${ofRun} completed after its recorded steps, and ` +
      (fails === undefined && added !== undefined
        ? `the code goes on to ${shown(added)} (${added.stepKey})`
        : `the handler fails: ${fails}`)
  }
}

/** The first unrecorded step of those that follow from the same outcome as the last one: earlier ones may have lost a race. */
const goesOnTo = (
  recorded: ReadonlyArray<StepName>,
  asked: ReadonlyMap<string, RequestedStep>
): StepName | undefined => {
  const keys = new Set(recorded.map(({ stepKey }) => stepKey))
  const added = Array.from(asked.values()).filter(
    ({ kind, stepKey }) => kind !== "parallel" && !keys.has(stepKey)
  )
  const last = added.at(-1)?.outcomes
  const first = added.find(({ outcomes }) => outcomes === last)
  return first === undefined ? undefined : stepName(first)
}

const stepName = ({ kind, name, stepKey }: StepName): StepName => ({ stepKey, name, kind })
const shown = ({ kind, name }: StepName): string => `${kind} "${name}"`
