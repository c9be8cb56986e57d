/**
 * Beside its interface, each service has a table that exists at run time: the options and the errors of its
 * methods. The Promise API is built from these tables, and so are the checks of options and errors in both APIs.
 */
import type { Keys, KnownKeys } from "../OptionKeys.ts"
import type { CallOptions } from "./ApiKinds.ts"
import type { Failures } from "./NarrowErrors.ts"

/** The types in `P` that are objects of options. An object with arbitrary keys is data, and no object of options. */
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

/**
 * The keys of an argument that is an object of options, or a list of such objects. `null` for any other argument.
 */
type ArgumentKeysOf<P> =
  P extends ReadonlyArray<infer Item>
    ? [OptionsIn<Item>] extends [never]
      ? null
      : readonly [Keys<OptionsIn<Item>>]
    : [OptionsIn<P>] extends [never]
      ? null
      : Keys<OptionsIn<P>>

type ArgumentsOf<F> = F extends (...args: infer P) => unknown
  ? { readonly [I in keyof P]-?: ArgumentKeysOf<P[I]> | Check }
  : never

/**
 * Checks the keys of an argument in its own way. `known` are the allowed keys, and `example` is an allowed argument,
 * for the message when the argument is `null`.
 */
export type Check = ((argument: unknown, what: string) => void) &
  ({ readonly known: KnownKeys } | { readonly example: string })

/** An entry of a table: the arguments of a method, and the tags of the method's own errors. */
type Method<ArgumentKeys, ErrorTags> =
  | readonly [argumentKeys: ArgumentKeys, errorTags: ErrorTags]
  // a method without errors of its own
  | (object extends ErrorTags ? readonly [argumentKeys: ArgumentKeys] : never)

/**
 * The table of all methods of an API. Options are those of the Promise kind, which include `signal`. Errors
 * are those of the Effect kind.
 */
export type Methods<Promised, Effects extends { readonly [M in keyof Promised]: unknown }> = {
  readonly [M in keyof Promised]-?: Method<ArgumentsOf<Promised[M]>, Failures<Effects>[M]>
}

/** The table of methods that return a `Stream`. The Promise API wraps such methods in another way. */
export type StreamMethods<Api> = Methods<Api, Api>

/** A table of methods whose names are not known. */
export interface AnyMethods {
  readonly [method: string]: readonly [
    argumentKeys: ReadonlyArray<KnownKeys | readonly [KnownKeys] | Check | null>,
    errorTags?: { readonly [tag: string]: true }
  ]
}

/** The names of the methods in a table. */
export const namesOf = <T extends object>(methods: T): ReadonlyArray<keyof T & string> =>
  // the table has no members but its methods
  Object.keys(methods) as Array<keyof T & string>

/** The options of every call. */
export const callKeys = { signal: true } satisfies Keys<CallOptions>
/** The arguments of a call that is given one name or id. */
export const idArguments = [null, callKeys] as const
