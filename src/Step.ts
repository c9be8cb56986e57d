/**
 * Steps: the durable parts of a handler.
 *
 * A step has a name and a place in its run; its result is stored, and when the handler runs again from the top the step
 * answers from storage instead of running again. Promise handlers get a {@link StepClient} as `step`; Effect handlers
 * use this module's functions, which need the {@link Step} service that every handler runs with:
 *
 * ```ts
 * import { Step } from "@ironflow/node/effect"
 *
 * const receipt = yield* Step.run("charge", charge(order), { success: Receipt, timeout: "30s" })
 * yield* Step.sleep("cool off", "5 minutes")
 * ```
 *
 * A suspended step (a sleep, a wait, a child run, the delay before a retry) never settles while it is suspended: neither
 * `try/catch/finally` nor `Effect.catchCause` sees it.
 */
import * as Context from "effect/Context"
import type * as EffectDuration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Schema from "effect/Schema"
import type * as HKT from "effect/HKT"
import { type CalledFrom, calledFrom } from "./CallSite.ts"
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
import type { Storable, StorableResult, Stored } from "./Stored.ts"

/** What the body of a step is told about its own execution. */
export interface StepRunContext {
  /**
   * Aborts when the step's result is no longer wanted: its timeout, a cancelled run, a lost lease, a failed sibling in
   * a fail-fast `parallel`. `signal.reason` is the error that says which.
   */
  readonly signal: AbortSignal
  /** Executions of this step so far, this one included. */
  readonly attempt: number
  /** The same for every attempt of this step of this run, and for no other: give it to the service you call. */
  readonly idempotencyKey: string
  /**
   * Says how far the step has come, from 0 to 1, and in words if you like (200 characters at most). It is shown where running steps
   * are: by `getRunSteps`, `explain` and the command line, some seconds later. It is not stored, costs no request of its own, and never
   * fails the step: a fraction that is no number is left out, and one outside of 0 to 1 is the nearer of the two.
   */
  progress(fraction: number, text?: string): void
}

/** Options of `step.run` and `step.tx`. */
export interface StepRunOptions {
  /** Time for one attempt, such as `"30s"`. Default: the function's `stepTimeout`, else none. */
  readonly timeout?: Duration
  /** Replaces the function's retry policy for this step; fields left out come from the function. */
  readonly retry?: RetryConfig
}

/** What gives back more than JSON has: dates, bigints, maps, instances of classes. */
export interface WithSchema<A> {
  /**
   * The result as it was stored goes through this schema, in the first execution and in every replay, and what the schema returns is
   * the result: with `z.object({ at: z.coerce.date() })` a `Date` again. Any Standard Schema (Zod, Valibot, ArkType) that answers at
   * once, or an Effect schema, which decodes. A result that does not fit fails the step with `SchemaValidationError` as
   * the cause, and is not tried again.
   */
  readonly schema: AnySchema<A>
}

/** Of the options of `run` and `tx`. */
export const runKeys = { timeout: true, retry: retryKeys, schema: true } satisfies Keys<
  StepRunOptions & WithSchema<unknown>
>
/** The options that are known. */
export const effectRunKeys = {
  timeout: true,
  retry: retryKeys,
  success: true,
  error: true
} satisfies Keys<EffectRunOptions<never, never>>

/** Which event to wait for: by name or pattern, or by a definition, which decodes and types its data. */
export interface EventFilter<E extends string | EventDefinition = string> {
  /** Event name, a pattern such as `order.*`, or a definition. */
  readonly event: E
  /**
   * A dotted path (`data.requestId`) whose values in the awaited and the triggering event must be equal, or a CEL
   * expression over `event` (the candidate) and `trigger`.
   */
  readonly match?: string
  /** How long to wait; `"7d"` by default. */
  readonly timeout?: Duration
}

/** The options that are known. */
export const waitKeys = { event: true, match: true, timeout: true } satisfies Keys<EventFilter>

/** Options of `step.invoke`. */
export interface InvokeOptions {
  /** How long to wait for the child's result; `"30s"` by default. The child keeps running afterwards. */
  readonly timeout?: Duration
}

/** The options that are known. */
export const invokeKeys = { timeout: true, schema: true } satisfies Keys<InvokeOptions & WithSchema<unknown>>
/** The options that are known. */
export const effectInvokeKeys = { timeout: true, success: true, error: true } satisfies Keys<
  EffectInvokeOptions<never, never>
