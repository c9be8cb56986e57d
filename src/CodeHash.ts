/** A hash that identifies a function's code. */
import { createHash } from "node:crypto"
import { type AnyFunction, isEffectFunction } from "./Function.ts"

/** First 16 hex digits of the SHA-256 of the handler's source: it changes when the handler's own code changes. */
export const functionCodeHash = (fn: AnyFunction): string =>
  createHash("sha256")
    .update(Function.prototype.toString.call(isEffectFunction(fn) ? fn.program : fn.handler))
    .digest("hex")
    .slice(0, 16)
