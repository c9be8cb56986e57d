/** Streams over ConnectRPC, for whoever has the packages that they need. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import type { StreamsOption } from "./StreamTransport.ts"
import type { Streams } from "./StreamSession.ts"

/** What ConnectRPC needs: optional peers of this package. */
const packages = ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-node"]

/** As engines that have it name it. */
const transport = "connect"

/**
 * The entry point that needs those packages, as a name that no bundler follows: whoever bundles a worker without them
 * would be told that they are missing.
 */
const entry: string = "@ironflow/node/worker-streaming"

const load: Effect.Effect<Streams, ValidationError> = Effect.flatMap(
  Effect.tryPromise({
    try: () => import(/* webpackIgnore: true */ /* turbopackIgnore: true */ /* @vite-ignore */ entry),
    catch: packagesMissing
  }),
  ({ loadConnectStreams }) =>
    // it is an entry of this package, of the same version
    Effect.tryPromise({ try: loadConnectStreams as () => Promise<Streams>, catch: packagesMissing })
)

/** Fails with a `ValidationError` that says what to install when a package is missing. */
export const connectRequired: StreamsOption = { transport, load: () => load }

/** Left out, with a line in the log, when a package is missing. */
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

/** Streams that are loaded already. */
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
