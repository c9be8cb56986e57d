/** What a turn needs of its host (a worker or a push handler), and what the host can ask of the turn. */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import type { SerializedError } from "../Errors.ts"
import type { JsonText } from "../Json.ts"
import type { Logger } from "../Logger.ts"
import type { LogLine, Notice, Outcome, TurnOp } from "../Protocol/Worker.ts"
import type { RunningStep } from "../Protocol/RunningSteps.ts"
import type { Alarm } from "./Alarm.ts"
import type { StepTracing } from "./StepTracing.ts"
import type { EventDefinitionRegistry } from "../Upcaster.ts"
import type { PauseCode } from "./TurnPause.ts"
import type { TurnProbe } from "./TurnProbe.ts"

export interface TurnHost {
  /**
   * Queues an op of this turn; ops are sent in order. `onAck` is called after the engine has committed the op, in the
   * order of the ops, with the op's outcome as `TurnAck` describes it. `onAck` may be called before `report` returns.
   */
  readonly report: (op: TurnOp, onAck?: (outcome: Outcome | undefined) => void) => void
  readonly clock: Clock.Clock
  readonly alarm: Alarm
  /** The worker's logger. */
  readonly logger: Logger
  /** Where the `logger` of handlers writes; the console when this is absent. */
  readonly handlerLogger?: Logger
  /** The id of the worker, for the log lines of handlers; absent for turns without a worker. */
  readonly workerId?: string
  /** Takes the log lines of handlers, for the next report. */
  readonly keepLine?: (line: LogLine) => void
  /** The services for Effect handlers. */
  readonly context: Context.Context<never>
  /**
   * Called when the handler has continued after its turn was suspended: the turn was judged quiet too early. `stepName`
   * is the name of the step that the handler called, or "the end of the handler" when it has ended.
   */
  readonly noteHandlerWentOn: (stepName: string) => void
  /**
   * Whether only a later turn will know the outcome of the op, since the engine cannot answer before this turn has
   * ended, for example. The turn then wraps up, see {@link TurnHandle.wrapUp}.
   */
  readonly defers?: (op: TurnOp) => boolean
  /**
   * Called before the code of a step begins. A process that was frozen or busy may have lost its lease: the host then
   * aborts the turn, and returns `false`.
   */
  readonly mayBegin?: () => boolean
  /** Starts a step's code now or a little later. When this is absent, code starts at once. */
  readonly pace?: (start: () => void) => void
  /** The registered event definitions: they upcast the data of stored events. */
  readonly eventDefinitions?: Pick<EventDefinitionRegistry, "upcastEvent" | "getLatestVersion">
  /** The tracing of the turn, if it is traced. */
  readonly tracing?: StepTracing
  /** Observes the turn, for tests. */
  readonly probe?: TurnProbe
}

/** How a turn ended. */
export type TurnEnd =
  | { readonly _tag: "Completed"; readonly output: JsonText | undefined }
  | { readonly _tag: "Failed"; readonly error: SerializedError }
  /** The handler failed outside of steps. The engine starts another turn after the delay. */
  | { readonly _tag: "Retrying"; readonly error: SerializedError }
  /** The run waits for the open steps, or was released: then `open` is empty, and another turn follows. */
  | { readonly _tag: "Suspended"; readonly open: ReadonlyArray<string> }
  | { readonly _tag: "Paused"; readonly code: PauseCode; readonly message: string }
  /** `TurnHandle.abort` was called. */
  | { readonly _tag: "Aborted"; readonly reason: Error }

export interface TurnHandle {
  /**
   * Tells the turn that a suspended step goes on, or that its run is to be paused or resumed. After `Paused` no more
   * steps begin. If the handler calls further steps, the turn ends once its running steps are reported, as after
   * {@link wrapUp}. `Resumed` revokes that. The turn ignores other notices.
   */
  readonly notice: (notice: Notice) => void
  /**
   * Lets no more code begin. If the handler calls further steps with code, the turn ends once its running steps are
   * reported: the run is released (`Release`), and another turn continues.
   */
  readonly wrapUp: () => void
  /**
   * Ends the turn at once: signals abort with `reason`, an Effect handler is interrupted, and nothing more is
   * reported. Used for a refused report, a lost lease, a cancelled run or a forced stop.
   */
  readonly abort: (reason: Error) => void
  /** The steps whose code has run for at least this many milliseconds. */
  readonly running: (atLeastMs: number) => ReadonlyArray<RunningStep>
}
