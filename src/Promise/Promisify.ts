/**
 * The Promise reading of a service: the same words, derived mechanically.
 *
 * A method runs its Effect on the runtime. It rejects with the very error that the Effect failed with, its stack
 * followed by the caller's; with the signal's reason when the `signal` among its options aborts; and with code `CLOSED`
 * once the runtime has been closed.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as ManagedRuntime from "effect/ManagedRuntime"
import { IronflowError, toError } from "../Errors.ts"

/** A runtime that a Promise face runs on, and the word for what it is when it has been closed (`client`). */
export interface Rim<R, ER> {
  readonly runtime: ManagedRuntime.ManagedRuntime<R, ER>
  readonly what: string
  isClosed: boolean
}

/** What a `CLOSED` rejection says. */
export const closedError = (what: string): IronflowError =>
  new IronflowError(`The ${what} has been closed; create a new one to go on`, { code: "CLOSED" })

/**
 * Every named method of a service as a Promise method. `Api` is the Promise reading of the service's interface: the
 * caller states it, since a higher-kinded interface cannot be mapped from one reading to the other by inference.
 */
export const promisify = <Api extends object, R, ER>(
  rim: Rim<R, ER>,
  service: Effect.Effect<{ readonly [K in keyof Api]: (...args: never) => unknown }, ER, R>,
  methods: ReadonlyArray<keyof Api & string>
): Api => {
  const api: Record<string, unknown> = {}
  for (const name of methods) {
    // The arguments and result of each method are those of `Api`; here they only pass through.
    const call = (self: Record<string, (...args: Array<unknown>) => Effect.Effect<unknown, unknown, R>>, args: Array<unknown>) =>
      self[name]!(...args)
    const method = (...args: Array<unknown>): Promise<unknown> =>
      run(rim, Effect.flatMap(service as Effect.Effect<any, ER, R>, (self) => call(self, args)), method, signalAmong(args))
    api[name] = method
  }
  return api as Api
}
