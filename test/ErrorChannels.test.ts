import type * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Stream from "effect/Stream"
import type * as api from "../src/effect.ts"
import type { IronflowError } from "../src/Errors.ts"

type IsAny<T> = 0 extends 1 & T ? true : false
type IsUnnamed<E> = IsAny<E> extends true ? true : [IronflowError] extends [E] ? true : false
type Bad<E, Path> = IsUnnamed<E> extends true ? Path : never

type Problems<T, Path extends string, Depth extends ReadonlyArray<unknown>> = Depth["length"] extends 6
  ? never
  : [T] extends [never]
    ? never
    : IsAny<T> extends true
      ? never
      : [T] extends [Effect.Effect<infer A, infer E, infer _R>]
        ? Bad<E, Path> | Problems<A, `${Path}!`, [...Depth, 0]>
        : [T] extends [Stream.Stream<infer A, infer E, infer _R>]
          ? Bad<E, Path> | Problems<A, `${Path}!`, [...Depth, 0]>
          : [T] extends [Layer.Layer<infer _A, infer E, infer _R>]
            ? Bad<E, Path>
            : T extends Context.Key<infer _I, infer S>
              ? Problems<S, Path, [...Depth, 0]>
              : T extends (...args: never) => infer R
                ? Problems<R, `${Path}()`, [...Depth, 0]>
                : T extends
                      | string
                      | number
                      | boolean
                      | bigint
                      | symbol
                      | null
                      | undefined
                      | Error
                      | Date
                      | ReadonlyArray<unknown>
                      | Uint8Array
                  ? never
                  : T extends object
                    ? { [K in keyof T & string]: Problems<T[K], `${Path}.${K}`, [...Depth, 0]> }[keyof T &
                        string]
                    : never
type All = { [K in Exclude<keyof typeof api, "Errors">]: Problems<(typeof api)[K], K, []> }
declare const all: All[keyof All]
export const x: "nothing" = all
