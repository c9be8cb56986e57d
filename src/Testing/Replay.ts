/**
 * Replays a handler from the start against the recorded steps of a run, and finds where the handler diverges from these
 * steps. No step's code runs and nothing is recorded. The handler is stopped where it would start something new.
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
import type { EventDefinitionRegistry } from "../Upcaster.ts"

/** A step, named by its id within the run. */
export interface StepName {
  /** The step id without the leading `<run id>:`. */
  readonly stepKey: string
  /** Name of the step. */
  readonly name: string
  /** Kind of the step. */
  readonly kind: StepKind
}

/** Where the code diverges from a history. */
export interface Divergence {
  /** Id of the run. */
  readonly runId: string
  /** Id of its function. */
  readonly functionId: string
  /** The first recorded step that the code does not call, or calls as another kind. */
  readonly recorded?: StepName
  /** What the code calls instead: the same step with another kind, or the first unrecorded step. */
  readonly asked?: StepName
  /** All recorded steps that the code no longer calls, in order. */
  readonly missing: ReadonlyArray<StepName>
  /** A sentence that describes the divergence. */
  readonly message: string
}

export interface Replayed {
  readonly divergence: Divergence | undefined
  /** How the handler ended, if it did. */
  readonly end: TurnEnd | undefined
}

/**
 * The service that an Effect handler requires and does not get, taken from Effect's message. A replay in which
 * a service is missing proves nothing.
 */
export const missingService = ({ end }: Replayed): string | undefined =>
  end?._tag === "Failed" || end?._tag === "Retrying"
    ? /^Service not found: (\S+)/.exec(end.error.message)?.[1]
    : undefined

/** A handler counts as waiting after this many rounds of the event loop in which nothing happens. */
const IDLE_ROUNDS = 20
/** How long the replay waits for a handler in which nothing happens, since it may wait outside of steps. Real milliseconds. */
const PATIENCE_MS = 2000
/** How long the replay waits for such a handler when it also waits for a step that was not recorded. */
const PATIENCE_BESIDE_NEW_MS = 250

/**
 * An alarm that never rings. It is not needed: no step's code runs, so no step times out, and idle rounds
 * show that a handler waits.
 */
const silent: Alarm = { at: () => () => undefined }

/**
 * Replays the run. An Effect handler gets the services that it requires from the context.
 *
 * A handler that does not wait for all of its steps (a race, a failed branch) leaves some of them unrecorded;
 * the replay continues while these steps are pending. A handler may also have waited on its clock, as
 * `Effect.timeout` does. The replay lets time pass on this clock when the handler does not continue otherwise.
 */
