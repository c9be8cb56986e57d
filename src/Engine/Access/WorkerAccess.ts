/**
 * What a worker may do through its functions. Policies have actions for events, secrets and writes, and a worker must not bypass
 * the checks of these actions by running a function. The actions are checked when the worker registers, when a run is dispatched,
 * and when the worker reports.
 */
import { type IronflowError, isIronflowError } from "../../Errors.ts"
import { failingFunctionId } from "../../OnFailure.ts"
import type {
  FunctionRegistration,
  TurnAck,
  TurnOp,
  TurnReport,
  WorkerRegistration
} from "../../Protocol/Worker.ts"
import { cronEventName } from "../../Trigger.ts"
import type { Caller } from "./Access.ts"
import { reachOf } from "./SubscriptionReach.ts"

type Announced = Pick<FunctionRegistration, "id" | "secrets" | "triggers">

/** Throws `UnauthorizedError` when the caller may not act as this worker. */
export const checkWorker = (
  caller: Caller,
  {
    environment,
    functions,
    workerId
  }: Pick<WorkerRegistration, "environment" | "workerId"> & {
    readonly functions: ReadonlyArray<Announced>
  }
): void => {
  caller.check("worker:run", `worker:${workerId}`, environment)
  for (const fn of functions) {
    caller.checkNotDenied("function:register", `function:${fn.id}`, environment)
    checkFunctionData(caller, environment, fn)
  }
}

/**
 * Throws `UnauthorizedError` when the caller may not have what the function gets (its secrets, and the events of its triggers), or
 * may not emit the events of its schedules.
 */
const checkFunctionData = (
  caller: Caller,
  environment: string,
  { id, secrets, triggers }: Announced
): void => {
  for (const name of secrets) caller.check("secret:read", `secret:${name}`, environment)
  for (const trigger of triggers) {
    if (trigger.event !== undefined) checkEvents(caller, environment, trigger.event)
    // a function with a trigger on system events is told of the runs of all functions, unless it is the failure handler of one
    // function
    if (trigger.event?.startsWith("system.") === true && failingFunctionId({ id, triggers }) === undefined)
      caller.checkNotDenied("run:read", "run:*", environment)
    if (trigger.cron !== undefined) {
      caller.checkNotDenied("emit:event", `event:${cronEventName(id, trigger)}`, environment)
    }
  }
}

/** Throws `UnauthorizedError` when a policy denies a subscription to some events that the name or pattern matches. */
export const checkEvents = (caller: Caller, environment: string, event: string): void => {
  if (!caller.isDenied("subscription:read")) return
  const pattern = `events:${event}`
  caller.checkNotDenied("subscription:read", `subscription:${pattern}`, environment, reachOf(pattern))
}

/** Whether the caller may have the data of an event that it gets by other means than a subscription. */
export const mayHaveEvent = (
  caller: Caller | undefined,
  environment: string,
  event: string,
  entity?: { readonly type: string; readonly id: string }
): boolean => {
  if (caller === undefined || !caller.isDenied("subscription:read")) return true
  const names = [
    `subscription:events:${event}`,
    `subscription:${event}`,
    ...(entity === undefined ? [] : [`subscription:entity:${entity.type}.${entity.id}.${event}`])
  ]
  return names.every((name) => caller.isNotDenied("subscription:read", name, environment))
}

/**
 * Whether no policy denies the caller the stream of an entity. It is for events that the caller gets by other means than reading
 * the stream.
 */
export const mayHaveStream = (caller: Caller | undefined, environment: string, entityId: string): boolean =>
  caller === undefined ||
  !caller.isDenied("stream:read") ||
  caller.isNotDenied("stream:read", `stream:${entityId}`, environment)

/** The functions whose runs a worker may get now. */
export interface WorkerLimits {
  /** Whether there may be functions whose runs the worker does not get. */
  readonly isLimited: () => boolean
  readonly mayRun: (fn: FunctionRegistration) => boolean
}

