/**
 * The Promise reading of a service: the same words, derived mechanically.
 *
 * A method runs its Effect on the runtime. It rejects with the very error that the Effect failed with, its stack, if it has
 * one, followed by the caller's; with the signal's reason when the `signal` among its options aborts; and with code `CLOSED`
 * once the runtime has been closed.
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
import { PassingSet } from "../Passing.ts"

/** The runtime that a Promise face runs on, and what the face is called in errors (`client`). */
export interface Rim<R, ER> {
  readonly runtime: ManagedRuntime.ManagedRuntime<R, ER>
  readonly what: string
  /** Calls from now on reject, whatever the runtime could still do. */
  isClosed: boolean
  /** The calls under way, which end with the runtime. */
  readonly calls: PassingSet<Fiber.Fiber<unknown, unknown>>
}

export const makeRim = <R, ER>(runtime: ManagedRuntime.ManagedRuntime<R, ER>, what: string): Rim<R, ER> => {
  const calls: Rim<R, ER>["calls"] = new PassingSet()
  Effect.runSync(
    Scope.addFinalizer(
      runtime.scope,
      Effect.suspend(() => Fiber.interruptAll(calls))
    )
  )
  return { runtime, what, isClosed: false, calls }
}

/**
 * The named methods of a service as Promise methods. `Api` is the Promise reading of the interface of which `Service`
 * is the Effect reading: the caller states both, since TypeScript cannot infer one reading from the other.
 */
export const promisify = <Api extends object, Service extends object, R, ER>(
  rim: Rim<R, ER>,
  service: Effect.Effect<Service, ER, R>,
  methods: ReadonlyArray<keyof Api & keyof Service & string>
): Api => {
  const api: Record<string, unknown> = {}
  for (const name of methods) {
    api[name] = (...args: Array<unknown>): Promise<unknown> =>
      run(
        rim,
        Effect.flatMap(service, (self) => (self as EffectMethods)[name]!(...args)),
        signalAmong(args)
      )
  }
  // `methods` names members of both readings, which are the same interface: arguments and results only pass through.
  return api as Api
}

interface EffectMethods {
  readonly [name: string]: (...args: ReadonlyArray<unknown>) => Effect.Effect<unknown, unknown>
}

/** Runs an effect as a Promise user expects it; see the top of this file. */
export const run = async <A, E, R, ER>(
  rim: Rim<R, ER>,
  effect: Effect.Effect<A, E, R>,
  signal?: AbortSignal
): Promise<A> => {
  if (rim.isClosed) throw closed(rim.what)
  // a call that ends without waiting would not notice
  if (signal?.aborted) throw signal.reason
  // before anything is waited for: it is that of the caller
  const span = activeSpan()
  const asked = span === undefined ? effect : Effect.provideService(effect, Tracer.ParentSpan, span)
  const exit = await runExit(rim, asked, signal === undefined ? {} : { signal })
  if (Exit.isSuccess(exit)) return exit.value
  if (Cause.hasInterruptsOnly(exit.cause)) throw signal?.aborted ? signal.reason : closed(rim.what)
  // who awaits this is on the stack, below this function; to ask before the call would cost every call what only some need
  const caller: { stack?: string } = {}
  Error.captureStackTrace(caller, run)
  throw withCaller(errorOf(exit.cause), caller)
}

/** The runtime's own way keeps the fibers in a `Map` that fills with deleted entries: see `Passing.ts`. */
const runExit = <A, E, R, ER>(
  { calls, runtime }: Rim<R, ER>,
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

/** The stack of an error from a fiber ends in the runtime; what the user wants to see is who called. */
const withCaller = (error: Error, caller: { readonly stack?: string }): Error => {
  const known = Object.getOwnPropertyDescriptor(error, "stack")
  const define = (property: PropertyDescriptor): boolean =>
    // `Reflect`, because this throws when the error is frozen: then its stack stays as it is
    Reflect.defineProperty(error, "stack", { configurable: true, enumerable: false, ...property })
  // to put a stack into words costs more than most calls, and errors that are an answer are not looked into
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
