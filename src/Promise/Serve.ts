/** Push mode in the Promise API: one handler for every framework. */
import * as Effect from "effect/Effect"
import { resolveServeOptions, type ServeHandler, type ServeOptions } from "../Serve/Options.ts"
import type { RunnableFunction } from "./Worker.ts"

export type { HandlerContext, HandlerOptions, ServeHandler } from "../Serve/Options.ts"

/** Options of `serve()`. Effect functions that require services need `Serve.make` of `@ironflow/node/effect`. */
export interface ServeConfig extends ServeOptions<ReadonlyArray<RunnableFunction>> {}

/**
 * Makes an HTTP handler that runs functions in push mode and receives webhooks. Mount it with `POST`. A handler with
 * webhooks must also be mounted for all paths below its own path.
 *
 * Throws `ValidationError` when the configuration is invalid.
 */
export const serve = (config: ServeConfig): ServeHandler => {
  const options = resolveServeOptions(config ?? {})
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