>

/** Options of `step.parallel` and `step.map`. */
export interface ParallelOptions {
  /** Branches that may run at once; all of them by default. */
  readonly concurrency?: number
  /**
   * `"failFast"` (default): the first failing branch fails the call, once the steps that were running have ended.
   * `"allSettled"`: every branch ends, and failures stand in the result as Errors.
   */
  readonly onError?: "failFast" | "allSettled"
}

/** The options that are known. */
export const parallelKeys = { concurrency: true, onError: true } satisfies Keys<ParallelOptions>
/** The options that are known. */
export const mapKeys = { ...parallelKeys, schema: true } satisfies Keys<ParallelOptions & WithSchema<unknown>>

/** True when the options let failures into the result. */
export type MaySettle<O> = "onError" extends keyof O
  ? "allSettled" extends O["onError"]
    ? true
    : false
  : false

/** A function as `invoke` takes it: what `createFunction` or `IronflowFunction.make` returned. */
export type Invokable =
  | {
      /** What the function is. */ readonly config: { readonly id: string }
      /** Its code. */ readonly handler: (context: never) => unknown
    }
  | {
      /** What the function is. */
      readonly config: { readonly id: string }
      /** Its code. */
      readonly program: (context: never) => Effect.Effect<unknown, unknown, unknown>
    }

/**
 * What `invoke` gives back of a function: its result after storage ({@link Stored}), or as its `success` schema decodes it
 * where the function declares one.
 */
export type InvokeOutput<F> = F extends {
  readonly program: (context: never) => Effect.Effect<infer A, unknown, unknown>
}
  ? Decoded<DeclaredBy<F, "success">, Stored<A>>
  : F extends { readonly handler: (context: never) => infer R }
    ? Stored<Awaited<R>>
    : unknown

/**
 * What `invoke` takes for a function: what its schema takes (Promise), or the data of its event definition, which is encoded
 * on the way (Effect). Anything where the function has neither.
 */
export type InvokeInput<F> = F extends { readonly program: (context: infer C) => unknown }
  ? EventDataOf<C>
  : F extends IronflowFunction<infer _Data, infer _Result, infer Input>
    ? Input
    : unknown

/** The function, if it may be invoked without an input. */
export type WithoutInput<F> = undefined extends InvokeInput<F> ? F : never

/** What a function is declared to fail with, by its `error` schema; `never` where it declares nothing. */
export type InvokeFailure<F> = DeclaredBy<F, "error">

/** What a function declares of its result or its failure; `never` when it declares nothing. */
type DeclaredBy<F, Field extends "success" | "error"> = F extends {
  readonly config: { readonly [K in Field]?: infer S }
}
  ? Exclude<S, undefined> extends Schema.Codec<infer A, unknown>
    ? A
    : never
  : never

/** What a result has to be: what the `success` schema says, if there is one. */
export type Declared<S> = [S] extends [never] ? unknown : S

/** A part of the parameter's type, as {@link StorableResult} is: with a `success` schema anything that this encodes can be stored. */
export type StorableEffect<A, S> = [S] extends [never]
  ? [A] extends [Storable<A>]
    ? unknown
    : Effect.Effect<Storable<A>, unknown, unknown>
  : unknown

/** What a schema says, or `Else` where there is none. */
type Decoded<A, Else> = [A] extends [never] ? Else : A

type EventDataOf<C> = C extends { readonly event: { readonly data: infer D } } ? D : unknown

// -----------------------------------------------------------------------------
// Transactions
// -----------------------------------------------------------------------------

/** The writes of a transaction are exactly once by themselves: they take no idempotency key. */
export interface TxAppendAllOptions {
  /**
   * The version that the stream must have when the transaction is carried out; writes before this one in the same
   * transaction count. See `AppendConditions`.
   */
  readonly expectedVersion?: ExpectedVersion
}

