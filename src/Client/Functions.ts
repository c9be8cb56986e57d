/** The client's methods for functions. They list, pause and run functions, and list the versions of functions. */
import type * as HKT from "effect/HKT"
import type { FunctionNotFoundError, InvalidStateError } from "../Errors.ts"
import type { FunctionInfo, FunctionVersion, LiveVersion } from "../Protocol/Functions.ts"
import type { Run } from "../Protocol/Runs.ts"
import type { CallArgs, ClientError, EffectKind, Kind, Options, PromiseKind } from "./ApiKinds.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"

/** Options of `pauseFunction`. */
export interface PauseFunctionOptions {
  /** Why the function is paused, shown with its status; none by default. */
  readonly reason?: string
  /**
   * Who pauses the function, shown with its status; "a client" by default. The access log names the API key
   * instead.
   */
  readonly by?: string
}

/** Options of `runFunction`. */
export interface RunFunctionOptions {
  /** Starting the same function with the same key within 24 hours returns the first run and starts none. */
  readonly idempotencyKey?: string
}

/** The methods for functions, for the API kind `F`. */
export interface FunctionsApi<F extends HKT.TypeLambda> {
  /** Lists all registered functions of the environment. */
  listFunctions(...options: CallArgs<F>): Kind<F, Array<FunctionInfo>, ClientError>
  /**
   * Unregisters a function: events, schedules and invocations no longer start it. Its runs are kept: cancel the
   * unfinished ones yourself. Fails with `InvalidStateError` while a live worker has the function. If a worker
   * registers the function later, the function exists again.
   */
  deleteFunction(
    functionId: string,
    ...options: CallArgs<F>
  ): Kind<F, void, FunctionNotFoundError | InvalidStateError | ClientError>
  /**
   * Pauses a function until `resumeFunction`: new runs stay `pending`, and its schedules do not fire. Runs
   * that have started continue to their end. The function stays paused after new registrations and restarts
   * of the engine. If it is paused already, a new reason replaces the old one.
   */
  pauseFunction(
    functionId: string,
    options?: Options<F, PauseFunctionOptions>
  ): Kind<F, FunctionInfo, FunctionNotFoundError | ClientError>
  /** Resumes a paused function; its pending runs start. */
  resumeFunction(
    functionId: string,
    ...options: CallArgs<F>
  ): Kind<F, FunctionInfo, FunctionNotFoundError | ClientError>
  /**
   * Starts one run of this function only, without an event. The handler receives `data` as it does from
   * `step.invoke`. Without `data`, a function with a schedule receives what its first schedule would send now;
   * other functions receive `null`. If the function is paused, the run waits.
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
  /** Returns the registrations of a function, newest first: each change and its time. The last 50 are kept. */
  functionHistory(
    functionId: string,
    ...options: CallArgs<F>
  ): Kind<F, Array<FunctionVersion>, FunctionNotFoundError | ClientError>
  /**
   * Returns the versions that are still needed, of one function or of all functions: each version that has
   * unfinished runs or live workers, and how many it has of each. Only functions with `versioning: "pin"` have
   * runs that belong to a version.
   */
  liveVersions(
    functionId?: string,
    ...options: CallArgs<F>
  ): Kind<F, Array<LiveVersion>, FunctionNotFoundError | ClientError>
}

const functionErrors = { FunctionNotFoundError: true } as const

export const functionsMethods: Methods<FunctionsApi<PromiseKind>, FunctionsApi<EffectKind>> = {
  listFunctions: [[callKeys]],
  deleteFunction: [idArguments, { FunctionNotFoundError: true, InvalidStateError: true }],
  pauseFunction: [[null, { ...callKeys, reason: true, by: true }], functionErrors],
  resumeFunction: [idArguments, functionErrors],
  runFunction: [[null, null, { ...callKeys, idempotencyKey: true }], functionErrors],
  functionHistory: [idArguments, functionErrors],
  liveVersions: [[null, callKeys], functionErrors]
}
