/** Push mode of the Promise face: one handler for every framework. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { exchangeOf } from "../Serve/Edges.ts"
import { type HandlerContext, resolveServeOptions, type ServeOptions } from "../Serve/Options.ts"
import type { ServeService } from "../Serve/Serve.ts"
import { errorOf } from "./Promisify.ts"
import type { RunnableFunction } from "./Worker.ts"

export type { HandlerContext, HandlerOptions } from "../Serve/Options.ts"

/** What `serve()` takes. */
export interface ServeConfig extends ServeOptions<ReadonlyArray<RunnableFunction>> {}

/**
 * Answers a request of any framework: writes to the response where there is one, else resolves to a `Response`.
 */
export type ServeHandler = (
  // oxlint-disable-next-line typescript/no-explicit-any -- a Request, an IncomingMessage, or the context of a framework
  request: any,
  responseOrContext?: HandlerContext
  // oxlint-disable-next-line typescript/no-explicit-any -- a `Response`, or what the framework wants back
) => Promise<any>

/**
 * An HTTP handler that runs functions in push mode, and receives webhooks. Mount it with `POST`, where webhooks are among
 * its configuration for all paths below.
 *
 * Throws `ValidationError` when the configuration is not acceptable.
 */
export const serve = (config: ServeConfig): ServeHandler => {
  const options = resolveServeOptions(config ?? {})
  let service: Promise<Loaded> | undefined
  return async (request, responseOrContext) => {
    const { exchangeOf, handle } = await (service ??= load(options))
    const { request: asked, respond, signal } = exchangeOf(request, responseOrContext)
    const exit = await Effect.runPromiseExit(handle(asked), signal === undefined ? {} : { signal })
    if (Exit.isSuccess(exit)) return respond(exit.value)
    // nobody is there any more to read a response
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

/** Loaded with the first request: whoever imports the main entry for something else need not pay for it. */
const load = async (options: ReturnType<typeof resolveServeOptions>): Promise<Loaded> => {
  const [{ exchangeOf }, { makeResolved }] = await Promise.all([
    import("../Serve/Edges.ts"),
    import("../Serve/Serve.ts")
  ])
  // functions of this face need nothing
  const { handle } = await Effect.runPromise(makeResolved<never>(options))
  return { exchangeOf, handle }
}

const goneResponse = { status: 499, headers: {}, body: "" }