export const limitsOf = (caller: Caller, environment: string): WorkerLimits => ({
  isLimited: () =>
    caller.isEnded ||
    !caller.mayAll("secret:read") ||
    caller.isDenied("emit:event") ||
    caller.isDenied("function:register") ||
    caller.isDenied("run:read") ||
    caller.isDenied("subscription:read"),
  mayRun: (fn) => {
    if (caller.isEnded) return false
    return (
      caller.isNotDenied("function:register", `function:${fn.id}`, environment) &&
      refusalOf(() => checkFunctionData(caller, environment, fn)) === undefined
    )
  }
})

/**
 * Checks the operations in the reports of a worker. If the caller may not do an operation of a report, the run is paused there. The
 * operations before it are done. The results of steps' code that come after it are stored too: this code has run, and must not run
 * again when a client resumes the run. The worker that then continues the run needs the permission.
 */
export const permittedReports = (
  caller: Caller | undefined,
  environment: string,
  reports: ReadonlyArray<TurnReport>
): {
  readonly reports: ReadonlyArray<TurnReport>
  /**
   * Turns the acks of the engine into the answers for the worker. For a run that was paused, the answer is that the lease is
   * lost.
   */
  readonly toAnswers: (acks: ReadonlyArray<TurnAck>) => ReadonlyArray<TurnAck>
} => {
  const refusals = new Map<number, { readonly error: IronflowError; readonly opIndex: number }>()
  if (caller?.key !== undefined) {
    for (let i = 0; i < reports.length; i++) {
      for (const [opIndex, op] of reports[i]!.ops.entries()) {
        const error = checkedOps.has(op._tag) ? refusalOf(() => checkOp(caller, environment, op)) : undefined
        if (error === undefined) continue
        refusals.set(i, { error, opIndex })
        break
      }
    }
  }
  if (refusals.size === 0) return { reports, toAnswers: (acks) => acks }
  return {
    reports: reports.map((report, i) => {
      const refusal = refusals.get(i)
      if (refusal === undefined) return report
      const { opIndex, error } = refusal
      const ops = report.ops.filter((op, nth) => nth < opIndex || codeResultOps.has(op._tag))
      return { ...report, ops: [...ops, { _tag: "Pause", code: error.code, message: error.message }] }
    }),
    toAnswers: (acks) =>
      acks.map((ack, i) => {
        const refusal = refusals.get(i)
        return refusal === undefined || ack._tag === "Refused"
          ? ack
          : { _tag: "Refused", reason: "LEASE_LOST", message: `The run was paused: ${refusal.error.message}` }
      })
  }
}

/** The kinds of operations for which policies have an action. */
const checkedOps: ReadonlySet<TurnOp["_tag"]> = new Set(["Publish", "Transact", "WaitForEvent"] as const)

/** The kinds of operations that tell how an attempt of a step's code has ended. */
const codeResultOps: ReadonlySet<TurnOp["_tag"]> = new Set(["StepDone", "StepRetry"] as const)

const checkOp = (caller: Caller, environment: string, op: TurnOp): void => {
  switch (op._tag) {
    case "Publish":
      return caller.checkNotDenied("publish:message", `topic:${op.topic}`, environment)
    case "WaitForEvent":
      return checkEvents(caller, environment, op.event)
    case "Transact":
      for (const write of op.writes) {
        switch (write._tag) {
          case "emit":
            caller.checkNotDenied("emit:event", `event:${write.name}`, environment)
            break
          case "append":
            caller.checkNotDenied("stream:append", `stream:${write.entityId}`, environment)
            for (const { name } of write.events)
              caller.checkNotDenied("emit:event", `event:${name}`, environment)
            break
          case "kv":
            caller.checkNotDenied(
              write.value === undefined ? "kv:delete" : "kv:write",
              `bucket:${write.bucket}`,
              environment
            )
        }
      }
  }
}

const refusalOf = (check: () => void): IronflowError | undefined => {
  try {
    check()
    return undefined
  } catch (error) {
    if (isIronflowError(error)) return error
    throw error
  }
}

/**
 * Throws `UnauthorizedError` when the caller, if there is one, may not register the function, or may not have what the function's
 * runs get.
 */
export const checkRegistering = (
  caller: Caller | undefined,
  environment: string,
  fn: FunctionRegistration
): void => {
  if (caller === undefined) return
  caller.check("function:register", `function:${fn.id}`, environment)
  checkFunctionData(caller, environment, fn)
}
