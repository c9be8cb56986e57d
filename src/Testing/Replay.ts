/**
 * Runs a handler from the top against what was recorded of a run, and says where the two part. No step's code runs and
 * nothing is recorded: the handler is stopped where it would go on to something new.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Alarm from "../Execution/Alarm.ts"
import type { StepCall } from "../Execution/StepCall.ts"
import { startTurn, type TurnEnd } from "../Execution/Turn.ts"
import type { AnyFunction } from "../Function.ts"
import { createNoopLogger } from "../Logger.ts"
import type { StepKind } from "../Protocol/Worker.ts"
import { isEnded, type RunHistory } from "../Protocol/History.ts"

/** A step by its id within the run. */
export interface StepName {
  readonly stepKey: string
  readonly name: string
  readonly kind: StepKind
}

/** Where code parts from a history. */
export interface Divergence {
  readonly runId: string
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
/** Real milliseconds that a handler may spend outside of steps. */
const patienceMs = 2000

/** Replays with the services in context, which an Effect handler may need. */
export const replay = (fn: AnyFunction, history: RunHistory): Effect.Effect<Replayed> =>
  Effect.scoped(
    Effect.gen(function* () {
      const clock = yield* Clock.Clock
      const alarm = yield* Alarm.make
      const context = yield* Effect.context<never>()
      return yield* Effect.callback<Replayed>((resume) => {
        const asked = new Map<string, StepName>()
        let end: TurnEnd | undefined
        let wantsNew = false
        let movements = 0
        const turn = startTurn(
          fn,
          { ...history, jobId: `replay-${history.runId}`, lingerMs: 0, transactions: true },
          {
            clock,
            alarm,
            context,
            logger: createNoopLogger(),
            late: () => undefined,
            report: (op, onAck) => {
              movements++
              // nothing is committed here; the last word of a turn is answered, so that it ends
              if (op._tag === "Complete" || op._tag === "Fail" || op._tag === "Pause") onAck?.(undefined)
              else if (op._tag === "RetryRun" || op._tag === "Suspend") onAck?.(undefined)
              else if (op._tag !== "Settle") wantsNew = true
              else onAck?.(undefined)
            },
            probe: {
              asked: (call) => {
                movements++
                asked.set(call.key, nameOf(call))
              },
              begin: () => {
                movements++
                wantsNew = true
              }
            }
          },
          (ended) => {
            end = ended
          }
        )
        let seen = -1
        let rest = 0
        let waitedMs = 0
        let next: NodeJS.Immediate | NodeJS.Timeout
        const look = (): void => {
          rest = seen === movements ? rest + 1 : 0
          seen = movements
          if (end !== undefined || (wantsNew && rest > restRounds) || waitedMs > patienceMs) {
            const result = { divergence: compare(history, asked, end, fn), end }
            turn.abort(new Error("The replay is over"))
            resume(Effect.succeed(result))
          } else if (rest > restRounds) {
            waitedMs++
            next = setTimeout(look, 1)
          } else next = setImmediate(look)
        }
        next = setImmediate(look)
        return Effect.sync(() => {
          clearImmediate(next as NodeJS.Immediate)
          clearTimeout(next as NodeJS.Timeout)
          turn.abort(new Error("The replay was interrupted"))
        })
      })
    })
  )

const nameOf = (call: StepCall): StepName => ({ stepKey: call.key, name: call.name, kind: call.kind })

const compare = (
  history: RunHistory,
  asked: ReadonlyMap<string, StepName>,
  end: TurnEnd | undefined,
  fn: AnyFunction
): Divergence | undefined => {
  const { functionId, runId } = history
  // compensations are not asked for by the handler, and a verdict on branches follows from them
  const recorded = [...history.journal, ...history.open].filter(
    ({ kind }) => kind !== "compensate" && kind !== "parallel"
  )
  const keys = new Set(recorded.map(({ stepKey }) => stepKey))
  const missing = recorded.filter(({ stepKey }) => !asked.has(stepKey)).map(stepName)
  const added = [...asked.values()].find(({ kind, stepKey }) => kind !== "parallel" && !keys.has(stepKey))
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
      ...(now === undefined ? {} : { asked: now }),
      missing: missing.filter(({ stepKey }) => stepKey !== changed.stepKey),
      message: `${ofRun} parts at step ${changed.stepKey}: recorded was ${shown(changed)}, and the code asks for ${now === undefined ? "nothing" : shown(now)}`
    }
  }
  const [first] = missing
  if (first !== undefined) {
    const why =
      added !== undefined
        ? `the code asks for ${shown(added)} (${added.stepKey}) instead`
        : end?._tag === "Failed" || end?._tag === "Retrying"
          ? `the handler fails before it: ${end.error.message}`
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
  if (added !== undefined && isEnded(history) && history.status !== "cancelled") {
    return {
      runId,
      functionId,
      asked: added,
      missing,
      message: `${ofRun} ${history.status} after its recorded steps, and the code goes on to ${shown(added)} (${added.stepKey})`
    }
  }
  return undefined
}

const stepName = ({ kind, name, stepKey }: StepName): StepName => ({ stepKey, name, kind })
const shown = ({ kind, name }: StepName): string => `${kind} "${name}"`
