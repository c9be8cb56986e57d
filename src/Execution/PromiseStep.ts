/** Steps and turns of async handlers: promises over the turn's calls. A suspended step's promise stays pending. */
import { AsyncResource } from "node:async_hooks"
import { positiveDuration } from "../Duration.ts"
import { asStandard } from "../EffectSchema.ts"
import { encodeInput } from "../EventData.ts"
import { serializeError, toError, ValidationError } from "../Errors.ts"
import type { IronflowEvent } from "../Event.ts"
import type { IronflowFunction, RunInfo } from "../Function.ts"
import { checkName } from "../Limits.ts"
import { checkKeys } from "../OptionKeys.ts"
import type { Outcome } from "../Protocol/Worker.ts"
import { decodeResult, encodeResult } from "../Result.ts"
import { createSecretsClient } from "../Secrets.ts"
import { show } from "../Show.ts"
import { type AnySchema, isSchema, validate } from "../StandardSchema.ts"
import {
  invokeKeys,
  mapKeys,
  parallelKeys,
  runKeys,
  waitKeys,
  type EventFilter,
  type Invokable,
  type InvokeOptions,
  type ParallelOptions,
  type StepClient,
  type StepRunContext,
  type StepRunOptions,
  type Tx,
  type TxResult,
  type WithSchema
} from "../Step.ts"
import type { Attempt } from "./Attempt.ts"
import { type BranchExit, runBranches } from "./Branches.ts"
import { resolveStepTimeout } from "./FunctionPlan.ts"
import { insideStep, nestedStep } from "./Nesting.ts"
import type { Scope } from "./Scope.ts"
import type { StepCall } from "./StepCall.ts"
import {
  checkParallel,
  compensationCode,
  defaultInvokeMs,
  defaultWaitMs,
  invokeAsyncCall,
  invokeCall,
  invokedId,
  publishCall,
  readEvent,
  readTx,
  runCall,
  sleepCall,
  sleepUntilCall,
  stepCode,
  stepError,
  storedError,
  txCall,
  waitCall
} from "./StepCalls.ts"
import type { TurnMachine } from "./TurnMachine.ts"
import { checkTransactions, TxCollector } from "./Tx.ts"

/** The async context of no handler and no step body: what a turn was started from is none of its business. */
const outside = new AsyncResource("ironflow.turn")

/** Calls the handler, and tells the turn how it ended. */
export const startPromiseHandler = (
  fn: IronflowFunction,
  turn: TurnMachine,
  event: IronflowEvent,
  run: RunInfo
): void => {
  const context = {
    event,
    run,
    step: promiseSteps(turn, turn.root),
    get logger() {
      return turn.logger
    },
    get secrets() {
      return createSecretsClient(turn.job.secrets)
    },
    get signal() {
      return turn.signal
    },
    onTurnEnd: (callback: () => void | Promise<void>) => turn.onTurnEnd(callback)
  }
  outside.runInAsyncScope(() =>
    follow(
      () => fn.handler(context),
      (value) => turn.succeeded(value),
      (error) => turn.failed(error)
    )
  )
}

/** Calls user code that may return a value or a promise, throw or reject. */
const follow = (
  code: () => unknown,
  succeed: (value: unknown) => void,
  fail: (error: unknown) => void
): void => {
  let result: unknown
  try {
    result = code()
    // looking for `then` may run code of the value
    if (isThenable(result)) {
      Promise.resolve(result).then(succeed, fail)
      return
    }
  } catch (error) {
    fail(error)
    return
  }
  succeed(result)
}

const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  typeof value === "object" && value !== null && "then" in value && typeof value.then === "function"

/**
 * A promise that `begin` settles later, or never. A rejection that comes later is the outcome of a step, which the
 * journal has: that the handler is not looking at the promise just then must not end the process.
 */
const settledBy = <T>(
  begin: (succeed: (value: T) => void, fail: (error: Error) => void) => void,
  onLook?: () => void
): Promise<T> => {
  let resolve!: (value: T) => void
  let reject!: (error: Error) => void
  const executor = (onSuccess: (value: T) => void, onFailure: (error: Error) => void) => {
    resolve = onSuccess
    reject = onFailure
  }
  const promise = onLook === undefined ? new Promise(executor) : new WatchedPromise(executor, onLook)
  try {
    begin(resolve, (error) => {
      promise.catch(() => undefined)
      reject(error)
    })
  } catch (error) {
    reject(toError(error))
  }
  return promise
}

