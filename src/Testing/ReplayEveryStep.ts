/**
 * Replays the handler of a run each time that something was recorded, before the run continues. So a test notices
 * at once, and not only after a restart, when a handler depends on state that it keeps outside of steps.
 */
import * as Effect from "effect/Effect"
import { NondeterminismError } from "../Errors.ts"
import type { AnyFunction } from "../Function.ts"
import type { JsonText } from "../Json.ts"
import type { Job, JournalEntry, OpenStep, Outcome, TurnOp, WorkerTransport } from "../Protocol/Worker.ts"
import { hasErrors, plainResult } from "../ResultEncoding.ts"
import type { StepKind } from "../StepKind.ts"
import { replay } from "./Replay.ts"

type Transport = (typeof WorkerTransport)["Service"]

/** A turn, with what has been recorded of its run so far. */
interface FollowedTurn {
  readonly job: Job
  readonly journal: Array<JournalEntry>
  readonly openSteps: Map<string, OpenStep>
  /** Outcomes of waits that have ended. The handler has not received these outcomes yet. */
  readonly firedOutcomes: Map<string, Outcome>
}

export interface Replays {
  readonly functionOf: (id: string) => AnyFunction | undefined
  /** Called when a replay begins. */
  readonly onBegin: () => void
  /** Called when a replay ends. */
  readonly onEnd: () => void
  /** Called with the first divergence of each replay. */
  readonly onDivergence: (runId: string, error: NondeterminismError) => void
}

/** Wraps the transport of workers so that their runs are replayed. */
export const withReplays = (transport: Transport, replays: Replays): Transport => ({
  open: (registration, handlers) =>
    Effect.gen(function* () {
      const turns = new Map<string, FollowedTurn>()
      const session = yield* transport.open(registration, {
        ...handlers,
        onJob: (job) => {
          turns.set(job.jobId, {
            job,
            journal: [...job.journal],
            openSteps: new Map(job.open.map((open) => [open.stepKey, open])),
            firedOutcomes: new Map()
          })
          handlers.onJob(job)
        },
        onNotice: (notice) => {
          if (notice._tag === "Fired" && notice.outcome !== undefined) {
            turns.get(notice.jobId)?.firedOutcomes.set(notice.stepKey, notice.outcome)
          }
          handlers.onNotice(notice)
        }
      })
      const context = yield* Effect.context<never>()
      return {
        ...session,
        report: (reports) =>
          Effect.tap(session.report(reports), (acks) =>
            Effect.forEach(reports, (report, i) => {
              const turn = turns.get(report.jobId)
              const ack = acks[i]
              if (turn === undefined || ack?._tag !== "Accepted") return Effect.void
              let hasNewEntry = false
              for (const [n, op] of report.ops.entries()) {
                if (record(turn, op, ack.outcomes[n])) hasNewEntry = true
              }
              return hasNewEntry
                ? Effect.acquireUseRelease(
                    Effect.sync(replays.onBegin),
                    () => Effect.provideContext(replayTurn(turn, report.ops.at(-1), replays), context),
                    () => Effect.sync(replays.onEnd)
                  )
                : Effect.void
            })
          )
      }
    })
})

const replayTurn = (
  { job, journal, openSteps }: FollowedTurn,
  lastOp: TurnOp | undefined,
  { functionOf, onDivergence }: Replays
): Effect.Effect<void> => {
  const fn = functionOf(job.functionId)
  // in a turn that compensates, the handler is stopped before it ends, so it is not replayed
  if (fn === undefined || job.compensating !== undefined) return Effect.void
  const completed = lastOp?._tag === "Complete"
  const history = {
    ...job,
    journal: [...journal],
    open: [...openSteps.values()],
    status: completed ? "completed" : "running"
  }
  return Effect.map(replay(fn, history), ({ divergence, end }) => {
    if (divergence !== undefined) {
      return onDivergence(job.runId, new NondeterminismError(divergence.message, { details: divergence }))
    }
    if (!completed || end?._tag !== "Completed" || isSameResult(end.output, lastOp.output)) return
    onDivergence(
      job.runId,
      new NondeterminismError(
        `Run ${job.runId} of function "${job.functionId}" returned ${lastOp.output ?? "nothing"}, and ${end.output ?? "nothing"} when it ran ` +
          "again from its recorded steps: what it returns depends on something that no step recorded. Put what depends on time, chance or the outside world inside steps",
        { details: { runId: job.runId, functionId: job.functionId } }
      )
    )
  })
}

/** Adds an op to the history. Returns whether there is something new to replay. */
const record = (turn: FollowedTurn, op: TurnOp, outcome: Outcome | undefined): boolean => {
  const addToJournal = (stepKey: string, name: string, kind: StepKind, outcome: Outcome, attempt: number) => {
    turn.openSteps.delete(stepKey)
    turn.journal.push({ stepKey, name, kind, outcome, attempt })
    return kind !== "compensate"
  }
  const addOpenStep = (op: { readonly stepKey: string; readonly name: string }, kind: StepKind) => {
    const { name, stepKey } = op
    turn.openSteps.set(stepKey, { stepKey, name, kind, failures: 0, pending: true })
    if (outcome !== undefined) turn.firedOutcomes.set(stepKey, outcome)
    return false
  }
  switch (op._tag) {
    case "StepDone":
      return addToJournal(op.stepKey, op.name, op.kind, op.outcome, op.attempt)
    case "StepRetry":
      turn.openSteps.set(op.stepKey, { ...op, pending: true })
      return false
    case "Transact":
      // refused writes were not stored
      return outcome?._tag === "Success" && addToJournal(op.stepKey, op.name, "tx", outcome, op.attempt)
    case "Sleep":
      return addOpenStep(op, "sleep")
    case "WaitForEvent":
      return addOpenStep(op, "waitForEvent")
    case "Invoke":
      return addOpenStep(op, "invoke")
    case "InvokeAsync":
      return outcome !== undefined && addToJournal(op.stepKey, op.name, "invokeAsync", outcome, 1)
    case "Publish":
      return outcome !== undefined && addToJournal(op.stepKey, op.name, "publish", outcome, 1)
    case "Settle": {
      const open = turn.openSteps.get(op.stepKey)
      const fired = turn.firedOutcomes.get(op.stepKey)
      return (
        open !== undefined && fired !== undefined && addToJournal(op.stepKey, open.name, open.kind, fired, 1)
      )
    }
    case "Withdraw":
      turn.openSteps.delete(op.stepKey)
      return false
    case "Complete":
      return true
    default:
      return false
  }
}

/** Whether two results are the same, apart from the stacks of errors in them. */
const isSameResult = (one: JsonText | undefined, other: JsonText | undefined): boolean =>
  one === other || (hasErrors(one) && JSON.stringify(plainResult(one)) === JSON.stringify(plainResult(other)))