export const replay = (
  fn: AnyFunction,
  history: RunHistory,
  eventDefinitions?: EventDefinitionRegistry
): Effect.Effect<Replayed> =>
  Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    // the clock starts at the time at which the run was created: for the handler, that time had passed then too
    const manual = makeClock(history.createdAt)
    const context = Context.add(yield* Effect.context<never>(), Clock.Clock, manual.clock)
    return yield* Effect.callback<Replayed>((resume) => {
      const asked = new Map<string, RequestedStep>()
      let end: TurnEnd | undefined
      /**
       * Steps that sleep until a time that has passed by now. If the time had already passed when the recorded run
       * called such a step, the run did not record the step.
       */
      const passedSleeps: Array<{ readonly at: number; readonly pass: () => void }> = []
      let wantsNew = false
      let movements = 0
      let outcomes = 0
      const turn = startTurn(
        fn,
        // `lingerMs` has no effect: a turn with nothing to wait for ends when the alarm rings, which it never
        // does
        { ...history, jobId: `replay-${history.runId}`, lingerMs: 1, transactions: true },
        {
          clock: manual.clock,
          alarm: silent,
          context,
          logger: createNoopLogger(),
          ...(eventDefinitions === undefined ? {} : { eventDefinitions }),
          late: () => undefined,
          report: (op, onAck) => {
            movements++
            // an op that only an engine can answer stays unanswered
            if (!asksEngine(op)) return onAck?.(undefined)
            wantsNew = true
            if (op._tag === "Sleep" && "at" in op.due && op.due.at <= now) {
              passedSleeps.push({ at: op.due.at, pass: () => onAck?.({ _tag: "Success", value: undefined }) })
            }
          },
          mayBegin: () => {
            movements++
            wantsNew = true
            return false
          },
          probe: {
            called: ({ key, kind, name }) => {
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
      let movementsAtLook = -1
      let idleRounds = 0
      let waited = 0
      let next: NodeJS.Immediate | NodeJS.Timeout
      const look = (): void => {
        idleRounds = movementsAtLook === movements ? idleRounds + 1 : 0
        movementsAtLook = movements
        const isAtRest = idleRounds > IDLE_ROUNDS
        const patience = wantsNew ? PATIENCE_BESIDE_NEW_MS : PATIENCE_MS
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
        const [sleep] = passedSleeps.sort((a, b) => a.at - b.at)
        if (sleep === undefined && !Number.isFinite(wakesAt)) {
          next = setTimeout(look, 1)
          return
        }
        if (sleep !== undefined && sleep.at <= wakesAt) {
          passedSleeps.shift()
          sleep.pass()
        }
        Effect.runSync(manual.passTo(Math.min(sleep?.at ?? wakesAt, wakesAt)))
        idleRounds = 0
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

/** A step that the code has called. */
interface RequestedStep extends StepName {
  /** How many outcomes the handler had received before it called the step. */
  readonly outcomes: number
}

/**
 * The recorded steps that the handler itself calls. Compensations and the verdicts on branches are left out, since they
 * follow from the other steps.
 */
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
  // a handler that has ended calls no further step
  const newStep = end === undefined || end._tag === "Paused" ? nextUnrecorded(recorded, asked) : undefined
  const changed = recorded.find(
    (step) =>
      asked.has(step.stepKey) &&
      asked.get(step.stepKey)?.kind !== step.kind &&
      !("anyKind" in step && step.anyKind === true)
  )
  const ofRun = `Run ${runId} of function "${fn.config.id}"`
  if (changed !== undefined) {
    const calledStep = asked.get(changed.stepKey)
    return {
      runId,
      functionId,
      recorded: stepName(changed),
      ...(calledStep === undefined ? {} : { asked: stepName(calledStep) }),
      missing: missing.filter(({ stepKey }) => stepKey !== changed.stepKey),
      message: `${ofRun} diverges at step ${changed.stepKey}: the journal has ${shown(changed)}, but the code asks for ${calledStep === undefined ? "nothing" : shown(calledStep)}`
    }
  }
  const [firstMissing] = missing
  if (firstMissing !== undefined) {
    const why =
      end?._tag === "Failed" || end?._tag === "Retrying"
        ? `the handler fails before it: ${end.error.message}`
        : newStep !== undefined
          ? `the code asks for ${shown(newStep)} (${newStep.stepKey}) instead`
          : end?._tag === "Completed"
            ? "the code returns without it"
            : "the code does not ask for it"
    const others =
      missing.length === 1 ? "" : `. No longer asked for: ${missing.map(({ stepKey }) => stepKey).join(", ")}`
    return {
      runId,
      functionId,
      recorded: firstMissing,
      ...(newStep === undefined ? {} : { asked: newStep }),
      missing,
      message: `${ofRun} diverges at step ${firstMissing.stepKey}: the journal has ${shown(firstMissing)}, but ${why}${others}`
    }
  }
  // a run does not record steps that it did not wait for. So a new step is a divergence only if the handler cannot end
  // without that step
  if (history.status !== "completed" || end?._tag === "Completed") return undefined
  const fails = end?._tag === "Failed" || end?._tag === "Retrying" ? end.error.message : undefined
  if (fails === undefined && newStep === undefined) return undefined
  return {
    runId,
    functionId,
    ...(newStep === undefined ? {} : { asked: newStep }),
    missing,
    message:
      `${ofRun} completed after its recorded steps, and ` +
      (fails === undefined && newStep !== undefined
        ? `the code continues with ${shown(newStep)} (${newStep.stepKey})`
        : `the handler fails: ${fails}`)
  }
}

/**
 * The unrecorded step with which the handler continues: the first one that was called after the handler had received
 * its last outcome before the last unrecorded step. Unrecorded steps that were called earlier may have lost a race.
 */
const nextUnrecorded = (
  recorded: ReadonlyArray<StepName>,
  asked: ReadonlyMap<string, RequestedStep>
): StepName | undefined => {
  const keys = new Set(recorded.map(({ stepKey }) => stepKey))
  const unrecorded = Array.from(asked.values()).filter(
    ({ kind, stepKey }) => kind !== "parallel" && !keys.has(stepKey)
  )
  const last = unrecorded.at(-1)?.outcomes
  const first = unrecorded.find(({ outcomes }) => outcomes === last)
  return first === undefined ? undefined : stepName(first)
}

const stepName = ({ kind, name, stepKey }: StepName): StepName => ({ stepKey, name, kind })
const shown = ({ kind, name }: StepName): string => `the \`${kind}\` step "${name}"`
