/** The client's methods about functions: looking at them, pausing them, running one now, and their versions. */
import type * as HKT from "effect/HKT"
import type { FunctionNotFoundError, InvalidStateError } from "../Errors.ts"
import type { FunctionInfo, FunctionVersion, LiveVersion } from "../Protocol/Functions.ts"
import type { Run } from "../Protocol/Runs.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./Kinds.ts"
import { byId, call, type Methods } from "./Methods.ts"

/** Options of `pauseFunction`. */
export interface PauseFunctionOptions {
  /** Why, for those who see it paused; none by default. */
  readonly reason?: string
  /** Who pauses it; "a client" by default. What the access log has is the key. */
  readonly by?: string
}

/** Options of `runFunction`. */
export interface RunFunctionOptions {
  /** Starting the same function again with the same key within 24 hours returns the first run and starts none. */
  readonly idempotencyKey?: string
}

/** What a client does with functions, in the reading `F`. */
export interface FunctionsApi<F extends HKT.TypeLambda> {
  /** All functions of the environment that are registered. */
  listFunctions(...options: CallArgs<F>): Kind<F, Array<FunctionInfo>, ClientError>
  /**
   * Forgets a function that is no longer in anybody's code: no event, schedule or invocation starts it any more. Its runs
   * stay; cancel those that have not ended. A worker that registers it brings it back, so that this fails with
   * `InvalidStateError` while a live worker has it.
   */
  deleteFunction(
    functionId: string,
    ...options: CallArgs<F>
  ): Kind<F, void, FunctionNotFoundError | InvalidStateError | ClientError>
  /**
   * New runs of the function wait from now on, `pending`, until `resumeFunction`; fires of its schedules are left out. Runs that have
   * begun go on to their end. It stays paused when workers register it again, and when the engine is started again. One that is paused
   * already has the newer reason, if one is given.
   */
  pauseFunction(
    functionId: string,
    options?: Options<F, PauseFunctionOptions>
  ): Kind<F, FunctionInfo, FunctionNotFoundError | ClientError>
  /** Lets the runs of a paused function begin. */
  resumeFunction(
    functionId: string,
    ...options: CallArgs<F>
  ): Kind<F, FunctionInfo, FunctionNotFoundError | ClientError>
  /**
   * Starts one run of the function, and of no other, without an event: its handler gets the data as one that was invoked does. Without
   * `data` a function with a schedule gets what a fire of its first one has, with the time that it is now, and others `null`. The run of
   * a function that is paused waits.
   *
   * ```ts
   * const { id } = await client.runFunction("make-report", { month: "2026-11" })
   * ```
   */
  runFunction(
    functionId: string,
    data?: unknown,
    options?: Options<F, RunFunctionOptions>
  ): Kind<F, Run, FunctionNotFoundError | ClientError>
  /** How the function was registered, newest first: what changed when. The last 50 versions are kept. */
  functionHistory(
    functionId: string,
    ...options: CallArgs<F>
  ): Kind<F, Array<FunctionVersion>, FunctionNotFoundError | ClientError>
  /**
   * The versions of the code of one function, or of all, that have unfinished runs or live workers, and how many: what is left of old
   * versions. Only functions with `versioning: "pin"` have runs that belong to a version.
   */
  liveVersions(
    functionId?: string,
    ...options: CallArgs<F>
  ): Kind<F, Array<LiveVersion>, FunctionNotFoundError | ClientError>
}

const ofFunction = { FunctionNotFoundError: true } as const

export const functionsMethods: Methods<FunctionsApi<PromiseKind>, FunctionsApi<EffectKind>> = {
  listFunctions: [[call]],
  deleteFunction: [byId, { FunctionNotFoundError: true, InvalidStateError: true }],
  pauseFunction: [[null, { ...call, reason: true, by: true }], ofFunction],
  resumeFunction: [byId, ofFunction],
  runFunction: [[null, null, { ...call, idempotencyKey: true }], ofFunction],
  functionHistory: [byId, ofFunction],
  liveVersions: [[null, call], ofFunction]
}
