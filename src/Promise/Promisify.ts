/**
 * Derives the Promise API of a service from its Effect API: the same methods.
 *
 * A method runs its Effect on the runtime. It rejects with the same error instance that the Effect failed with; the
 * caller's stack is appended to the stack of the error, if it has one. When the `signal` in its options aborts, it
 * rejects with the signal's reason; after the runtime was closed, with code `CLOSED`.
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
  readonly what: string
  /** When true, further calls reject, even if the runtime could still run them. */
  isClosed: boolean
  /** The calls under way, which end with the runtime. */
  readonly calls: ShortLivedSet<Fiber.Fiber<unknown, unknown>>
}

export const makeRuntimeHandle = <R, ER>(
  runtime: ManagedRuntime.ManagedRuntime<R, ER>,
  what: string
): RuntimeHandle<R, ER> => {
  const calls: RuntimeHandle<R, ER>["calls"] = new ShortLivedSet()
  Effect.runSync(
    Scope.addFinalizer(
      runtime.scope,
      Effect.suspend(() => Fiber.interruptAll(calls))
    )
  )
  return { runtime, what, isClosed: false, calls }
}

/**
 * Turns the named methods of a service into Promise methods. `Api` is the Promise API of the interface whose Effect
 * API is `Service`. The caller gives both types, since TypeScript cannot infer one from the other.
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
        signalAmong(args)
      )
  }
  // `methods` names members of both APIs, which have the same interface: arguments and results pass through unchanged
  return api as Api
}

interface EffectMethods {
  readonly [name: string]: (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>
}

/** Runs an effect as a promise; see the top of this file. */
export const run = async <A, E, R, ER>(
  handle: RuntimeHandle<R, ER>,
  effect: Effect.Effect<A, E, R>,
  signal?: AbortSignal
): Promise<A> => {
  if (handle.isClosed) throw closed(handle.what)
  // a call that ends without waiting would not notice the abort
  if (signal?.aborted) throw signal.reason
  // read before any wait: it is the span of the caller
  const span = activeSpan()
  const asked = span === undefined ? effect : Effect.provideService(effect, Tracer.ParentSpan, span)
  const exit = await runExit(handle, asked, signal === undefined ? {} : { signal })
  if (Exit.isSuccess(exit)) return exit.value
  if (Cause.hasInterruptsOnly(exit.cause)) throw signal?.aborted ? signal.reason : closed(handle.what)
  // the awaiting function is on the stack, below this one; capturing the stack before the call would slow every call
  const caller: { stack?: string } = {}
  Error.captureStackTrace(caller, run)
  throw withCaller(errorOf(exit.cause), caller)
}

/** The runtime's own way keeps the fibers in a `Map` that fills with deleted entries: see `ShortLivedMap.ts`. */
const runExit = <A, E, R, ER>(
  { calls, runtime }: RuntimeHandle<R, ER>,
  effect: Effect.Effect<A, E, R>,
  options: { readonly signal?: AbortSignal }
): Promise<Exit.Exit<A, E | ER>> => {
  const { cachedContext } = runtime
  // its services have yet to be made, or are gone
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

/** The error in a cause: the instance that the effect failed with or threw. */
export const errorOf = (cause: Cause.Cause<unknown>): Error => toError(Cause.squash(cause))

const closed = (what: string): ClosedError => new ClosedError(what)

const signalAmong = (args: ReadonlyArray<unknown>): AbortSignal | undefined => {
  for (let i = args.length - 1; i >= 0; i--) {
    const arg = args[i]
    if (typeof arg === "object" && arg !== null && "signal" in arg && arg.signal instanceof AbortSignal) {
      return arg.signal
    }
  }
  return undefined
}

const callerMark = "\n    --- called from ---"

/** Appends the caller's stack to that of an error from a fiber, which ends in the runtime. */
const withCaller = (error: Error, caller: { readonly stack?: string }): Error => {
  const known = Object.getOwnPropertyDescriptor(error, "stack")
  const define = (property: PropertyDescriptor): boolean =>
    // `Reflect.defineProperty` does not throw for a frozen error: its stack then stays as it is
    Reflect.defineProperty(error, "stack", { configurable: true, enumerable: false, ...property })
  // formatting a stack costs more than most calls, and expected errors are rarely inspected
  define({
    get: () => {
      const own = String((known?.get === undefined ? known?.value : known.get.call(error)) ?? error)
      const frames = caller.stack?.indexOf("\n") ?? -1
      const whole =
        frames < 0 || own.includes(callerMark) ? own : `${own}${callerMark}${caller.stack?.slice(frames)}`
      define({ value: whole, writable: true })
      return whole
    },
    set: (value: unknown) => void define({ value, writable: true })
  })
  return error
}
