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
import { makeClocks } from "./VirtualTime.ts"
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
  /** What the code calls instead: the same step with another kind, or the unrecorded step with which it continues. */
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
/** For how many real milliseconds the replay waits for a handler in which nothing happens: the handler may wait outside of steps. */
const PATIENCE_MS = 2000
/** How long the replay waits for such a handler when it also waits for a step that was not recorded. */
const PATIENCE_WITH_NEW_STEP_MS = 250

/**
 * An alarm that never rings. It is not needed: no step's code runs, so no step times out, and idle rounds
 * show that a handler waits.
 */
const silentAlarm: Alarm = { at: () => () => undefined }

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
    // The clock starts at the time at which the run was created. In the recorded run, the handler also saw this time or
    // a later one.
    const clocks = makeClocks(history.createdAt)
    const context = Context.add(yield* Effect.context<never>(), Clock.Clock, clocks.clock)
    return yield* Effect.callback<Replayed>((resume) => {
      const requestedSteps = new Map<string, RequestedStep>()
      let end: TurnEnd | undefined
      /**
       * Steps that sleep until a time that has passed by now. If the time had already passed when the recorded run
       * called such a step, the run did not record the step.
       */
      const passedSleeps: Array<{ readonly at: number; readonly pass: () => void }> = []
      let awaitsNewStep = false
      let activityCount = 0
      let outcomeCount = 0
      const turn = startTurn(
        fn,
        // `lingerMs` has no effect: a turn with nothing to wait for ends when the alarm rings, which it never
        // does
        { ...history, jobId: `replay-${history.runId}`, lingerMs: 1, transactions: true },
        {
          clock: clocks.clock,
          alarm: silentAlarm,
          context,
          logger: createNoopLogger(),
          ...(eventDefinitions === undefined ? {} : { eventDefinitions }),
          noteHandlerWentOn: () => undefined,
          report: (op, onAck) => {
            activityCount++
            // an op that only an engine can answer stays unanswered
            if (!asksEngine(op)) return onAck?.(undefined)
            awaitsNewStep = true
            if (op._tag === "Sleep" && "at" in op.due && op.due.at <= now) {
              passedSleeps.push({ at: op.due.at, pass: () => onAck?.({ _tag: "Success", value: undefined }) })
            }
          },
          mayBegin: () => {
            activityCount++
            awaitsNewStep = true
            return false
          },
          probe: {
            called: ({ key, kind, name }) => {
              activityCount++
              requestedSteps.set(key, { stepKey: key, name, kind, outcomesBefore: outcomeCount })
            },
            delivers: () => {
              activityCount++
              outcomeCount++
            }
          }
        },
        (ended) => {
          activityCount++
          end = ended
        }
      )
      const recorded = recordedSteps(history)
      const isExplained = () =>
        (history.status !== "completed" || end !== undefined) &&
        recorded.every(({ stepKey }) => requestedSteps.has(stepKey))
      let activityAtCheck = -1
      let idleRounds = 0
      let waitedMs = 0
      let nextCheck: NodeJS.Immediate | NodeJS.Timeout
      const check = (): void => {
        idleRounds = activityAtCheck === activityCount ? idleRounds + 1 : 0
        activityAtCheck = activityCount
        const isAtRest = idleRounds > IDLE_ROUNDS
        const patienceMs = awaitsNewStep ? PATIENCE_WITH_NEW_STEP_MS : PATIENCE_MS
        if (end !== undefined || (isAtRest && (waitedMs > patienceMs || isExplained()))) {
          const result = { divergence: compare(history, recorded, requestedSteps, end, fn), end }
          turn.abort(new Error("The replay is over"))
          return resume(Effect.succeed(result))
        }
        if (!isAtRest) {
          nextCheck = setImmediate(check)
          return
        }
        waitedMs++
        const wakesAt = clocks.nextWake()
        const [sleep] = passedSleeps.sort((a, b) => a.at - b.at)
        if (sleep === undefined && !Number.isFinite(wakesAt)) {
          nextCheck = setTimeout(check, 1)
          return
        }
        if (sleep !== undefined && sleep.at <= wakesAt) {
          passedSleeps.shift()
          sleep.pass()
        }
        Effect.runSync(clocks.passTo(Math.min(sleep?.at ?? wakesAt, wakesAt)))
        idleRounds = 0
        nextCheck = setImmediate(check)
      }
      nextCheck = setImmediate(check)
      return Effect.sync(() => {
        clearImmediate(nextCheck as NodeJS.Immediate)
        clearTimeout(nextCheck as NodeJS.Timeout)
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
  readonly outcomesBefore: number
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
  requestedSteps: ReadonlyMap<string, RequestedStep>,
  end: TurnEnd | undefined,
  fn: AnyFunction
): Divergence | undefined => {
  const { functionId, runId } = history
  const missing = recorded.filter(({ stepKey }) => !requestedSteps.has(stepKey)).map(stepName)
  // a handler that has ended calls no further step
  const newStep =
    end === undefined || end._tag === "Paused" ? nextUnrecorded(recorded, requestedSteps) : undefined
  const changed = recorded.find(
    (step) =>
      requestedSteps.has(step.stepKey) &&
      requestedSteps.get(step.stepKey)?.kind !== step.kind &&
      !("anyKind" in step && step.anyKind === true)
  )
  const runText = `Run ${runId} of function "${fn.config.id}"`
  if (changed !== undefined) {
    const calledStep = requestedSteps.get(changed.stepKey)
    return {
      runId,
      functionId,
      recorded: stepName(changed),
      ...(calledStep === undefined ? {} : { asked: stepName(calledStep) }),
      missing: missing.filter(({ stepKey }) => stepKey !== changed.stepKey),
      message: `${runText} diverges at step ${changed.stepKey}: the journal has ${describeStep(changed)}, but the code asks for ${calledStep === undefined ? "nothing" : describeStep(calledStep)}`
    }
  }
  const [firstMissing] = missing
  if (firstMissing !== undefined) {
    const reason =
      end?._tag === "Failed" || end?._tag === "Retrying"
        ? `the handler fails before it: ${end.error.message}`
        : newStep !== undefined
          ? `the code asks for ${describeStep(newStep)} (${newStep.stepKey}) instead`
          : end?._tag === "Completed"
            ? "the code returns without it"
            : "the code does not ask for it"
    const othersText =
      missing.length === 1 ? "" : `. No longer asked for: ${missing.map(({ stepKey }) => stepKey).join(", ")}`
    return {
      runId,
      functionId,
      recorded: firstMissing,
      ...(newStep === undefined ? {} : { asked: newStep }),
      missing,
      message: `${runText} diverges at step ${firstMissing.stepKey}: the journal has ${describeStep(firstMissing)}, but ${reason}${othersText}`
    }
  }
  // a run does not record steps that it did not wait for: a new step is a divergence only if the handler cannot end
  // without it
  if (history.status !== "completed" || end?._tag === "Completed") return undefined
  const failureMessage = end?._tag === "Failed" || end?._tag === "Retrying" ? end.error.message : undefined
  if (failureMessage === undefined && newStep === undefined) return undefined
  return {
    runId,
    functionId,
    ...(newStep === undefined ? {} : { asked: newStep }),
    missing,
    message:
      `${runText} completed after its recorded steps, and ` +
      (failureMessage === undefined && newStep !== undefined
        ? `the code continues with ${describeStep(newStep)} (${newStep.stepKey})`
        : `the handler fails: ${failureMessage}`)
  }
}

/**
 * The unrecorded step with which the handler continues. The last unrecorded step was called when the handler had
 * received a certain number of outcomes. The first unrecorded step that was called at this number is returned:
 * unrecorded steps that were called at a lower number may have lost a race.
 */
const nextUnrecorded = (
  recorded: ReadonlyArray<StepName>,
  requestedSteps: ReadonlyMap<string, RequestedStep>
): StepName | undefined => {
  const keys = new Set(recorded.map(({ stepKey }) => stepKey))
  const unrecorded = Array.from(requestedSteps.values()).filter(
    ({ kind, stepKey }) => kind !== "parallel" && !keys.has(stepKey)
  )
  const last = unrecorded.at(-1)?.outcomesBefore
  const first = unrecorded.find(({ outcomesBefore }) => outcomesBefore === last)
  return first === undefined ? undefined : stepName(first)
}

const stepName = ({ kind, name, stepKey }: StepName): StepName => ({ stepKey, name, kind })
const describeStep = ({ kind, name }: StepName): string => `the \`${kind}\` step "${name}"`