/** A promise that tells when somebody awaits it, or hands it to the likes of `Promise.all`. */
class WatchedPromise<T> extends Promise<T> {
  readonly #onLook: () => void

  /** What follows from it is as any promise. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  constructor(
    executor: (resolve: (value: T) => void, reject: (error: Error) => void) => void,
    onLook: () => void
  ) {
    super(executor)
    this.#onLook = onLook
  }

  // oxlint-disable-next-line unicorn/no-thenable -- it is a promise
  override then<A = T, B = never>(
    onSuccess?: ((value: T) => A | PromiseLike<A>) | null,
    onFailure?: ((reason: unknown) => B | PromiseLike<B>) | null
  ): Promise<A | B> {
    this.#onLook()
    return super.then(onSuccess, onFailure)
  }
}

const runsCode = <Arguments extends ReadonlyArray<unknown>>(
  turn: TurnMachine,
  name: string,
  fn: (...args: Arguments) => unknown,
  argumentsFor: (attempt: Attempt) => Arguments,
  decoder?: Decoder
) => {
  if (typeof fn !== "function") {
    throw new ValidationError(
      `Step "${name}" needs a function to run, got ${fn === null ? "null" : typeof fn}`
    )
  }
  // The code may begin later than the call, and still sees the async context (a logger's, a tracer's) of the call.
  const context = new AsyncResource("ironflow.step")
  return (attempt: Attempt): void =>
    context.runInAsyncScope(() =>
      insideStep(turn.token, name, () =>
        follow(
          () => fn(...argumentsFor(attempt)),
          (value) => {
            try {
              decoder?.check(value)
            } catch (error) {
              attempt.fail(error)
              return
            }
            attempt.succeed(value)
          },
          (error) => attempt.fail(error)
        )
      )
    )
}

/** What the `schema` of a call makes of results as they were stored. */
interface Decoder {
  readonly decode: (stored: unknown) => unknown
  /** Throws when the result, once it is stored, would not fit: before it is. */
  readonly check: (result: unknown) => void
}

/** `undefined` without a schema. Throws `ValidationError` for what is none; `what` begins the message of what does not fit. */
const decoderOf = (options: Partial<WithSchema<unknown>> | undefined, what: string): Decoder | undefined => {
  const schema: AnySchema | undefined = options?.schema
  if (schema === undefined) return undefined
  if (!isSchema(schema)) {
    throw new ValidationError(
      `${what}: \`schema\` must be a Standard Schema (Zod, Valibot, ArkType) or an Effect schema, got ${show(schema)}`
    )
  }
  const decode = (stored: unknown): unknown => validate(asStandard(schema), stored, what)
  return { decode, check: (result) => void decode(decodeResult(encodeResult(result, what))) }
}

const ownContext = (attempt: Attempt): [StepRunContext] => [attempt.context]

/** Each attempt collects anew. */
const newTx =
  (name: string) =>
  (attempt: Attempt): [Tx, StepRunContext] => [(attempt.tx = new TxCollector(name)), attempt.context]

/** The steps of a handler, or of a branch, of a turn. */
export const promiseSteps = (turn: TurnMachine, scope: Scope): StepClient => {
  /** Makes a call whose outcome is JSON, and whose failure is the stored error or what `toFailure` makes of it. */
  const ask = <T>(
    entry: Function,
    kind: string,
    name: unknown,
    makeCall: (name: string, receive: (outcome: Outcome) => void) => StepCall | undefined,
    read: (value: unknown, call: StepCall) => T,
    wrapFailure = false,
    onLook?: () => void
  ): Promise<T> =>
    settledBy<T>((succeed, fail) => {
      const checked = checkName(kind, name)
      const nested = nestedStep(turn.token, checked)
      if (nested !== undefined) throw nested
      const call = makeCall(checked, (outcome) => {
        if (call === undefined) return
        if (outcome._tag === "Failure") {
          fail(wrapFailure ? stepError(turn, call, outcome.error) : storedError(turn, call, outcome.error))
          return
        }
        let value: unknown
        try {
          value = decodeResult(outcome.value)
        } catch (error) {
          turn.pauseForDamage(call, error)
          return
        }
        try {
          succeed(read(value, call))
        } catch (error) {
          fail(wrapFailure ? stepError(turn, call, serializeError(error)) : toError(error))
        }
      })
      // A time that has passed needs no step, and has no result.
      if (call === undefined) succeed(undefined as T)
      else turn.ask(call, entry)
    }, onLook)

  /** A result in messages. */
  const resultOf = (name: string): string => `Result of step "${name}" of function "${turn.plan.functionId}"`

  const timeoutOf = (name: string, options: StepRunOptions | undefined) =>
    options?.timeout === undefined
      ? undefined
      : resolveStepTimeout(options.timeout, `timeout of step "${name}"`)

  const nothing = (): void => undefined
  const asIs = <T>(value: unknown): T => value as T

  const client: StepClient = {
    run: function run(
      name: string,
      fn: (context: StepRunContext) => unknown,
      options?: StepRunOptions & Partial<WithSchema<unknown>>
    ) {
      let decoder: Decoder | undefined
      return ask(
        run,
        "step name",
        name,
        (checked, receive) => {
          checkKeys(options, runKeys, `Step "${checked}"`)
          decoder = decoderOf(options, resultOf(checked))
          const begin = runsCode(turn, checked, fn, ownContext, decoder)
          return runCall(
            scope,
            checked,
            stepCode(turn, checked, begin, timeoutOf(checked, options), options?.retry),
            receive
          )
        },
        (stored) => (decoder === undefined ? stored : decoder.decode(stored)),
        true
      )
    } as StepClient["run"],

    tx: function tx(
      name: string,
      fn: (tx: Tx, context: StepRunContext) => unknown,
      options?: StepRunOptions & Partial<WithSchema<unknown>>
    ) {
      let decoder: Decoder | undefined
      return ask<TxResult<unknown>>(
        tx,
        "step name",
        name,
        (checked, receive) => {
          checkTransactions(turn, checked)
          checkKeys(options, runKeys, `Step "${checked}"`)
          decoder = decoderOf(options, resultOf(checked))
          const begin = runsCode(turn, checked, fn, newTx(checked), decoder)
          return txCall(
            scope,
            checked,
            stepCode(turn, checked, begin, timeoutOf(checked, options), options?.retry),
            receive
          )
        },
        (stored) => {
          const { value, writes } = readTx(stored)
          return { value: decoder === undefined ? value : decoder.decode(value), writes }
        },
        true
      )
    } as StepClient["tx"],

    sleep: function sleep(name, duration) {
      return ask(
        sleep,
        "step name",
        name,
        (checked, receive) => {
          const ms = positiveDuration(duration, `duration of step "${checked}"`)
          return sleepCall(scope, checked, ms, receive)
        },
        nothing
      )
    },

    sleepUntil: function sleepUntil(name, until) {
      return ask(
        sleepUntil,
        "step name",
        name,
        (checked, receive) => sleepUntilCall(turn, scope, checked, until, receive),
        nothing
      )
    },

    waitForEvent: function waitForEvent<T>(
      name: string,
      filter: Omit<EventFilter, "event"> & { readonly event: unknown }
    ) {
      const definition = eventDefinition(filter?.event)
      let call: StepCall | undefined
      return ask<IronflowEvent<T>>(
        waitForEvent,
        "step name",
        name,
        (checked, receive) => {
          checkKeys(filter, waitKeys, `Step "${checked}"`)
          call = waitCall(
            scope,
            checked,
            {
              event: definition?.name ?? filter?.event,
              match: filter?.match,
              timeoutMs:
                filter?.timeout === undefined
                  ? defaultWaitMs
                  : positiveDuration(filter.timeout, `timeout of step "${checked}"`)
            },
            receive
          )
          return call
        },
        (value) => {
          const event = readEvent(turn, value)
          return definition?.schema === undefined
            ? event
            : {
                ...event,
                data: validate(asStandard(definition.schema), event.data, `Data of event "${event.name}"`)
              }
        },
        false,
        () => call?.scope.waits?.see(call)
      )
    },

    invoke: function invoke(
      target: string | Invokable,
      input?: unknown,
      options?: InvokeOptions & Partial<WithSchema<unknown>>
    ) {
      let decoder: Decoder | undefined
      return ask(
        invoke,
        "id of the invoked function",
        idOf(target),
        (functionId, receive) => {
          checkKeys(options, invokeKeys, `Step "${functionId}"`)
          decoder = decoderOf(
            options,
            `Result of function "${functionId}", which function "${turn.plan.functionId}" has invoked,`
          )
          const timeoutMs =
            options?.timeout === undefined
              ? defaultInvokeMs
              : positiveDuration(options.timeout, `timeout of invoked function "${functionId}"`)
          return invokeCall(scope, functionId, encodeInput(target, input), timeoutMs, receive)
        },
        (stored) => (decoder === undefined ? stored : decoder.decode(stored))
      )
    } as StepClient["invoke"],

    invokeAsync: function invokeAsync(target: string | Invokable, input?: unknown) {
      return ask<{ runId: string }>(
        invokeAsync,
        "id of the invoked function",
        idOf(target),
        (functionId, receive) => invokeAsyncCall(scope, functionId, encodeInput(target, input), receive),
        asIs
      )
    },

    parallel: function parallel(name: string, branches: unknown, options?: ParallelOptions) {
      // The interface types the branches, one by one; here each is a function of a step client.
      return branchesOf(parallel, name, branches as ReadonlyArray<Branch>, options, parallelKeys)
    } as StepClient["parallel"],

    map: function map<T>(
      name: string,
      items: ReadonlyArray<T>,
      fn: (item: T, step: StepClient, index: number) => Promise<unknown>,
      options?: ParallelOptions & Partial<WithSchema<unknown>>
    ) {
      // What is neither a list nor a function is refused where branches are checked.
      const branches = Array.isArray(items)
        ? items.map((item: T, index) =>
            typeof fn === "function" ? (branchStep: StepClient) => fn(item, branchStep, index) : fn
          )
        : items
      return branchesOf(map, name, branches as ReadonlyArray<Branch>, options, mapKeys)
    } as StepClient["map"],

    compensate: (stepName, fn) => {
      const name = checkName("name of the compensated step", stepName)
      const nested = nestedStep(turn.token, name)
      if (nested !== undefined) throw nested
      if (typeof fn !== "function") {
        throw new ValidationError(`The compensation of step "${name}" must be a function, got ${typeof fn}`)
      }
      turn.compensate(
        name,
        compensationCode(turn, runsCode(turn, `compensate:${name}`, discardResult(fn), ownContext))
      )
    },

    publish: function publish(topic, data) {
      return ask<{ eventId: string; sequence: number }>(
        publish,
        "topic",
        topic,
        (checked, receive) => publishCall(scope, checked, data, receive),
        asIs,
        true
      )
    }
  }

  const branchesOf = (
    entry: Function,
    name: string,
    branches: ReadonlyArray<Branch>,
    options: (ParallelOptions & Partial<WithSchema<unknown>>) | undefined,
    keys: typeof mapKeys | typeof parallelKeys
  ): Promise<Array<unknown>> =>
    settledBy((succeed, fail) => {
      const checked = checkName("name of the parallel call", name)
      const nested = nestedStep(turn.token, checked)
      if (nested !== undefined) throw nested
      const { concurrency, failFast } = checkParallel(checked, branches, options, keys)
      const decoders = branches.map((_, index) =>
        decoderOf(options, `Result ${index} of "${checked}" of function "${turn.plan.functionId}"`)
      )
      const notFunction = branches.findIndex((branch) => typeof branch !== "function")
      if (notFunction >= 0) {
        throw new ValidationError(
          `Branch ${notFunction} of "${checked}" must be a function that takes a step client: (step) => step.run(...)`
        )
      }
      runBranches(
        turn,
        scope,
        {
          name: checked,
          count: branches.length,
          concurrency,
          failFast,
          begin: (index, branchScope, end) =>
            follow(
              () => branches[index]?.(promiseSteps(turn, branchScope)),
              (value) => end(decoded(value, decoders[index])),
              (error) => end({ _tag: "Failure", error })
            ),
          succeed: (exits) => succeed(exits.map(valueOrError)),
          fail: ({ error }) => fail(error as Error)
        },
        entry
      )
    })

  return client
}

type Branch = (step: StepClient) => unknown

const decoded = (value: unknown, decoder: Decoder | undefined): BranchExit => {
  try {
    return { _tag: "Success", value: decoder === undefined ? value : decoder.decode(value) }
  } catch (error) {
    return { _tag: "Failure", error }
  }
}

const valueOrError = (exit: BranchExit): unknown =>
  exit._tag === "Success" ? exit.value : toError(exit.error)

/** What undoing returns is of no interest, and need not be something that JSON can carry. */
const discardResult =
  (fn: (context: StepRunContext) => unknown) =>
  async (context: StepRunContext): Promise<void> => {
    await fn(context)
  }

const idOf = (target: string | Invokable): unknown =>
  typeof target === "string" ? target : invokedId(target)

const eventDefinition = (event: unknown) =>
  typeof event === "object" && event !== null && "name" in event
    ? (event as { readonly name: unknown; readonly schema?: Parameters<typeof validate>[0] })
    : undefined
