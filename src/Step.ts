/**
 * Steps: the durable parts of a handler.
 *
 * A step has a name and a place in its run, and its result is stored. When the handler runs again from the
 * top, the step returns the stored result and does not run again. Promise handlers get a {@link StepClient}
 * as `step`. Effect handlers use the functions of this module, which need the {@link Step} service that every
 * handler has:
 *
 * ```ts
 * import { Step } from "@ironflow/node/effect"
 *
 * const receipt = yield* Step.run("charge", charge(order), { success: Receipt, timeout: "30s" })
 * yield* Step.sleep("cool off", "5 minutes")
 * ```
 *
 * A suspended step (a sleep, a wait, a child run, the delay before a retry) does not settle: neither
 * `try/catch/finally` nor `Effect.catchCause` runs.
 */
import * as Context from "effect/Context"
import type * as EffectDuration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Schema from "effect/Schema"
import type * as HKT from "effect/HKT"
import { type RecordsCalls, recordCall } from "./CallSite.ts"
import { type RetryConfig, retryKeys } from "./Backoff.ts"
import type { Duration } from "./Duration.ts"
import type {
  AppendEventInput,
  DefinedAppendAllInput,
  DefinedAppendInput,
  NewEntityEvent
} from "./EntityStream.ts"
import type {
  InvalidStateError,
  FunctionNotFoundError,
  InvokeError,
  InvokeTimeoutError,
  NestedStepError,
  StepError,
  UnsupportedError,
  ValidationError,
  WaitTimeoutError
} from "./Errors.ts"
import type { AnyEntity } from "./Entity.ts"
import type { EventDefinition, EventOf, EventRef, DataFor, IronflowEvent, TypedEvent } from "./Event.ts"
import type { IronflowFunction } from "./Function.ts"
import { publishName } from "./StepId.ts"
import type { ExpectedVersion } from "./ExpectedVersion.ts"
import type { KVBucketOptions } from "./KvValue.ts"
import type { Keys } from "./OptionKeys.ts"
import type { TxWriteResult } from "./Protocol/Worker.ts"
import type { AnySchema, SchemaInput } from "./StandardSchema.ts"
import type { StepKind } from "./StepKind.ts"
import type { Storable, StorableResult, Stored } from "./StoredType.ts"

/** The context of a step's attempt. */
export interface StepRunContext {
  /**
   * Aborts when the result of the step is no longer needed: after a timeout, a cancellation or a lost lease, when
   * another branch of a fail-fast `parallel` has failed, or when the handler has ended or no longer waits for the step.
   * `signal.reason` is an error that says why.
   */
  readonly signal: AbortSignal
  /** The number of this attempt, from 1. */
  readonly attempt: number
  /**
   * A key that is the same for every attempt of this step in this run, and for no other step. Pass it to the
   * service that you call.
   */
  readonly idempotencyKey: string
  /**
   * Reports the progress of the step, from 0 to 1, with an optional text (at most 200 characters).
   * `getRunSteps`, `explain` and the command line show the progress of running steps, some seconds later. It is not
   * stored. The call makes no request, and never fails the step: a fraction that is not a finite number is left out,
   * and a number outside of 0 to 1 becomes 0 or 1.
   */
  progress(fraction: number, text?: string): void
}

/** Options of `step.run` and `step.tx`. */
export interface StepRunOptions {
  /** Timeout of one attempt, such as `"30s"`. By default the function's `stepTimeout`, or else none. */
  readonly timeout?: Duration
  /** Retry policy of this step. Fields that are absent come from the function's policy. */
  readonly retry?: RetryConfig
}

/** An option for results of types that JSON lacks: dates, bigints, maps, class instances. */
export interface WithSchema<A> {
  /**
   * Decodes the stored result, in the first execution and in every replay: with `z.object({ at:
   * z.coerce.date() })` a date is a `Date` again. Any synchronous Standard Schema (Zod, Valibot, ArkType), or
   * an Effect schema. A result that does not match fails the step without retries, with
   * `SchemaValidationError` as the cause.
   */
  readonly schema: AnySchema<A>
}

/** The option keys of `run` and `tx`. */
export const runKeys = { timeout: true, retry: retryKeys, schema: true } satisfies Keys<
  StepRunOptions & WithSchema<unknown>
>
/** The option keys of `Step.run` and `Step.tx`. */
export const effectRunKeys = {
  timeout: true,
  retry: retryKeys,
  success: true,
  error: true
} satisfies Keys<EffectRunOptions<never, never>>

/** The event to wait for: by name, by pattern, or by a definition, which decodes and types the event's data. */
export interface EventFilter<E extends string | EventDefinition = string> {
  /** Event name, a pattern such as `order.*`, or a definition. */
  readonly event: E
  /**
   * A dotted path (`data.requestId`), at which the awaited and the triggering event must have equal values;
   * or a CEL expression over `event` (the awaited one) and `trigger`.
   */
  readonly match?: string
  /** How long to wait; `"7d"` by default. */
  readonly timeout?: Duration
}

