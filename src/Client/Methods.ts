/**
 * What is known at run time of the methods of a client's service, beside the interface that says the rest: which options they take, and
 * what they fail with. The Promise face has a method for each, and the check of options and errors is made of it, for both faces.
 */
import type { Keys, Known } from "../OptionKeys.ts"
import type { CallOptions } from "./Kinds.ts"
import type { Failures } from "./Named.ts"

/** The members of an argument that are objects of options: data may have any keys. */
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

/** The keys of an argument, or of the items of a list; `null` for one that is no options. */
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

/** Looks at an argument whose keys depend on what is in it. */
export type Check = (argument: unknown, what: string) => void

/** The arguments, and the tags of what it fails with besides what any call may fail with. */
type Method<Takes, Fails> =
  | readonly [takes: Takes, fails: Fails]
  // where it may fail with nothing else
  | (object extends Fails ? readonly [takes: Takes] : never)

/**
 * All methods of an API. Their options are those of the Promise reading, whose signals come along; their failures are those of the
 * Effect reading.
 */
export type Methods<Promised, Effects extends { readonly [M in keyof Promised]: unknown }> = {
  readonly [M in keyof Promised]-?: Method<TakenBy<Promised[M]>, Failures<Effects>[M]>
}

/** Methods with a `Stream`, which the Promise face has in a way of its own. */
export type StreamMethods<Api> = Methods<Api, Api>

/** The same where the names are not known. */
export interface AnyMethods {
  readonly [method: string]: readonly [
    takes: ReadonlyArray<Known | readonly [Known] | Check | null>,
    fails?: { readonly [tag: string]: true }
  ]
}

/** The names of the methods. */
export const namesOf = <T extends object>(methods: T): ReadonlyArray<keyof T & string> =>
  // a table has no other members
  Object.keys(methods) as Array<keyof T & string>

/** The options of every call. */
export const call = { signal: true } satisfies Keys<CallOptions>
/** Of a call that is about a name or an id. */
export const byId = [null, call] as const
