/** The interface between a turn and its host. */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import type { SerializedError } from "../Errors.ts"
import type { JsonText } from "../Json.ts"
import type { Logger } from "../Logger.ts"
import type { LogLine, Notice, Outcome, TurnOp } from "../Protocol/Worker.ts"
import type { RunningStep } from "../Protocol/RunningSteps.ts"
import type { Alarm } from "./Alarm.ts"
import type { StepTracing } from "./StepTracing.ts"
import type { TurnProbe } from "./TurnProbe.ts"

export interface TurnHost {
  /**
   * Queues an op of this turn; ops are sent in order. `onAck` is called after the commit, in the same order, with the
   * op's outcome as `TurnAck` describes it. It may be called before `report` returns.
   */
  readonly report: (op: TurnOp, onAck?: (outcome: Outcome | undefined) => void) => void
  readonly clock: Clock.Clock
  readonly alarm: Alarm
  /** The worker's logger. */
  readonly logger: Logger
  /** Where the `logger` of handlers writes; the console when absent. */
  readonly handlerLogger?: Logger
  /** The id of the worker, for the log lines of handlers; absent for turns without a worker. */
  readonly workerId?: string
  /** Receives the log lines of handlers, for the next report. */
  readonly keepLine?: (line: LogLine) => void
  /** Services for Effect handlers. */
  readonly context: Context.Context<never>
  /**
   * Called when the handler continued after its turn had been suspended: the turn was judged quiet too early.
   * `stepName` is the step that it called, or a word for its end.
   */
  readonly late: (stepName: string) => void
  /**
   * Whether only a later turn will know the outcome of the op, as when the engine cannot answer before the turn has
   * ended. The turn then wraps up, see {@link TurnHandle.wrapUp}.
   */
  readonly defers?: (op: TurnOp) => boolean
  /**
   * Called before the code of a step begins: a process that was frozen or busy may have lost its lease. When it
   * returns `false` it has aborted the turn.
   */
  readonly mayBegin?: () => boolean
  /** Starts a step's code, now or a little later. At once when absent. */
  readonly pace?: (start: () => void) => void
  /** Upgrades the data of a stored event to its latest version. */
  readonly upcast?: (name: string, data: unknown, version: number) => unknown
  /** The tracing of the turn, if it is traced. */
  readonly tracing?: StepTracing
  /** For tests. */
  readonly probe?: TurnProbe
}

/** How a turn ended. */
export type TurnEnd =
  | { readonly _tag: "Completed"; readonly output: JsonText | undefined }
  | { readonly _tag: "Failed"; readonly error: SerializedError }
  /** The handler failed outside of steps; the engine starts another turn after the delay. */
  | { readonly _tag: "Retrying"; readonly error: SerializedError }
  | { readonly _tag: "Suspended"; readonly open: ReadonlyArray<string> }
  | { readonly _tag: "Paused"; readonly code: "NONDETERMINISM" | "STORE_CORRUPT"; readonly message: string }
  /** `TurnHandle.abort` was called. */
  | { readonly _tag: "Aborted"; readonly reason: Error }

export interface TurnHandle {
  /**
   * Tells the turn that a wait is over, or that its run is to be paused or resumed. `Paused`: no more steps begin,
   * and the turn ends once the running ones are reported. `Resumed` revokes that. Other notices are not for the turn.
   */
  readonly notice: (notice: Notice) => void
  /**
   * Lets no more code begin. If the handler calls for some, the turn ends once its running steps are reported: the
   * run is released (`Release`), and another turn continues.
   */
  readonly wrapUp: () => void
  /**
   * Ends the turn at once: signals abort with `reason`, an Effect handler is interrupted, nothing more is reported.
   * For a refused report, a lost lease, a cancelled run, a forced stop.
   */
  readonly abort: (reason: Error) => void
  /** The steps whose code has run for at least this long. */
  readonly running: (atLeastMs: number) => ReadonlyArray<RunningStep>
}