/** The option keys of `waitForEvent`. */
export const waitKeys = { event: true, match: true, timeout: true } satisfies Keys<EventFilter>

/** Options of `step.invoke`. */
export interface InvokeOptions {
  /**
   * Timeout of the wait for the result of the child run; `"30s"` by default. The child run continues after a
   * timeout.
   */
  readonly timeout?: Duration
}

/** The option keys of `invoke`. */
export const invokeKeys = { timeout: true, schema: true } satisfies Keys<InvokeOptions & WithSchema<unknown>>
/** The option keys of `Step.invoke`. */
export const effectInvokeKeys = { timeout: true, success: true, error: true } satisfies Keys<
  EffectInvokeOptions<never, never>
>

/** Options of `step.parallel` and `step.map`. */
export interface ParallelOptions {
  /** How many branches run at the same time, at most; all by default. */
  readonly concurrency?: number
  /**
   * `"failFast"` (default): the first branch that fails makes the call fail, once the running steps have
   * ended. `"allSettled"`: all branches end, and the result has an Error for each one that failed.
   */
  readonly onError?: "failFast" | "allSettled"
}

/** The option keys of `parallel`. */
export const parallelKeys = { concurrency: true, onError: true } satisfies Keys<ParallelOptions>
/** The option keys of `map`. */
export const mapKeys = { ...parallelKeys, schema: true } satisfies Keys<ParallelOptions & WithSchema<unknown>>

/** True when the result of a call with these options may contain the errors of branches. */
export type MaySettle<O> = "onError" extends keyof O
  ? "allSettled" extends O["onError"]
    ? true
    : false
  : false

/** A function that `invoke` takes: the result of `createFunction` or `IronflowFunction.make`. */
export type Invokable =
  | {
      /** The configuration. */ readonly config: { readonly id: string }
      /** Its code. */ readonly handler: (context: never) => unknown
    }
  | {
      /** The configuration. */
      readonly config: { readonly id: string }
      /** Its code. */
      readonly program: (context: never) => Effect.Effect<unknown, unknown, unknown>
    }

/**
 * The result type of `invoke`: the stored result of the function ({@link Stored}), or the result as the function's
 * `success` schema decodes it.
 */
export type InvokeOutput<F> = F extends {
  readonly program: (context: never) => Effect.Effect<infer A, unknown, unknown>
}
  ? Decoded<DeclaredBy<F, "success">, Stored<A>>
  : F extends { readonly handler: (context: never) => infer R }
    ? Stored<Awaited<R>>
    : unknown

/**
 * The input type of `invoke`. For a function with an async handler it is the input type of the function's schema. For a
 * function with an Effect handler it is the type of the data of its event definition; the call encodes this data. It is
 * any type if the function has neither a schema nor a definition.
 */
export type InvokeInput<F> = F extends { readonly program: (context: infer C) => unknown }
  ? EventDataOf<C>
  : F extends IronflowFunction<infer _Data, infer _Result, infer Input>
    ? Input
    : unknown

/** The function, if it can be invoked without an input. */
export type WithoutInput<F> = undefined extends InvokeInput<F> ? F : never

/** The error type that a function declares by its `error` schema; `never` without one. */
export type InvokeFailure<F> = DeclaredBy<F, "error">

/** The type that a function declares for its result or error; `never` without a declaration. */
type DeclaredBy<F, Field extends "success" | "error"> = F extends {
  readonly config: { readonly [K in Field]?: infer S }
}
  ? Exclude<S, undefined> extends Schema.Codec<infer A, unknown>
    ? A
    : never
  : never

/** The type that a result must have: the type of the `success` schema, or any type without one. */
export type Declared<S> = [S] extends [never] ? unknown : S

/**
 * A part of a parameter's type, like {@link StorableResult}. With a `success` schema it allows any result,
 * which the schema encodes.
 */
export type StorableEffect<A, S> = [S] extends [never]
  ? [A] extends [Storable<A>]
    ? unknown
    : Effect.Effect<Storable<A>, unknown, unknown>
  : unknown

/** `A`, the type of a schema. Without a schema `A` is `never`, and the result is `Else`. */
type Decoded<A, Else> = [A] extends [never] ? Else : A

type EventDataOf<C> = C extends { readonly event: { readonly data: infer D } } ? D : unknown

// -----------------------------------------------------------------------------
// Transactions
// -----------------------------------------------------------------------------

/**
 * Options of `appendAll` in a transaction. The writes happen exactly once, so they need no idempotency key.
 */
export interface TxAppendAllOptions {
  /**
   * The version that the stream must have when the transaction is executed, after the earlier writes of the
   * same transaction. See `AppendConditions`.
   */
  readonly expectedVersion?: ExpectedVersion
}