/** Options of `append` in a transaction. */
export interface TxAppendOptions extends TxAppendAllOptions {
  /** Schema version of the event; 1 by default. */
  readonly version?: number
  /** An object of JSON that is kept with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/** Options of `emit` in a transaction. */
export interface TxEmitOptions {
  /** Schema version of the event; 1 by default. */
  readonly version?: number
  /** An object of JSON that is kept with the event; none by default. */
  readonly metadata?: Record<string, unknown>
}

/**
 * Changes of the keys of a bucket, in the reading `F`. Each key can be written once in a transaction. A bucket that does not
 * exist, and a value or bucket that would be larger than the bucket allows, fail the step when the transaction is carried out.
 */
export interface TxKvBucketApi<F extends HKT.TypeLambda, In = unknown> {
  /** Writes a value whatever is there: any JSON value, or a `Uint8Array`. */
  put(key: string, value: In): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
  /** Writes only if the key does not exist. */
  create(key: string, value: In): HKT.Kind<F, never, never, ValidationError | InvalidStateError, void>
  /**
   * Writes only if the key is at `revision`.
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
  /** Deletes the value; with `revision` only if the key is at it. */
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

/** Appends to the streams of the entities of one definition, in the reading `F`. */
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
 * What the body of a `step.tx` writes with, in the reading `F`. A call only notes the write: all of them are carried out,
 * in order and in one transaction with the step's own result, when the body has returned. What is not acceptable is a
 * `ValidationError` at once. 1000 writes and 4 MiB in all at most.
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
     * The streams of the entities that `defineEntity` describes: events are typed and encoded by their definitions, and one that
     * does not fit is a `StreamSchemaError` at once. The schemas have to answer without waiting.
     */
    of<N extends AnyEntity>(entity: N): TxEntityStreams<F, N["events"][number]>
  }
  /**
   * Emits an event, by name or definition: it starts runs and satisfies waits as any other.
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
   * The keys of a bucket. With a schema the values are typed and encoded; one that does not fit is a `KeySchemaError` at once.
   * The schema has to answer without waiting.
   */
  kv<S extends AnySchema | undefined = undefined>(
    bucket: string,
    options?: KVBucketOptions<S>
  ): TxKvBucketApi<F, SchemaInput<S>>
}

/** The plain reading: a call returns its result, and throws what would be its failure. */
export interface PlainKind extends HKT.TypeLambda {
  /** The reading of a call that gives `Target`. */
  readonly type: this["Target"]
}

interface EffectKind extends HKT.TypeLambda {
  readonly type: Effect.Effect<this["Target"], this["Out1"]>
}

/** What the body of `step.tx` writes with. Nothing is stored before the body has returned. */
export interface Tx extends TxApi<PlainKind> {}
/** What the body of `Step.tx` writes with. Nothing is stored before the body has ended. */
export interface EffectTx extends TxApi<EffectKind> {}
/** A bucket in a transaction. */
export interface TxKvBucket<In = unknown> extends TxKvBucketApi<PlainKind, In> {}

/** The result of a `step.tx`: what its body returned, and what came of its writes, in their order. */
export interface TxResult<T> {
  /** What the body returned, as JSON gives it back. */
  readonly value: T
  /** One for each write. */
  readonly writes: ReadonlyArray<TxWriteResult>
}

/** The steps of a Promise handler. Failures reject; a suspended step's promise stays pending. */
export interface StepClient {
  /**
   * Runs `fn` once and stores its result as JSON, which is what comes back: a `Date` is a string, see {@link Stored}. With
   * `schema` that is decoded. A failing `fn` runs again by the retry policy; when that is exhausted, or the
   * error says it is not retryable, the call rejects with `StepError` (its `cause` is the error).
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
   * Runs `fn` and carries out the writes that it collects with `tx`, in one transaction with the step's own result: all or
   * none, and exactly once. A conflict fails the attempt, nothing having been written; by the retry policy `fn`
   * then runs again, and reads afresh. When that is exhausted, the call rejects with `StepError` (its `cause` is the
   * `VersionConflictError`). Rejects with code `UNIMPLEMENTED`, before `fn` runs, on servers that cannot do it.
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

  /** Waits durably for a point in time; one that has passed returns at once. */
  sleepUntil(name: string, until: Date | string): Promise<void>

  /**
   * Waits durably for an event. Rejects with `WaitTimeoutError` when none came in time, and with `SchemaValidationError` when the data of
   * the one that came does not fit the definition's schema.
   */
  waitForEvent<D extends EventDefinition>(name: string, filter: EventFilter<D>): Promise<EventOf<D>>
  // oxlint-disable-next-line typescript/no-explicit-any -- the README reads `approval.data.approved` without a type
  waitForEvent<T = any>(name: string, filter: EventFilter): Promise<IronflowEvent<T>>

