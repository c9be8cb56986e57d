/**
 * Run-time tables of a service's methods, beside its interface: their options and errors. The Promise API is built from them, and
 * so are the checks of options and errors in both APIs.
 */
import type { Keys, KnownKeys } from "../OptionKeys.ts"
import type { CallOptions } from "./ApiKinds.ts"
import type { Failures } from "./NarrowErrors.ts"

/** The members of an argument that are option objects; data objects may have any keys. */
type OptionsIn<P> = 0 extends 1 & P
  ? never
  : P extends ReadonlyArray<unknown> | ((...args: never) => unknown)
    ? never
    : P extends object
      ? string extends keyof P
        ? never
        : [keyof P] extends [never]
          ? never
          : P
      : never

/** The keys of an argument, or of the items of a list; `null` for an argument that is not an options object. */
type ArgumentKeysOf<P> =
  P extends ReadonlyArray<infer Item>
    ? [OptionsIn<Item>] extends [never]
      ? null
      : readonly [Keys<OptionsIn<Item>>]
    : [OptionsIn<P>] extends [never]
      ? null
      : Keys<OptionsIn<P>>

type TakenBy<F> = F extends (...args: infer P) => unknown
  ? { readonly [I in keyof P]-?: ArgumentKeysOf<P[I]> | Check }
  : never

/** Checks an argument whose allowed keys depend on its content. */
export type Check = (argument: unknown, what: string) => void

/** The arguments of a method, and the tags of its own errors. */
type Method<Takes, Fails> =
  | readonly [takes: Takes, fails: Fails]
  // no own errors
  | (object extends Fails ? readonly [takes: Takes] : never)

/** All methods of an API. Options are those of the Promise kind, which include `signal`; errors are those of the Effect kind. */
export type Methods<Promised, Effects extends { readonly [M in keyof Promised]: unknown }> = {
  readonly [M in keyof Promised]-?: Method<TakenBy<Promised[M]>, Failures<Effects>[M]>
}

/** Methods that return a `Stream`; the Promise API wraps them differently. */
export type StreamMethods<Api> = Methods<Api, Api>

/** The same with unknown method names. */
export interface AnyMethods {
  readonly [method: string]: readonly [
    takes: ReadonlyArray<KnownKeys | readonly [KnownKeys] | Check | null>,
    fails?: { readonly [tag: string]: true }
  ]
}

/** The names of the methods. */
export const namesOf = <T extends object>(methods: T): ReadonlyArray<keyof T & string> =>
  // the table has only these members
  Object.keys(methods) as Array<keyof T & string>

/** The options of every call. */
export const callKeys = { signal: true } satisfies Keys<CallOptions>
/** Options of a call about one name or id. */
export const byId = [null, callKeys] as const