/** Options of `append` in a transaction. */
export interface TxAppendOptions extends TxAppendAllOptions {
  /** Schema version of the event; 1 by default. */
  readonly version?: number
  /** A JSON object that is stored with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/** Options of `emit` in a transaction. */
export interface TxEmitOptions {
  /** Schema version of the event; 1 by default. */
  readonly version?: number
  /** A JSON object that is stored with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/**
 * Changes of the keys of a bucket. `F` is the kind of the API: whether a call returns a result or an Effect. A
 * transaction may write each key once. When the transaction is executed, the step fails if the bucket does not exist,
 * or if the value or the bucket would be too large.
 */
export interface TxKvBucketApi<F extends HKT.TypeLambda, In = unknown> {
  /** Writes a value unconditionally: any JSON value, or a `Uint8Array`. */
  put(key: string, value: In): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
  /** Writes the value if the key does not exist. If it exists, the attempt fails. */
  create(key: string, value: In): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
  /**
   * Writes the value if the key is at `revision`. If it is not, the attempt fails.
   *
   * ```ts
   * await step.tx("take", (tx) => tx.kv("stock").update("sku-1", 4, 17))
   * ```
   */
  update(
    key: string,
    value: In,
    revision: number
  ): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
  /** Deletes the value. With `revision`, only if the key is at that revision. */
  delete(
    key: string,
    options?: TxDeleteKeyOptions
  ): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
}

/** Options of `delete` in a transaction. */
export interface TxDeleteKeyOptions {
  /** The revision that the key must have; any by default. */
  readonly revision?: number
}

/**
 * Appends to the typed streams of the entities of one definition. `F` is the kind of the API: whether a call returns a
 * result or an Effect.
 */
export interface TxEntityStreams<F extends HKT.TypeLambda, D extends TypedEvent> {
  /**
   * Appends an event.
   *
   * ```ts
   * await step.tx("add", (tx) => tx.streams.of(Order).append("order-1", { name: "item.added", data: { qty: 2 } }, { expectedVersion: 3 }))
   * ```
   */
  append(
    entityId: string,
    event: NewEntityEvent<D>,
    options?: TxAppendAllOptions
  ): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
  /**
   * Appends several events.
   *
   * ```ts
   * await step.tx("add", (tx) => tx.streams.of(Order).appendAll("order-1", [{ name: "item.added", data: { qty: 2 } }], { expectedVersion: 3 }))
   * ```
   */
  appendAll(
    entityId: string,
    events: ReadonlyArray<NewEntityEvent<D>>,
    options?: TxAppendAllOptions
  ): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
}

/**
 * The writes in the body of a `step.tx`. `F` is the kind of the API: whether a call returns a result or an Effect. A
 * call only records the write. When the body has returned, all writes are executed in order, in one transaction with
 * the result of the step. Invalid arguments throw `ValidationError` at once. A transaction has at most 1000 writes,
 * and 4 MiB in total.
 */
export interface TxApi<F extends HKT.TypeLambda> {
  /** Entity streams. */
  readonly streams: {
    /** Appends an event to the stream of an entity. */
    append<D extends EventDefinition = never>(
      entityId: string,
      input: AppendEventInput | DefinedAppendInput<D>,
      options?: TxAppendOptions
    ): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
    /** Appends several events. */
    appendAll<const L extends ReadonlyArray<unknown> = ReadonlyArray<unknown>>(
      entityId: string,
      input: DefinedAppendAllInput<L>,
      options?: TxAppendAllOptions
    ): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
    /**
     * Returns the typed streams of an entity that `defineEntity` describes. The events are typed and encoded
     * by its definitions. An event that does not match throws `StreamSchemaError` at once. The schemas must
     * be synchronous.
     */
    of<N extends AnyEntity>(entity: N): TxEntityStreams<F, N["events"][number]>
  }
  /**
   * Emits an event, by name or by definition. It starts runs and satisfies waits like any other event.
   *
   * ```ts
   * await step.tx("finish", (tx) => tx.emit("order.finished", { orderId: "o-1" }, { metadata: { by: "me" } }))
   * ```
   */
  emit<const E extends EventRef>(
    event: E,
    data?: DataFor<E>,
    options?: TxEmitOptions
  ): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
  /**
   * Returns a handle that writes the keys of a bucket. With a schema, values are typed and encoded, and a
   * value that does not match throws `KeySchemaError` at once. The schema must be synchronous.
   */
  kv<S extends AnySchema | undefined = undefined>(
    bucket: string,
    options?: KVBucketOptions<S>
  ): TxKvBucketApi<F, SchemaInput<S>>
}

/** The synchronous kind of an API: a call returns its result, and throws its errors. */
export interface PlainKind extends HKT.TypeLambda {
  /** The result of a call: `Target`. */
  readonly type: this["Target"]
}

interface EffectKind extends HKT.TypeLambda {
  readonly type: Effect.Effect<this["Target"], this["Out1"]>
}

/** The writes of the body of `step.tx`. Nothing is stored before the body has returned. */
export interface Tx extends TxApi<PlainKind> {}
/** The writes of the body of `Step.tx`. Nothing is stored before the body has ended. */
export interface EffectTx extends TxApi<EffectKind> {}
/** A bucket in a transaction. */
export interface TxKvBucket<In = unknown> extends TxKvBucketApi<PlainKind, In> {}

/** What a `step.tx` returns: the result of its body, and the results of its writes in order. */
export interface TxResult<T> {
  /** The result of the body: in its stored form, or decoded if the call has a schema. */
  readonly value: T
  /** One result for each write. */
  readonly writes: ReadonlyArray<TxWriteResult>
}

/**
 * The steps of a Promise handler. When a step fails, its promise rejects. The promise of a suspended step
 * stays pending.
 */
export interface StepClient {
  /**
   * Runs `fn` once, and stores its result as JSON. The call returns the stored form, in which a `Date` is a
   * string: see {@link Stored}. `schema` decodes it. When `fn` fails, it is retried by the retry policy. When
   * no retry is left, or the error is not retryable, the call rejects with `StepError`, whose `cause` is the
   * error.
   */
  run<A, T = unknown>(
    name: string,
    fn: ((context: StepRunContext) => T | Promise<T>) & StorableResult<T>,
    options: StepRunOptions & WithSchema<A>
  ): Promise<A>
  run<T>(
    name: string,
    fn: ((context: StepRunContext) => T | Promise<T>) & StorableResult<T>,
    options?: StepRunOptions
  ): Promise<Stored<T>>

