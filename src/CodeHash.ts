/** Computes a hash that identifies the code of a function. */
import { createHash } from "node:crypto"
import type { AnyFunction } from "./Function.ts"
import { handlerSource } from "./HandlerSource.ts"

/**
 * The first 16 hex digits of the SHA-256 of the handler's source. It changes when the handler's own code
 * changes, unless the source does not show the code: see `hidesCode` in `HandlerSource.ts`.
 */
export const functionCodeHash = (fn: AnyFunction): string =>
  createHash("sha256").update(handlerSource(fn)).digest("hex").slice(0, 16)
