/**
 * Operations on functions and runs that are kept in the access log: pausing and resuming a function, starting a run of a
 * function, forking a run, and moving a run to another version.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ClientApi, EffectKind, FunctionInfo, Run } from "../../Client/Client.ts"
import type { Raw } from "../../Client/NarrowErrors.ts"
import { checkedInEngine as checked } from "../../CheckAsEffect.ts"
import {
  type EngineError,
  FunctionNotFoundError,
  type InvalidStateError,
  LimitExceededError,
  type RunNotFoundError,
  type StepNotFoundError,
  ValidationError
} from "../../Errors.ts"
import { encodeJson, isObject } from "../../Json.ts"
import * as Limits from "../../Limits.ts"
import { show } from "../../Show.ts"
import * as FunctionRows from "../Functions/FunctionRows.ts"
import { forkRun, moveRun } from "../Runs/Forking.ts"
import { startRunNow } from "../Runs/StartRunNow.ts"
import { inEnvironment, type Program } from "../Store/Program.ts"
import { Store, type StoreService } from "../Store/Store.ts"
import type { Transaction } from "../Store/Transaction.ts"
import type { Caller } from "./Access.ts"
import { logOperation } from "./AccessLog.ts"

type OperationsOfEnvironment = Pick<
  Raw<ClientApi<EffectKind>, EngineError>,
  "pauseFunction" | "resumeFunction" | "runFunction" | "forkRun" | "moveRun"
>

export interface LoggedOperationsService {
  /** The operations for `caller`, or for the engine's own process when there is no caller. */
  readonly in: (environment: string, caller?: Caller) => OperationsOfEnvironment
}

export class LoggedOperations extends Context.Service<LoggedOperations, LoggedOperationsService>()(
  "@ironflow/node/Engine/Operations"
) {}

export const layer: Layer.Layer<LoggedOperations, never, Store> = Layer.effect(
  LoggedOperations,
  Effect.map(Store, (store) => ({ in: (environment, caller) => make(store, environment, caller) }))
)

/** Pauses a function, or resumes it when there is no `pause`. `by` is the key id of the caller, for the access log. */
export const pauseFunction = inEnvironment(
  "pauseFunction",
  function* (
    tx: Transaction,
    environment: string,
    functionId: string,
    by: string,
    pause?: { readonly by: string; readonly reason?: string }
  ): Program<void, FunctionNotFoundError> {
    const changedFunction = yield* FunctionRows.setPause(tx, environment, functionId, pause)
    if (!changedFunction) return
    const action = pause === undefined ? "function:resume" : "function:pause"
    yield* logOperation(tx, by, action, functionId, { environment, ...pause })
  },
  (_, functionId) => `pause or resume function "${functionId}"`
)

const runFunction = inEnvironment(
  "runFunction",
  function* (
    tx: Transaction,
    environment: string,
    functionId: string,
    by: string,
    start: { readonly data?: string; readonly idempotencyKey?: string }
  ): Program<Run, FunctionNotFoundError | RunNotFoundError> {
    const { isNew, run } = yield* startRunNow.in(tx, environment, functionId, start)
    if (isNew) yield* logOperation(tx, by, "function:run", functionId, { environment, runId: run.id })
    return run
  },
  (_, functionId) => `start a run of function "${functionId}"`
)

const forkRunFor = inEnvironment(
  "forkRunFor",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    by: string,
    fork: {
      readonly from?: string
      readonly steps?: ReadonlyArray<readonly [step: string, value: string]>
      readonly data?: string
    }
  ): Program<
    Run,
    FunctionNotFoundError | InvalidStateError | RunNotFoundError | StepNotFoundError | ValidationError
  > {
    const run = yield* forkRun.in(tx, environment, runId, fork)
    yield* logOperation(tx, by, "run:fork", runId, {
      environment,
      forkId: run.id,
      ...(fork.from === undefined ? {} : { from: fork.from }),
      ...(fork.steps === undefined ? {} : { steps: fork.steps.map(([step]) => step) }),
      ...(fork.data === undefined ? {} : { withData: true })
    })
    return run
  },
  (_, runId) => `fork run ${runId}`
)