  /**
   * Runs `fn`, and then executes the writes that `fn` has recorded with `tx`, in one transaction with the
   * result of the step: all or none, exactly once. When there is a conflict, nothing is written and the
   * attempt fails; `fn` is then retried by the retry policy, and reads fresh data. When no retry is left, the
   * call rejects with `StepError`, whose `cause` is the `VersionConflictError` of a stream or the
   * `RevisionConflictError` of a key. On a legacy server, which has no transactions, the call rejects with code
   * `UNIMPLEMENTED` before `fn` runs.
   *
   * ```ts
   * const { writes } = await step.tx(
   *   "move",
   *   (tx) => {
   *     tx.kv("receipts").create("o-1", { amount: 5 })
   *     tx.emit("money.moved", { amount: 5 })
   *   },
   *   { timeout: "5s" }
   * )
   * ```
   */
  tx<A, T = unknown>(
    name: string,
    fn: ((tx: Tx, context: StepRunContext) => T | Promise<T>) & StorableResult<T>,
    options: StepRunOptions & WithSchema<A>
  ): Promise<TxResult<A>>
  tx<T>(
    name: string,
    fn: ((tx: Tx, context: StepRunContext) => T | Promise<T>) & StorableResult<T>,
    options?: StepRunOptions
  ): Promise<TxResult<Stored<T>>>

  /** Waits durably for a duration such as `"7d"`, or milliseconds. */
  sleep(name: string, duration: Duration): Promise<void>

  /** Waits durably until a point in time. Returns at once if the time has passed. */
  sleepUntil(name: string, until: Date | string): Promise<void>

  /**
   * Waits durably for an event. Rejects with `WaitTimeoutError` after the timeout, and with
   * `SchemaValidationError` when the data of the event does not match the schema of the definition.
   */
  waitForEvent<D extends EventDefinition>(name: string, filter: EventFilter<D>): Promise<EventOf<D>>
  // oxlint-disable-next-line typescript/no-explicit-any -- the README reads `approval.data.approved` without a type
  waitForEvent<T = any>(name: string, filter: EventFilter): Promise<IronflowEvent<T>>

  /**
   * Starts a run of another function, and waits durably for its result. The result has its stored form, or is decoded
   * by `schema`. When the function has failed, the call rejects with `InvokeError`, whose `cause` is the error of the
   * function. After `timeout` it rejects with `InvokeTimeoutError`.
   *
   * ```ts
   * const invoice = await step.invoke("make-invoice", { orderId: "o-1" }, { timeout: "5m" })
   * ```
   */
  invoke<A>(functionId: string, input: unknown, options: InvokeOptions & WithSchema<A>): Promise<A>
  // oxlint-disable-next-line typescript/no-explicit-any -- the result of a function known by its id only
  invoke<T = any>(functionId: string, input?: unknown, options?: InvokeOptions): Promise<T>
  invoke<F extends Invokable>(fn: WithoutInput<F>): Promise<InvokeOutput<F>>
  invoke<F extends Invokable, A>(
    fn: F,
    input: InvokeInput<F>,
    options: InvokeOptions & WithSchema<A>
  ): Promise<A>
  invoke<F extends Invokable>(fn: F, input: InvokeInput<F>, options?: InvokeOptions): Promise<InvokeOutput<F>>

  /** Starts a run of another function, and does not wait for it. */
  invokeAsync(functionId: string, input?: unknown): Promise<{ runId: string }>
  invokeAsync<F extends Invokable>(fn: WithoutInput<F>): Promise<{ runId: string }>
  invokeAsync<F extends Invokable>(fn: F, input: InvokeInput<F>): Promise<{ runId: string }>

