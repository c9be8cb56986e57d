/**
 * Runs one turn in one request: starts the turn, reports the ops of the turn through a session, and ends when the last
 * op was acknowledged.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { RunCancelledError, TurnAbortedError } from "../Errors.ts"
import * as Alarm from "../Execution/Alarm.ts"
import { startTurn, type TurnEnd, type TurnHandle } from "../Execution/Turn.ts"
import type { AnyFunction } from "../Function.ts"
import type { Logger } from "../Logger.ts"
import type { Job, Notice, TurnOp } from "../Protocol/Worker.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import { leaseLostError, Reporter } from "../Worker/Reporter.ts"
import type { PushedTurn } from "./TurnSessions.ts"

/** What all turns of a handler share. */
export interface TurnSurroundings {
  readonly clock: Clock.Clock
  /** The services that the functions require. */
  readonly context: Context.Context<never>
  readonly logger: Logger
  /** Where the `logger` of handlers writes; the console when absent. */
  readonly handlerLogger?: Logger
  readonly eventDefinitions: EventDefinitionRegistry | undefined
  readonly turnBudgetMs: number
}

/**
 * Waits for a few rounds of the event loop before a turn starts. A process that was frozen may read a request that
 * the engine has given up, and whose turn another process has run meanwhile. The notice that the engine has closed
 * the connection arrives right after such a request. This wait lets it arrive before the turn starts.
 */
const letHangUpsArrive = Effect.repeat(
  Effect.callback<void>((resume) => {
    const immediate = setImmediate(() => resume(Effect.void))
    return Effect.sync(() => clearImmediate(immediate))
  }),
  { times: 2 }
)

/** Runs a turn to its end. Interrupting the Effect, as when the engine hangs up, aborts the running steps. */
export const runTurn = (
  fn: AnyFunction,
  job: Job,
  session: PushedTurn,
  { clock, context, eventDefinitions, handlerLogger, logger, turnBudgetMs }: TurnSurroundings
): Effect.Effect<TurnEnd> =>
  Effect.scoped(
    Effect.gen(function* () {
      yield* letHangUpsArrive
      // each turn has an alarm of its own, so that no timer outlives the request
      const alarm = yield* Alarm.make
      const fork = Effect.runForkWith(context)
      const scope = yield* Effect.scope
      return yield* Effect.callback<TurnEnd>((resume) => {
        const reporter = new Reporter({ send: session.report, fork, logger })
        let handle: TurnHandle | undefined = undefined
        const outbox = reporter.open(
          job.jobId,
          job.runId,
          (error) => handle?.abort(error),
          () => handle?.notice({ _tag: "Paused", jobId: job.jobId })
        )
        let hasProgress = false
        let isOverBudget = false
        const wrapUpWhenDue = (): void => {
          // without progress the turn goes on: the next request would only reach the same point again
          if (hasProgress && isOverBudget) handle?.wrapUp()
        }
        alarm.at(clock.currentTimeMillisUnsafe() + turnBudgetMs, () => {
          isOverBudget = true
          wrapUpWhenDue()
        })
        handle = startTurn(
          fn,
          job,
          {
            clock,
            alarm,
            context,
            logger,
            ...(handlerLogger === undefined ? {} : { handlerLogger }),
            keepLine: (line) => outbox.log(line),
            report: (op, onAck) => {
              outbox.report(op, onAck)
              if (!isProgress(op)) return
              hasProgress = true
              wrapUpWhenDue()
            },
            defers: session.defers,
            noteHandlerWentOn: (stepName) => void fork(Effect.ignore(session.reportLateStep(stepName))),
            ...(eventDefinitions === undefined ? {} : { eventDefinitions })
          },
          (end) => {
            reporter.stop()
            resume(Effect.succeed(end))
          }
        )
        const turn = handle
        if (session.watch !== undefined) {
          Fiber.runIn(fork(session.watch(turn, (notice) => applyNotice(turn, job.runId, notice))), scope)
        }
        return Effect.sync(() => {
          outbox.close()
          reporter.stop()
          turn.abort(
            new TurnAbortedError(
              `The request for a turn of run ${job.runId} was aborted: the run continues from its last reported step`,
              { code: "REQUEST_ABORTED", retryable: true, details: { runId: job.runId } }
            )
          )
        })
      })
    })
  )

const isProgress = ({ _tag }: TurnOp): boolean => _tag === "StepDone" || _tag === "StepRetry"

const applyNotice = (turn: TurnHandle, runId: string, notice: Notice): void => {
  switch (notice._tag) {
    case "Fired":
    case "Paused":
    case "Resumed":
      return turn.notice(notice)
    case "Cancelled":
      return turn.abort(new RunCancelledError(runId))
    case "LeaseLost":
      return turn.abort(leaseLostError(runId, notice.reason))
  }
}
