/** Push mode in the Promise API: one handler for every framework. */
import * as Effect from "effect/Effect"
import { resolveServeOptions, type ServeHandler, type ServeOptions } from "../Serve/Options.ts"
import type { AnyFunction, FunctionRequirements } from "../Function.ts"
import type { RunnableFunction } from "./Worker.ts"

export type { HandlerContext, HandlerOptions, ServeHandler } from "../Serve/Options.ts"

/** Options of `serve()`. */
export interface ServeConfig extends ServeOptions<ReadonlyArray<RunnableFunction>> {}

/** The options of `serve()` for these functions. If one requires services, the type of `functions` is a message. */
type ServeConfigOf<Functions extends ReadonlyArray<AnyFunction>> =
  RequiresNothing<FunctionRequirements<Functions[number]>> extends true
    ? ServeOptions<Functions>
    : {
        readonly functions: "One of these functions requires services: use Serve.make of @ironflow/node/effect"
      }

/** Whether these requirements are none, or unknown. */
type RequiresNothing<R> = [R] extends [never] ? true : 0 extends 1 & R ? true : false

/**
 * Makes an HTTP handler that runs functions in push mode and receives webhooks. Mount it with `POST`. A handler with
 * webhooks must also be mounted for all paths below its own path. Effect functions that require services need
 * `Serve.make` of `@ironflow/node/effect`.
 *
 * Throws `ValidationError` when the configuration is invalid.
 */
export const serve: {
  (config: ServeConfig): ServeHandler
  // for functions that the first form refuses: the type of this form names the reason
  <const Functions extends ReadonlyArray<AnyFunction>>(config: ServeConfigOf<Functions>): ServeHandler
} = (config: ServeConfig | { readonly functions: string }): ServeHandler => {
  // the types refuse a string for `functions`, and so does the check of the options
  const options = resolveServeOptions((config ?? {}) as ServeConfig)
  let handler: Promise<ServeHandler> | undefined
  return async (request, responseOrContext) => (await (handler ??= load(options)))(request, responseOrContext)
}

/** The same as {@link serve}. */
export const createHandler = serve

/**
 * Loads the push handler with the first request, so that programs which use other parts of the main entry do
 * not load it.
 */
const load = async (options: ReturnType<typeof resolveServeOptions>): Promise<ServeHandler> => {
  const { makeResolved } = await import("../Serve/Serve.ts")
  // the type of `functions` only allows functions that require no services
  const { handler } = await Effect.runPromise(makeResolved<never>(options))
  return handler
}