  /**
   * Runs branches at the same time, each with a step client of its own, and returns their results in order.
   * Only the results of steps inside of the branches are stored, and not the results of the branches
   * themselves. Each `parallel` or `map` call in a handler or branch should have a name of its own.
   *
   * ```ts
   * const [stock, credit] = await step.parallel(
   *   "checks",
   *   [(branch) => branch.run("stock", () => 7), (branch) => branch.run("credit", () => true)],
   *   { concurrency: 2 }
   * )
   * ```
   */
  parallel<T extends ReadonlyArray<unknown>, const O extends ParallelOptions = {}>(
    name: string,
    branches: readonly [...{ [K in keyof T]: (step: StepClient) => Promise<T[K]> }],
    options?: O
  ): Promise<
    MaySettle<O> extends true
      ? { -readonly [K in keyof T]: T[K] | Error }
      : { -readonly [K in keyof T]: T[K] }
  >

  /**
   * Does what `parallel` does, with one branch for each item. `schema` decodes the result of each branch.
   *
   * ```ts
   * const labels = await step.map(
   *   "labels",
   *   [{ weight: 3 }, { weight: 5 }],
   *   (parcel, branch, index) => branch.run("print", () => `${index}: ${parcel.weight} kg`),
   *   { concurrency: 3, onError: "allSettled" }
   * )
   * ```
   */
  map<T, A, const M extends NonNullable<ParallelOptions["onError"]> = "failFast">(
    name: string,
    items: ReadonlyArray<T>,
    fn: (item: T, step: StepClient, index: number) => Promise<unknown>,
    options: Omit<ParallelOptions, "onError"> & { readonly onError?: M } & WithSchema<A>
  ): Promise<"allSettled" extends M ? Array<A | Error> : Array<A>>
  map<T, R, const O extends ParallelOptions = {}>(
    name: string,
    items: ReadonlyArray<T>,
    fn: (item: T, step: StepClient, index: number) => Promise<R>,
    options?: O
  ): Promise<MaySettle<O> extends true ? Array<R | Error> : Array<R>>

  /**
   * Registers how to undo a step. When the run fails for good, all registered compensations run in reverse
   * order, each of them as a durable step.
   */
  compensate(stepName: string, fn: (context: StepRunContext) => unknown): void

  /** Publishes a message to a topic, in the transaction that stores the step. */
  publish(topic: string, data: unknown): Promise<{ eventId: string; sequence: number }>
}

// -----------------------------------------------------------------------------
// The Effect API
// -----------------------------------------------------------------------------

/** A duration: ours (`"5m"`, milliseconds) or Effect's (`"5 minutes"`, a `Duration`). */
export type StepDuration = Duration | EffectDuration.Input

/**
 * The error of a call that has an invalid argument, or that is made inside of the body of another step. Such a call is
 * not recorded.
 */
export type StepCallError = ValidationError | NestedStepError

/** Options of `Step.run` and `Step.tx`. */
export interface EffectRunOptions<A, F> {
  /** Timeout of one attempt. By default the function's `stepTimeout`, or else none. */
  readonly timeout?: StepDuration
  /** Retry policy of this step. Fields that are absent come from the function's policy. */
  readonly retry?: RetryConfig
  /**
   * Schema of the result. The result is encoded to be stored, and decoded for the handler. Without it the result must
   * be JSON.
   */
  readonly success?: Schema.Codec<A, unknown>
  /**
   * Schema of errors. A step that fails with an error that matches is retried like any other failed step. After the
   * last attempt, the call fails with the error itself, typed, and not with `StepError`. If the handler does not catch
   * the error, the run fails with it.
   */
  readonly error?: Schema.Codec<F, unknown>
}

/** The event to wait for, and the timeout. */
export interface EffectEventFilter<E extends string | EventDefinition> {
  /** Name of the event, a pattern, or a definition, which decodes and types the data. */
  readonly event: E
  /** See {@link EventFilter.match}. */
  readonly match?: string
  /** How long to wait; 7 days by default. */
  readonly timeout?: StepDuration
}

/** Options of `Step.invoke`. */
export interface EffectInvokeOptions<A = never, E = never> {
  /**
   * Timeout of the wait for the result of the child run; 30 seconds by default. The child run continues after
   * a timeout.
   */
  readonly timeout?: StepDuration
  /** Decodes the result, in place of the function's own `success` schema. */
  readonly success?: Schema.Codec<A, unknown>
  /**
   * Decodes the error of the function as `failure` of the `InvokeError`, in place of the function's own
   * `error` schema.
   */
  readonly error?: Schema.Codec<E, unknown>
}

/** An effect of any type, as a branch. */
export type AnyBranch = Effect.Effect<unknown, unknown, unknown>

/**
 * The context of a step's attempt. Get it with `yield* Step.StepAttempt` inside of the effect given to `run`
 * or `compensate`.
 *
 * When another branch of a fail-fast call fails, the signal aborts. The effect is then awaited until its timeout, or
 * for up to 5 seconds if it has none. A timeout, a cancelled run or an interrupted caller interrupts the effect at
 * once.
 */
export class StepAttempt extends Context.Service<StepAttempt, StepRunContext>()(
  "@ironflow/node/StepAttempt"
) {}

/**
 * Reports the progress of the step that this effect belongs to, see {@link StepRunContext.progress}:
 *
 * ```ts
 * yield* Step.run(
 *   "import",
 *   Effect.forEach(rows, (row, i) => Effect.andThen(insert(row), Step.progress((i + 1) / rows.length)), { discard: true })
 * )
 * ```
 */
export const progress = (fraction: number, text?: string): Effect.Effect<void, never, StepAttempt> =>
  Effect.map(StepAttempt, (attempt) => attempt.progress(fraction, text))

/** The result of `parallel` for the branches `B` and the options `O`. */
export type ParallelResult<B extends ReadonlyArray<AnyBranch>, O> =
  MaySettle<O> extends true
    ? { -readonly [K in keyof B]: Effect.Success<B[K]> | Effect.Error<B[K]> }
    : { -readonly [K in keyof B]: Effect.Success<B[K]> }

/** The steps of an Effect handler, in the scope (root or branch) of the fiber that calls. */
export interface StepService {
  /** Implements {@link run}. */
  readonly run: <A extends Declared<S>, E, R, S = never, F = never>(
    name: string,
    effect: Effect.Effect<A, E, R> & StorableEffect<A, S>,
    options?: EffectRunOptions<S, F>
  ) => Effect.Effect<
    Decoded<NoInfer<S>, Stored<A>>,
    NoInfer<F> | StepError | StepCallError,
    Exclude<R, StepAttempt>
  >

