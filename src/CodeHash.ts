/** Computes a hash that identifies the code of a function. */
import { createHash } from "node:crypto"
import * as Effect from "effect/Effect"
import { type AnyFunction, isEffectFunction } from "./Function.ts"

/**
 * The first 16 hex digits of the SHA-256 of the handler's source. It changes when the handler's own code
 * changes.
 */
export const functionCodeHash = (fn: AnyFunction): string =>
  createHash("sha256")
    .update(sourceOf(isEffectFunction(fn) ? fn.program : fn.handler))
    .digest("hex")
    .slice(0, 16)

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
  ])).has(sourceOf(isEffectFunction(fn) ? fn.program : fn.handler))

let wrapperSources: ReadonlySet<string> | undefined

const sourceOf = (code: Function): string => Function.prototype.toString.call(code)
