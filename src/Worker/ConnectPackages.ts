/** Streams over ConnectRPC, when the packages for it are installed. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import type { StreamsOption } from "./StreamTransport.ts"
import type { Streams } from "./StreamSession.ts"

/** The packages for ConnectRPC: optional peers of this package. */
const packages = ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-node"]

/** The name of this transport in the capabilities of an engine. */
const transport = "connect"

/**
 * The entry point that needs those packages. It is a variable so that bundlers do not follow it: they would report
 * the packages as missing.
 */
const entry: string = "@ironflow/node/worker-streaming"

const load: Effect.Effect<Streams, ValidationError> = Effect.flatMap(
  Effect.tryPromise({
    try: () => import(/* webpackIgnore: true */ /* turbopackIgnore: true */ /* @vite-ignore */ entry),
    catch: packagesMissing
  }),
  ({ loadConnectStreams }) =>
    // an entry of this package, of the same version
    Effect.tryPromise({ try: loadConnectStreams as () => Promise<Streams>, catch: packagesMissing })
)

/** Fails with a `ValidationError` that says what to install when a package is missing. */
export const connectRequired: StreamsOption = { transport, load: () => load }

/** Skips this transport, with a log line, when a package is missing. */
export const connectOptional: StreamsOption = {
  transport,
  load: (link) =>
    Effect.catch(load, (error) =>
      Effect.sync(() => {
        link.options.logger.info(error.message)
        return undefined
      })
    )
}

/** For streams whose code is loaded already. */
export const connectLoaded = (streams: Streams): StreamsOption => ({
  transport,
  load: () => Effect.succeed(streams)
})

/** The error for packages that could not be loaded. */
export function packagesMissing(cause: unknown): ValidationError {
  const isMissing = cause instanceof Error && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND"
  const why = isMissing ? "are not installed" : `cannot be loaded (${String(cause)})`
  return new ValidationError(
    `Streaming over ConnectRPC needs packages that ${why}: npm install ${packages.join(" ")}`,
    { code: "PACKAGES_MISSING", cause }
  )
}