  /** Implements {@link tx}. */
  readonly tx: <A extends Declared<S>, E, R, S = never, F = never>(
    name: string,
    body: (tx: EffectTx) => Effect.Effect<A, E, R> & StorableEffect<A, S>,
    options?: EffectRunOptions<S, F>
  ) => Effect.Effect<
    TxResult<Decoded<NoInfer<S>, Stored<A>>>,
    NoInfer<F> | StepError | UnsupportedError | StepCallError,
    Exclude<R, StepAttempt>
  >

  /** Implements {@link sleep}. */
  readonly sleep: (name: string, duration: StepDuration) => Effect.Effect<void, StepCallError>

  /** Implements {@link sleepUntil}. */
  readonly sleepUntil: (name: string, until: Date | string) => Effect.Effect<void, StepCallError>

  /** Implements {@link waitForEvent}. */
  readonly waitForEvent: {
    <D extends EventDefinition>(
      name: string,
      filter: EffectEventFilter<D>
    ): Effect.Effect<EventOf<D>, WaitTimeoutError | StepCallError>
    // oxlint-disable-next-line typescript/no-explicit-any -- data of an event known by its name only
    <T = any>(
      name: string,
      filter: EffectEventFilter<string>
    ): Effect.Effect<IronflowEvent<T>, WaitTimeoutError | StepCallError>
  }

  /** Implements {@link invoke}. */
  readonly invoke: {
    <A = never, E = never>(
      functionId: string,
      input?: unknown,
      options?: EffectInvokeOptions<A, E>
    ): Effect.Effect<
      Decoded<A, unknown>,
      InvokeError<E> | InvokeTimeoutError | FunctionNotFoundError | StepCallError
    >
    <F extends Invokable>(
      fn: WithoutInput<F>
    ): Effect.Effect<
      InvokeOutput<F>,
      InvokeError<InvokeFailure<F>> | InvokeTimeoutError | FunctionNotFoundError | StepCallError
    >
    <F extends Invokable, A = never, E = never>(
      fn: F,
      input: InvokeInput<F>,
      options?: EffectInvokeOptions<A, E>
    ): Effect.Effect<
      Decoded<NoInfer<A>, InvokeOutput<F>>,
      | InvokeError<Decoded<NoInfer<E>, InvokeFailure<F>>>
      | InvokeTimeoutError
      | FunctionNotFoundError
      | StepCallError
    >
  }

  /** Implements {@link invokeAsync}. */
  readonly invokeAsync: {
    (
      functionId: string,
      input?: unknown
    ): Effect.Effect<{ readonly runId: string }, InvokeError | FunctionNotFoundError | StepCallError>
    <F extends Invokable>(
      fn: WithoutInput<F>
    ): Effect.Effect<{ readonly runId: string }, InvokeError | FunctionNotFoundError | StepCallError>
    <F extends Invokable>(
      fn: F,
      input: InvokeInput<F>
    ): Effect.Effect<{ readonly runId: string }, InvokeError | FunctionNotFoundError | StepCallError>
  }

