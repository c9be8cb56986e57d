/** Push mode in the Promise API: one handler for every framework. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { exchangeOf } from "../Serve/FrameworkAdapters.ts"
import { type HandlerContext, resolveServeOptions, type ServeOptions } from "../Serve/Options.ts"
import type { ServeService } from "../Serve/Serve.ts"
import { errorOf } from "./Promisify.ts"
import type { RunnableFunction } from "./Worker.ts"

export type { HandlerContext, HandlerOptions } from "../Serve/Options.ts"

/** Options of `serve()`. */
export interface ServeConfig extends ServeOptions<ReadonlyArray<RunnableFunction>> {}

/**
 * Answers a request of any framework. If the framework has a response object, the answer is written to this
 * object; if not, the handler resolves to a `Response`.
 */
export type ServeHandler = (
  // oxlint-disable-next-line typescript/no-explicit-any -- a Request, an IncomingMessage, or the context of a framework
  request: any,
  responseOrContext?: HandlerContext
  // oxlint-disable-next-line typescript/no-explicit-any -- a `Response`, or what the framework expects
) => Promise<any>

/**
 * Makes an HTTP handler that runs functions in push mode and receives webhooks. Mount it with `POST`. A handler with
 * webhooks must also be mounted for all paths below its own path.
 *
 * Throws `ValidationError` when the configuration is invalid.
 */
export const serve = (config: ServeConfig): ServeHandler => {
  const options = resolveServeOptions(config ?? {})
  let service: Promise<Loaded> | undefined
  return async (request, responseOrContext) => {
    const { exchangeOf, handle } = await (service ??= load(options))
    const { request: plainRequest, respond, signal } = exchangeOf(request, responseOrContext)
    const exit = await Effect.runPromiseExit(handle(plainRequest), signal === undefined ? {} : { signal })
    if (Exit.isSuccess(exit)) return respond(exit.value)
    // the client is gone, and reads no response
    if (Cause.hasInterruptsOnly(exit.cause)) return respond(goneResponse)
    throw errorOf(exit.cause)
  }
}

/** The same as {@link serve}. */
export const createHandler = serve

interface Loaded {
  readonly exchangeOf: typeof exchangeOf
  readonly handle: ServeService["handle"]
}

/**
 * Loads the push handler with the first request, so that programs which use other parts of the main entry do
 * not load it.
 */
const load = async (options: ReturnType<typeof resolveServeOptions>): Promise<Loaded> => {
  const [{ exchangeOf }, { makeResolved }] = await Promise.all([
    import("../Serve/FrameworkAdapters.ts"),
    import("../Serve/Serve.ts")
  ])
  // the type of `functions` only allows functions that require no services
  const { handle } = await Effect.runPromise(makeResolved<never>(options))
  return { exchangeOf, handle }
}

const goneResponse = { status: 499, headers: {}, body: "" }
