/** One step call of a handler in one turn. */
import type { RetryPolicy } from "../Backoff.ts"
import type { Outcome, TurnOp } from "../Protocol/Worker.ts"
import type { StepKind } from "../StepKind.ts"
import type { Attempt } from "./Attempt.ts"
import type { StepTimeout } from "./FunctionPlan.ts"
import type { StepScope } from "./StepScope.ts"
import type { PendingOutcome } from "./Settlement.ts"

/** Ops that ask the engine to perform a step. */
export type StepOp = Extract<
  TurnOp,
  { readonly _tag: "Sleep" | "WaitForEvent" | "Invoke" | "InvokeAsync" | "Publish" }
>

/** User code that a step runs. `begin` starts the code, and tells the attempt when and how the code has ended. */
export interface StepCode {
  readonly begin: (attempt: Attempt) => void
  readonly timeout: StepTimeout | undefined
  readonly retry: RetryPolicy
}

/** What performs the step: an op of the engine, or code in this process. */
export type StepWork = StepOp | StepCode

export class StepCall {
  readonly key: string
  /** The name in the journal, such as `charge`, `publish:orders`, `compensate:charge`. */
  readonly name: string
  readonly kind: StepKind
  readonly scope: StepScope
  readonly work: StepWork
  /**
   * Delivers the outcome to the handler. Called at most once. Never called when the call is withdrawn or the turn ends
   * before the outcome is known.
   */
  readonly receive: (outcome: Outcome) => void
  /** How many attempts have failed so far. */
  failures = 0
  /** The outcome, on its way to the handler. */
  pendingOutcome: PendingOutcome | undefined = undefined
  /** The attempt that runs, or waits to start. */
  attempt: Attempt | undefined = undefined
  /**
   * For a wait for an event: the earlier waits for the same event and `match` whose events the handler had not
   * seen when it made this call (`UnseenEvents`).
   */
  unseenWaits: ReadonlyArray<StepCall> | undefined = undefined
  /**
   * Whether `TurnSteps.withdraw` was called: the handler has shown that it does not wait for this call, as an
   * interrupted fiber does. A promise that nobody awaits gives no such sign.
   */
  isWithdrawn = false

  constructor(
    key: string,
    name: string,
    kind: StepKind,
    scope: StepScope,
    work: StepWork,
    receive: (outcome: Outcome) => void
  ) {
    this.key = key
    this.name = name
    this.kind = kind
    this.scope = scope
    this.work = work
    this.receive = receive
  }
}

export const isCode = (work: StepWork): work is StepCode => "begin" in work
