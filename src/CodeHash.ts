/** A function's code, told apart by a hash. */
import { createHash } from "node:crypto"
import { type AnyFunction, isEffectFunction } from "./Function.ts"

/** First 16 hex digits of the SHA-256 of the handler's source text: it changes when the handler's own code does. */
export const functionCodeHash = (fn: AnyFunction): string =>
  createHash("sha256")
    .update(Function.prototype.toString.call(isEffectFunction(fn) ? fn.program : fn.handler))
    .digest("hex")
    .slice(0, 16)
