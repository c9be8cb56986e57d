/** The source text of a handler: the closest that there is to its code. */
import * as Effect from "effect/Effect"
import { type AnyFunction, isEffectFunction } from "./Function.ts"

export const handlerSource = (fn: AnyFunction): string =>
  sourceOf(isEffectFunction(fn) ? fn.program : fn.handler)

/**
 * Whether the source of the handler does not show its code: `Effect.fn`, `Effect.fnUntraced` and `bind` return functions whose
 * source is the same for all handlers.
 */
export const hidesCode = (fn: AnyFunction): boolean =>
  (wrapperSources ??= new Set([
    sourceOf(Effect.fnUntraced(function* () {})),
    sourceOf(Effect.fn(function* () {})),
    sourceOf(Effect.fn("handler")(function* () {})),
    sourceOf((() => undefined).bind(undefined))
  ])).has(handlerSource(fn))

let wrapperSources: ReadonlySet<string> | undefined

const sourceOf = (code: Function): string => Function.prototype.toString.call(code)