const moveRunFor = inEnvironment(
  "moveRunFor",
  function* (
    tx: Transaction,
    environment: string,
    runId: string,
    by: string,
    version?: string
  ): Program<Run, FunctionNotFoundError | RunNotFoundError | InvalidStateError | ValidationError> {
    const { after, before, run } = yield* moveRun.in(tx, environment, runId, version)
    yield* logOperation(tx, by, "run:move", runId, { environment, before, after })
    return run
  },
  (_, runId) => `move run ${runId} to another version`
)

const make = (store: StoreService, environment: string, caller?: Caller): OperationsOfEnvironment => {
  const by = caller?.key?.id ?? "local"
  const setPause = (
    functionId: string,
    readPause: () => { readonly by: string; readonly reason?: string } | undefined
  ): Effect.Effect<FunctionInfo, EngineError> =>
    Effect.flatMap(
      checked(() => ({ id: Limits.checkName("function id", functionId), pause: readPause() })),
      ({ id, pause }) =>
        Effect.flatMap(store.write(pauseFunction(environment, id, by, pause)), () =>
          Effect.flatMap(store.read(FunctionRows.getFunction(environment, id)), (fn) =>
            // another caller may have deleted the function in the meantime
            fn === undefined ? Effect.fail(new FunctionNotFoundError(id)) : Effect.succeed(fn)
          )
        )
    )
  return {
    pauseFunction: (functionId, options = {}) =>
      setPause(functionId, () => ({
        by: readText("`by`", options.by ?? caller?.key?.name ?? "a client"),
        ...(options.reason === undefined ? {} : { reason: readText("`reason`", options.reason) })
      })),
    resumeFunction: (functionId) => setPause(functionId, () => undefined),
    runFunction: (functionId, data, { idempotencyKey } = {}) =>
      Effect.flatMap(
        checked(() => {
          const text = encodeJson(data, `data for function "${functionId}"`)
          return {
            id: Limits.checkName("function id", functionId),
            start: {
              ...(text === undefined
                ? {}
                : {
                    data: Limits.checkSize(`Data for function "${functionId}"`, text, Limits.eventBytes)
                  }),
              ...(idempotencyKey === undefined
                ? {}
                : { idempotencyKey: Limits.checkIdempotencyKey(idempotencyKey) })
            }
          }
        }),
        ({ id, start }) => store.write(runFunction(environment, id, by, start))
      ),
    forkRun: (runId, { data, from, steps } = {}) =>
      Effect.flatMap(
        checked(() => {
          Limits.checkName("run id", runId)
          Limits.checkStep(from)
          if (steps !== undefined && !isObject(steps))
            throw new ValidationError(
              `forkRun: \`steps\` must be an object that has results by the names of their steps, got ${show(steps)}`
            )
          const text = encodeJson(data, `data for the fork of run ${runId}`)
          return {
            ...(from === undefined ? {} : { from }),
            ...(text === undefined
              ? {}
              : {
                  data: Limits.checkSize(`Data for the fork of run ${runId}`, text, Limits.eventBytes)
                }),
            ...(steps === undefined
              ? {}
              : {
                  steps: Object.entries(steps).map(([step, value]) => [step, resultOf(step, value)] as const)
                })
          }
        }),
        (fork) =>
          Effect.andThen(
            // the caller must also be allowed to read the run, since the fork has copies of its steps and input
            checked(() => caller?.check("run:read", `run:${runId}`, environment)),
            store.write(forkRunFor(environment, runId, by, fork))
          )
      ),
    moveRun: (runId, { version } = {}) =>
      Effect.flatMap(
        checked(() => {
          Limits.checkName("run id", runId)
          return version === undefined ? undefined : Limits.checkName("version", version)
        }),
        (checkedVersion) => store.write(moveRunFor(environment, runId, by, checkedVersion))
      )
  }
}

const resultOf = (step: string, value: unknown): string => {
  const what = `Result for step "${step}"`
  return Limits.checkSize(
    what,
    encodeJson(value, `result for step "${step}"`) ?? "null",
    Limits.stepResultBytes
  )
}

/** Maximum number of characters of the reason for a pause, and of the name of the person who paused. */
const MAX_REASON = 4096

const readText = (what: string, text: unknown): string => {
  if (typeof text !== "string") {
    throw new ValidationError(`${what} of a pause must be a string, got ${show(text)}`)
  }
  if (text.length > MAX_REASON) throw new LimitExceededError(what, text.length, MAX_REASON, "characters")
  return text
}