  /**
   * Starts a run of another function and waits durably for its result, which comes back as it was stored, or as `schema` decodes
   * it. Rejects with `InvokeError` when it failed (its `cause` is the function's error), with
   * `InvokeTimeoutError` when it took longer than `timeout`.
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

  /** Starts a run of another function and goes on. */
  invokeAsync(functionId: string, input?: unknown): Promise<{ runId: string }>
  invokeAsync<F extends Invokable>(fn: WithoutInput<F>): Promise<{ runId: string }>
  invokeAsync<F extends Invokable>(fn: F, input: InvokeInput<F>): Promise<{ runId: string }>

  /**
   * Runs branches at the same time, each with a step client of its own, and returns their results in order. What is stored
   * is the results of the steps in them: what a branch makes of those stays what it is.
   * Names of `parallel` and `map` calls should be unique where they are made.
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
   * `parallel` with one branch an item. With `schema`, what each branch returns goes through it.
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
   * Registers how to undo a step. When the run fails for good, everything registered runs in reverse order, each as a
   * durable step of its own.
   */
  compensate(stepName: string, fn: (context: StepRunContext) => unknown): void

  /** Publishes a message to a topic, in the transaction that stores the step. */
  publish(topic: string, data: unknown): Promise<{ eventId: string; sequence: number }>
}

// -----------------------------------------------------------------------------
// The Effect face
// -----------------------------------------------------------------------------

/** A duration: ours (`"5m"`, milliseconds) or Effect's (`"5 minutes"`, a `Duration`). */
export type StepDuration = Duration | EffectDuration.Input

/** A wrong argument, or a step call inside the body of another step. Neither is recorded. */
export type StepCallError = ValidationError | NestedStepError

/** Options of `Step.run` and `Step.tx`. */
export interface EffectRunOptions<A, F> {
  /** Time for one attempt. Default: the function's `stepTimeout`, else none. */
  readonly timeout?: StepDuration
  /** Replaces the function's retry policy for this step; fields left out come from the function. */
  readonly retry?: RetryConfig
  /** How the result is stored: encoded for storage, decoded for the handler. Without it the result must be JSON. */
  readonly success?: Schema.Codec<A, unknown>
  /**
   * Failures that match come back as they were, typed, instead of as `StepError`. They are retried like others first, and end the
   * run like others when the handler lets them through.
   */
  readonly error?: Schema.Codec<F, unknown>
}

/** Which event to wait for, and how long. */
export interface EffectEventFilter<E extends string | EventDefinition> {
  /** Event name, pattern, or a definition, which decodes the data and types it. */
  readonly event: E
  /** See {@link EventFilter.match}. */
  readonly match?: string
  /** How long to wait; 7 days by default. */
  readonly timeout?: StepDuration
}

/** Options of `Step.invoke`. */
export interface EffectInvokeOptions<A = never, E = never> {
  /** How long to wait for the child's result; 30 seconds by default. The child keeps running afterwards. */
  readonly timeout?: StepDuration
  /** Decodes the result, in place of the function's own `success` schema. */
  readonly success?: Schema.Codec<A, unknown>
  /** Decodes what the function failed with into `failure` of the `InvokeError`, in place of the function's own `error` schema. */
  readonly error?: Schema.Codec<E, unknown>
}

/** An effect whose kind of result does not matter here. */
export type AnyBranch = Effect.Effect<unknown, unknown, unknown>

/**
 * What the code of a step may ask about its own execution: `yield* Step.StepAttempt` inside the effect given to `run` or
 * `compensate`.
 *
 * When a sibling fails fast, the signal aborts and the effect is awaited for up to 5 seconds (or its timeout); what
 * cannot wait (a timeout, a cancelled run, an interrupted caller) interrupts it.
 */
export class StepAttempt extends Context.Service<StepAttempt, StepRunContext>()(
  "@ironflow/node/StepAttempt"
) {}

/**
 * Says how far the step has come whose effect this is part of, see {@link StepRunContext.progress}:
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

/** Result of `parallel` over the branches `B` with the options `O`. */
export type ParallelResult<B extends ReadonlyArray<AnyBranch>, O> =
  MaySettle<O> extends true
    ? { -readonly [K in keyof B]: Effect.Success<B[K]> | Effect.Error<B[K]> }
    : { -readonly [K in keyof B]: Effect.Success<B[K]> }

