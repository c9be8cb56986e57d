/** What a turn needs from outside, and what the outside gets of it. */
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
  /** Where the `logger` of handlers writes to; the console when absent. */
  readonly handlerLogger?: Logger
  /** The worker, for the lines of handlers; absent where turns run without one. */
  readonly workerId?: string
  /** Is given what handlers log, to go with the next report. */
  readonly keepLine?: (line: LogLine) => void
  /** Services for Effect handlers. */
  readonly context: Context.Context<never>
  /**
   * The handler went on after its turn had been suspended: `stepName` is the step that it called, or a word for its
   * end. The turn was judged quiet too early.
   */
  readonly late: (stepName: string) => void
  /**
   * Whether what comes of the op is known in a later turn only, as where nobody can be asked before the turn has ended.
   * The turn then wraps up, see {@link TurnHandle.wrapUp}.
   */
  readonly defers?: (op: TurnOp) => boolean
  /**
   * Asked before the code of a step begins: a process that was frozen, or too busy to look, may have lost its lease. When
   * it says `false` it has aborted the turn.
   */
  readonly mayBegin?: () => boolean
  /** Begins a step's code, now or a little later. At once when absent. */
  readonly pace?: (start: () => void) => void
  /** Brings the data of a stored event to its newest version. */
  readonly upcast?: (name: string, data: unknown, version: number) => unknown
  /** Where the turn is traced. */
  readonly tracing?: StepTracing
  /** For tests. */
  readonly probe?: TurnProbe
}

/** How a turn ended. */
export type TurnEnd =
  | { readonly _tag: "Completed"; readonly output: JsonText | undefined }
  | { readonly _tag: "Failed"; readonly error: SerializedError }
  /** Something outside steps failed; the engine starts another turn after the delay. */
  | { readonly _tag: "Retrying"; readonly error: SerializedError }
  | { readonly _tag: "Suspended"; readonly open: ReadonlyArray<string> }
  | { readonly _tag: "Paused"; readonly code: "NONDETERMINISM" | "STORE_CORRUPT"; readonly message: string }
  /** `TurnHandle.abort` was called. */
  | { readonly _tag: "Aborted"; readonly reason: Error }

export interface TurnHandle {
  /**
   * Tells the turn of a wait that is over, or that its run is to be paused (`Paused`: no step begins any more, and the turn
   * ends once those that run have finished and are reported) or is not (`Resumed`). Other notices are not for the turn.
   */
  readonly notice: (notice: Notice) => void
  /**
   * Lets no further code begin. A handler that asks for some has its turn ended, once the steps that run have finished
   * and are reported: the run goes back (`Release`), and another turn goes on from there.
   */
  readonly wrapUp: () => void
  /**
   * Ends the turn at once: signals abort with `reason`, an Effect handler is interrupted, nothing more is reported. For
   * a refused report, a lost lease, a cancelled run, a forced stop.
   */
  readonly abort: (reason: Error) => void
  /** The steps whose code has run for so long or longer. */
  readonly running: (atLeastMs: number) => ReadonlyArray<RunningStep>
}
