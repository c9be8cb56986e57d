/**
 * Makes the Promise API of a service from its Effect API. The methods are the same.
 *
 * A method runs its Effect on the runtime. When the Effect fails, the method rejects with the same error instance. If
 * the error has a stack, the caller's stack is appended to it. When the `signal` in the options aborts, the call
 * rejects with the signal's reason. After the runtime was closed, calls reject with code `CLOSED`.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import { activeSpan } from "../OpenTelemetry.ts"
import { ClosedError, toError } from "../Errors.ts"
import { ShortLivedSet } from "../ShortLivedMap.ts"

/** The runtime of a Promise API, and the name of the API in errors (`client`). */
export interface RuntimeHandle<R, ER> {
  readonly runtime: ManagedRuntime.ManagedRuntime<R, ER>
  readonly apiName: string
  /** Whether further calls reject, even if the runtime could still run them. */
  isClosed: boolean
  /** The calls in flight, which end with the runtime. */
  readonly calls: ShortLivedSet<Fiber.Fiber<unknown, unknown>>
}

export const makeRuntimeHandle = <R, ER>(
  runtime: ManagedRuntime.ManagedRuntime<R, ER>,
  apiName: string
): RuntimeHandle<R, ER> => {
  const calls: RuntimeHandle<R, ER>["calls"] = new ShortLivedSet()
  Effect.runSync(
    Scope.addFinalizer(
      runtime.scope,
      Effect.suspend(() => Fiber.interruptAll(calls))
    )
  )
  return { runtime, apiName, isClosed: false, calls }
}

/**
 * Turns the named methods of a service into Promise methods. `Service` is the Effect API of an interface, and
 * `Api` its Promise API. The caller gives both types, since TypeScript cannot infer one from the other.
 */
export const promisify = <Api extends object, Service extends object, R, ER>(
  handle: RuntimeHandle<R, ER>,
  service: Effect.Effect<Service, ER, R>,
  methods: ReadonlyArray<keyof Api & keyof Service & string>
): Api => {
  const api: Record<string, unknown> = {}
  for (const name of methods) {
    api[name] = (...args: Array<unknown>): Promise<unknown> =>
      run(
        handle,
        Effect.flatMap(service, (self) => (self as EffectMethods)[name]!(...args)),
        findSignal(args)
      )
  }
  // `methods` are members of both APIs of the same interface, and arguments and results pass through
  // unchanged
  return api as Api
}

interface EffectMethods {
  readonly [name: string]: (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>
}

/** Runs an effect as a promise, as the top of this file says. */
export const run = async <A, E, R, ER>(
  handle: RuntimeHandle<R, ER>,
  effect: Effect.Effect<A, E, R>,
  signal?: AbortSignal
): Promise<A> => {
  if (handle.isClosed) throw closedError(handle.apiName)
  // the signal is checked here, since a call that ends without waiting would not notice that the signal has aborted
  if (signal?.aborted) throw signal.reason
  // the caller's span, which must be read before the first `await`
  const span = activeSpan()
  const effectInSpan = span === undefined ? effect : Effect.provideService(effect, Tracer.ParentSpan, span)
  const exit = await runExit(handle, effectInSpan, signal === undefined ? {} : { signal })
  if (Exit.isSuccess(exit)) return exit.value
  if (Cause.hasInterruptsOnly(exit.cause)) throw signal?.aborted ? signal.reason : closedError(handle.apiName)
  // The caller's stack is captured only when the call fails: the function that awaits the call is then still on the stack.
  // To capture the stack before each call would slow down all calls.
  const caller: { stack?: string } = {}
  Error.captureStackTrace(caller, run)
  throw appendCallerStack(errorOf(exit.cause), caller)
}

/**
 * Runs the effect as `runPromiseExit` does. The runtime would keep its fibers in a `Map`, which fills with
 * deleted entries: see `ShortLivedMap.ts`.
 */
const runExit = <A, E, R, ER>(
  { calls, runtime }: RuntimeHandle<R, ER>,
  effect: Effect.Effect<A, E, R>,
  options: { readonly signal?: AbortSignal }
): Promise<Exit.Exit<A, E | ER>> => {
  const { cachedContext } = runtime
  // the runtime has not made its services yet, or is closed
  if (cachedContext === undefined) return runtime.runPromiseExit(effect, options)
  return new Promise((resolve) => {
    const fiber = Effect.runForkWith(cachedContext)(effect, options)
    calls.add(fiber)
    fiber.addObserver((exit) => {
      calls.delete(fiber)
      resolve(exit)
    })
  })
}

/** The error in a cause: the instance with which the effect failed, or which it threw. */
export const errorOf = (cause: Cause.Cause<unknown>): Error => toError(Cause.squash(cause))

const closedError = (what: string): ClosedError => new ClosedError(what)

const findSignal = (args: ReadonlyArray<unknown>): AbortSignal | undefined => {
  for (let i = args.length - 1; i >= 0; i--) {
    const arg = args[i]
    if (typeof arg === "object" && arg !== null && "signal" in arg && arg.signal instanceof AbortSignal) {
      return arg.signal
    }
  }
  return undefined
}

const callerMark = "\n    --- called from ---"

/** Appends the caller's stack to the stack of an error. Without this, the stack of the error ends in the runtime. */
const appendCallerStack = (error: Error, caller: { readonly stack?: string }): Error => {
  const ownProperty = Object.getOwnPropertyDescriptor(error, "stack")
  const define = (property: PropertyDescriptor): boolean =>
    // the stack of a frozen error stays as it is: `Reflect.defineProperty` does not throw
    Reflect.defineProperty(error, "stack", { configurable: true, enumerable: false, ...property })
  // the stack is made on first use: to format a stack takes longer than most calls, and the stack of an expected error
  // is rarely read
  define({
    get: () => {
      const ownStack = String(
        (ownProperty?.get === undefined ? ownProperty?.value : ownProperty.get.call(error)) ?? error
      )
      const frames = caller.stack?.indexOf("\n") ?? -1
      const fullStack =
        frames < 0 || ownStack.includes(callerMark)
          ? ownStack
          : `${ownStack}${callerMark}${caller.stack?.slice(frames)}`
      define({ value: fullStack, writable: true })
      return fullStack
    },
    set: (value: unknown) => void define({ value, writable: true })
  })
  return error
}