/** The steps of an Effect handler, in the scope (root or branch) that the calling fiber is in. */
export interface StepService {
  /** What {@link run} calls. */
  readonly run: <A extends Declared<S>, E, R, S = never, F = never>(
    name: string,
    effect: Effect.Effect<A, E, R> & StorableEffect<A, S>,
    options?: EffectRunOptions<S, F>
  ) => Effect.Effect<
    Decoded<NoInfer<S>, Stored<A>>,
    NoInfer<F> | StepError | StepCallError,
    Exclude<R, StepAttempt>
  >

  /** What {@link tx} calls. */
  readonly tx: <A extends Declared<S>, E, R, S = never, F = never>(
    name: string,
    body: (tx: EffectTx) => Effect.Effect<A, E, R> & StorableEffect<A, S>,
    options?: EffectRunOptions<S, F>
  ) => Effect.Effect<
    TxResult<Decoded<NoInfer<S>, Stored<A>>>,
    NoInfer<F> | StepError | UnsupportedError | StepCallError,
    Exclude<R, StepAttempt>
  >

  /** What {@link sleep} calls. */
  readonly sleep: (name: string, duration: StepDuration) => Effect.Effect<void, StepCallError>

  /** What {@link sleepUntil} calls. */
  readonly sleepUntil: (name: string, until: Date | string) => Effect.Effect<void, StepCallError>

  /** What {@link waitForEvent} calls. */
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

  /** What {@link invoke} calls. */
  readonly invoke: {
    <A = never, E = never>(
      functionId: string,
      input?: unknown,
      options?: EffectInvokeOptions<A, E>
    ): Effect.Effect<Decoded<A, unknown>, InvokeError<E> | InvokeTimeoutError | StepCallError>
    <F extends Invokable>(
      fn: WithoutInput<F>
    ): Effect.Effect<InvokeOutput<F>, InvokeError<InvokeFailure<F>> | InvokeTimeoutError | StepCallError>
    <F extends Invokable, A = never, E = never>(
      fn: F,
      input: InvokeInput<F>,
      options?: EffectInvokeOptions<A, E>
    ): Effect.Effect<
      Decoded<NoInfer<A>, InvokeOutput<F>>,
      InvokeError<Decoded<NoInfer<E>, InvokeFailure<F>>> | InvokeTimeoutError | StepCallError
    >
  }

  /** What {@link invokeAsync} calls. */
  readonly invokeAsync: {
    (
      functionId: string,
      input?: unknown
    ): Effect.Effect<{ readonly runId: string }, InvokeError | StepCallError>
    <F extends Invokable>(
      fn: WithoutInput<F>
    ): Effect.Effect<{ readonly runId: string }, InvokeError | StepCallError>
    <F extends Invokable>(
      fn: F,
      input: InvokeInput<F>
    ): Effect.Effect<{ readonly runId: string }, InvokeError | StepCallError>
  }

  /** What {@link parallel} calls. */
  readonly parallel: <const B extends ReadonlyArray<AnyBranch>, const O extends ParallelOptions = {}>(
    name: string,
    branches: B,
    options?: O
  ) => Effect.Effect<
    ParallelResult<B, O>,
    (MaySettle<O> extends true ? never : Effect.Error<B[number]>) | StepCallError,
    Exclude<Effect.Services<B[number]>, Step>
  >

  /** What {@link map} calls. */
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