  /** Implements {@link parallel}. */
  readonly parallel: <const B extends ReadonlyArray<AnyBranch>, const O extends ParallelOptions = {}>(
    name: string,
    branches: B,
    options?: O
  ) => Effect.Effect<
    ParallelResult<B, O>,
    (MaySettle<O> extends true ? never : Effect.Error<B[number]>) | StepCallError,
    Exclude<Effect.Services<B[number]>, Step>
  >

  /** Implements {@link map}. */
  readonly map: <T, A, E, R, const O extends ParallelOptions = {}>(
    name: string,
    items: ReadonlyArray<T>,
    fn: (item: T, index: number) => Effect.Effect<A, E, R>,
    options?: O
  ) => Effect.Effect<
    MaySettle<O> extends true ? Array<A | E> : Array<A>,
    (MaySettle<O> extends true ? never : E) | StepCallError,
    Exclude<R, Step>
  >

  /** Implements {@link compensate}. */
  readonly compensate: <A, E, R>(
    stepName: string,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<void, StepCallError, Exclude<R, StepAttempt>>

  /** Implements {@link publish}. */
  readonly publish: (
    topic: string,
    data: unknown
  ) => Effect.Effect<{ readonly eventId: string; readonly sequence: number }, StepError | StepCallError>
}

/**
 * The service that the functions of this module use. Every Effect handler, and every branch of `parallel` or `map`,
 * has a service of its own.
 */
export class Step extends Context.Service<Step, StepService>()("@ironflow/node/Step") {}

/** Records where in the user's code a step is called, for the steps of the running handler. */
const recordCallSite = (kind: StepKind, target: unknown, entry: Function): void => {
  const fiber = Fiber.getCurrent()
  if (fiber === undefined) return
  const steps: (StepService & RecordsCalls) | undefined = Context.getOrUndefined(fiber.context, Step)
  const name = typeof target === "string" ? target : (target as Partial<Invokable> | undefined)?.config?.id
  if (typeof name === "string") steps?.[recordCall]?.(kind, name, entry)
}

/**
 * Runs an effect once, and stores its result. When the effect fails, it is retried by the retry policy. When
 * no retry is left, or the error is not retryable, the call fails with `StepError`, or with the error itself
 * when that matches `options.error`.
 *
 * ```ts
 * const receipt = Step.run("charge", Effect.succeed({ receipt: "r-1" }), { timeout: "20 seconds" })
 * ```
 */
export const run = <A extends Declared<S>, E, R, S = never, F = never>(
  name: string,
  effect: Effect.Effect<A, E, R> & StorableEffect<A, S>,
  options?: EffectRunOptions<S, F>
): Effect.Effect<
  Decoded<NoInfer<S>, Stored<A>>,
  NoInfer<F> | StepError | StepCallError,
  Exclude<R, StepAttempt> | Step
> => {
  recordCallSite("run", name, run)
  return Step.use((step) => step.run(name, effect, options))
}

/**
 * Runs an effect, and then executes the writes that the effect has recorded with `tx`, in one transaction with the
 * result of the step: all or none, exactly once. When there is a conflict, nothing is written and the attempt
 * fails; the body is then retried by the retry policy, and reads fresh data. On a legacy server, which has no
 * transactions, the call fails with `UnsupportedError` before the body runs.
 *
 * ```ts
 * const moved = Step.tx("move", (tx) => tx.emit("money.moved", { amount: 5 }), { timeout: "5 seconds" })
 * ```
 */
export const tx = <A extends Declared<S>, E, R, S = never, F = never>(
  name: string,
  body: (tx: EffectTx) => Effect.Effect<A, E, R> & StorableEffect<A, S>,
  options?: EffectRunOptions<S, F>
): Effect.Effect<
  TxResult<Decoded<NoInfer<S>, Stored<A>>>,
  NoInfer<F> | StepError | UnsupportedError | StepCallError,
  Exclude<R, StepAttempt> | Step
> => {
  recordCallSite("tx", name, tx)
  return Step.use((step) => step.tx(name, body, options))
}

/** Waits durably for a duration. */
export const sleep = (name: string, duration: StepDuration): Effect.Effect<void, StepCallError, Step> =>
  Step.use((step) => step.sleep(name, duration))

/** Waits durably until a point in time. Returns at once if the time has passed. */
export const sleepUntil = (name: string, until: Date | string): Effect.Effect<void, StepCallError, Step> =>
  Step.use((step) => step.sleepUntil(name, until))

/** Waits durably for an event, by name or by definition. With a definition the result is typed. */
export const waitForEvent: {
  <D extends EventDefinition>(
    name: string,
    filter: EffectEventFilter<D>
  ): Effect.Effect<EventOf<D>, WaitTimeoutError | StepCallError, Step>
  // oxlint-disable-next-line typescript/no-explicit-any -- data of an event known by its name only
  <T = any>(
    name: string,
    filter: EffectEventFilter<string>
  ): Effect.Effect<IronflowEvent<T>, WaitTimeoutError | StepCallError, Step>
} = (name: string, filter: EffectEventFilter<string | EventDefinition>) => {
  recordCallSite("waitForEvent", name, waitForEvent)
  // the overloads above have the types of the arguments and results
  return Step.use((step) => step.waitForEvent(name, filter as EffectEventFilter<string>)) as Effect.Effect<
    never,
    WaitTimeoutError | StepCallError,
    Step
  >
}

/**
 * Starts a run of another function, which is given by its id or by value, and waits durably for its result.
 * When the function fails with an error that matches its `error` schema, `failure` of the `InvokeError` is that error,
 * typed.
 *
 * ```ts
 * const invoice = Step.invoke("make-invoice", { orderId: "o-1" }, { timeout: "5 minutes" })
 * ```
 */
export const invoke: {
  <A = never, E = never>(
    functionId: string,
    input?: unknown,
    options?: EffectInvokeOptions<A, E>
  ): Effect.Effect<
    Decoded<A, unknown>,
    InvokeError<E> | InvokeTimeoutError | FunctionNotFoundError | StepCallError,
    Step
  >
  <F extends Invokable>(
    fn: WithoutInput<F>
  ): Effect.Effect<
    InvokeOutput<F>,
    InvokeError<InvokeFailure<F>> | InvokeTimeoutError | FunctionNotFoundError | StepCallError,
    Step
  >
  <F extends Invokable, A = never, E = never>(
    fn: F,
    input: InvokeInput<F>,
    options?: EffectInvokeOptions<A, E>
  ): Effect.Effect<
    Decoded<NoInfer<A>, InvokeOutput<F>>,
    | InvokeError<Decoded<NoInfer<E>, InvokeFailure<F>>>
    | InvokeTimeoutError
    | FunctionNotFoundError
    | StepCallError,
    Step
  >
} = (
  fn: string | Invokable,
  input?: unknown,
  // oxlint-disable-next-line typescript/no-explicit-any -- the overloads above carry the types
  options?: EffectInvokeOptions<any, any>
): Effect.Effect<never, never, Step> => {
  recordCallSite("invoke", fn, invoke)
  return Step.use((step) => step.invoke(fn as string, input, options)) as Effect.Effect<never, never, Step>
}

/** Starts a run of another function, and does not wait for it. */
export const invokeAsync: {
  (
    functionId: string,
    input?: unknown
  ): Effect.Effect<{ readonly runId: string }, InvokeError | FunctionNotFoundError | StepCallError, Step>
  <F extends Invokable>(
    fn: WithoutInput<F>
  ): Effect.Effect<{ readonly runId: string }, InvokeError | FunctionNotFoundError | StepCallError, Step>
  <F extends Invokable>(
    fn: F,
    input: InvokeInput<F>
  ): Effect.Effect<{ readonly runId: string }, InvokeError | FunctionNotFoundError | StepCallError, Step>
} = (fn: string | Invokable, input?: unknown) => {
  recordCallSite("invokeAsync", fn, invokeAsync)
  return Step.use((step) => step.invokeAsync(fn as string, input))
}

/**
 * Runs branches at the same time, each with a scope of its own for names of steps. The results are in the
 * order of the branches.
 *
 * ```ts
 * const checks = Step.parallel(
 *   "checks",
 *   [Step.run("stock", Effect.succeed(7)), Step.run("credit", Effect.succeed(true))],
 *   { concurrency: 2 }
 * )
 * ```
 */
export const parallel = <const B extends ReadonlyArray<AnyBranch>, const O extends ParallelOptions = {}>(
  name: string,
  branches: B,
  options?: O
): Effect.Effect<
  ParallelResult<B, O>,
  (MaySettle<O> extends true ? never : Effect.Error<B[number]>) | StepCallError,
  Exclude<Effect.Services<B[number]>, Step> | Step
> => Step.use((step) => step.parallel(name, branches, options))

/** Does what {@link parallel} does, with one branch for each item. */
export const map = <T, A, E, R, const O extends ParallelOptions = {}>(
  name: string,
  items: ReadonlyArray<T>,
  fn: (item: T, index: number) => Effect.Effect<A, E, R>,
  options?: O
): Effect.Effect<
  MaySettle<O> extends true ? Array<A | E> : Array<A>,
  (MaySettle<O> extends true ? never : E) | StepCallError,
  Exclude<R, Step> | Step
> => Step.use((step) => step.map(name, items, fn, options))

/**
 * Registers how to undo a step. When the run fails for good, all registered compensations run in reverse order, each
 * of them as a durable step.
 */
export const compensate = <A, E, R>(
  stepName: string,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<void, StepCallError, Exclude<R, StepAttempt> | Step> =>
  Step.use((step) => step.compensate(stepName, effect))

/** Publishes a message to a topic, in the transaction that stores the step. */
export const publish = (
  topic: string,
  data: unknown
): Effect.Effect<
  { readonly eventId: string; readonly sequence: number },
  StepError | StepCallError,
  Step
> => {
  recordCallSite("publish", typeof topic === "string" ? publishName(topic) : topic, publish)
  return Step.use((step) => step.publish(topic, data))
}