  /** What {@link compensate} calls. */
  readonly compensate: <A, E, R>(
    stepName: string,
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<void, StepCallError, Exclude<R, StepAttempt>>

  /** What {@link publish} calls. */
  readonly publish: (
    topic: string,
    data: unknown
  ) => Effect.Effect<{ readonly eventId: string; readonly sequence: number }, StepError | StepCallError>
}

/** The service behind this module's functions. Every Effect handler, and every branch of `parallel`, runs with one. */
export class Step extends Context.Service<Step, StepService>()("@ironflow/node/Step") {}

/** Tells the steps of the handler that is running where the user's code calls one of them. */
const call = (kind: StepKind, target: unknown, entry: Function): void => {
  const fiber = Fiber.getCurrent()
  if (fiber === undefined) return
  const steps: (StepService & CalledFrom) | undefined = Context.getOrUndefined(fiber.context, Step)
  const name = typeof target === "string" ? target : (target as Partial<Invokable> | undefined)?.config?.id
  if (typeof name === "string") steps?.[calledFrom]?.(kind, name, entry)
}

/**
 * Runs an effect once and stores its result. A failing effect runs again by the retry policy; when that is exhausted,
 * or the error says it is not retryable, the call fails with `StepError`, or with the error itself when it matches
 * `options.error`.
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
  call("run", name, run)
  return Step.use((step) => step.run(name, effect, options))
}

/**
 * Runs an effect and carries out the writes that it collects with `tx`, in one transaction with the step's own result: all or
 * none, and exactly once. A conflict fails the attempt, nothing having been written; by the retry policy the body
 * then runs again, and reads afresh. Fails with `UnsupportedError`, before the body runs, on servers that cannot do it.
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
  call("tx", name, tx)
  return Step.use((step) => step.tx(name, body, options))
}

/** Waits durably for a duration. */
export const sleep = (name: string, duration: StepDuration): Effect.Effect<void, StepCallError, Step> =>
  Step.use((step) => step.sleep(name, duration))

/** Waits durably for a point in time; one that has passed returns at once. */
export const sleepUntil = (name: string, until: Date | string): Effect.Effect<void, StepCallError, Step> =>
  Step.use((step) => step.sleepUntil(name, until))

/** Waits durably for an event, by name or by definition; a definition types the result. */
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
  call("waitForEvent", name, waitForEvent)
  // the overloads above carry the types
  return Step.use((step) => step.waitForEvent(name, filter as EffectEventFilter<string>)) as Effect.Effect<
    never,
    WaitTimeoutError | StepCallError,
    Step
  >
}

/**
 * Starts a run of another function, given by id or as itself, and waits durably for its result. The `InvokeError` of a function
 * that has failed has in `failure` what the function failed with, typed, when that fits the function's `error` schema.
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
  ): Effect.Effect<Decoded<A, unknown>, InvokeError<E> | InvokeTimeoutError | StepCallError, Step>
  <F extends Invokable>(
    fn: WithoutInput<F>
  ): Effect.Effect<InvokeOutput<F>, InvokeError<InvokeFailure<F>> | InvokeTimeoutError | StepCallError, Step>
  <F extends Invokable, A = never, E = never>(
    fn: F,
    input: InvokeInput<F>,
    options?: EffectInvokeOptions<A, E>
  ): Effect.Effect<
    Decoded<NoInfer<A>, InvokeOutput<F>>,
    InvokeError<Decoded<NoInfer<E>, InvokeFailure<F>>> | InvokeTimeoutError | StepCallError,
    Step
  >
} = (
  fn: string | Invokable,
  input?: unknown,
  // oxlint-disable-next-line typescript/no-explicit-any -- the overloads above carry the types
  options?: EffectInvokeOptions<any, any>
): Effect.Effect<never, never, Step> => {
  call("invoke", fn, invoke)
  return Step.use((step) => step.invoke(fn as string, input, options)) as Effect.Effect<never, never, Step>
}

/** Starts a run of another function and goes on. */
export const invokeAsync: {
  (
    functionId: string,
    input?: unknown
  ): Effect.Effect<{ readonly runId: string }, InvokeError | StepCallError, Step>
  <F extends Invokable>(
    fn: WithoutInput<F>
  ): Effect.Effect<{ readonly runId: string }, InvokeError | StepCallError, Step>
  <F extends Invokable>(
    fn: F,
    input: InvokeInput<F>
  ): Effect.Effect<{ readonly runId: string }, InvokeError | StepCallError, Step>
} = (fn: string | Invokable, input?: unknown) => {
  call("invokeAsync", fn, invokeAsync)
  return Step.use((step) => step.invokeAsync(fn as string, input))
}

/**
 * Runs branches at the same time, each with a scope of step names of its own; results are in branch order.
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

/** {@link parallel} with one branch an item. */
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

/** Registers how to undo a step, should the run fail for good. */
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
  call("publish", typeof topic === "string" ? publishName(topic) : topic, publish)
  return Step.use((step) => step.publish(topic, data))
}
