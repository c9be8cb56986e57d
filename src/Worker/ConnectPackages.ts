/** Makes streams over ConnectRPC available when the packages that they need are installed. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import type { StreamsOption } from "./StreamTransport.ts"
import type { Streams } from "./StreamSession.ts"

/** The packages for ConnectRPC: optional peers of this package. */
const packages = ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-node"]

/** The name of this transport in the capabilities of an engine. */
const transport = "connect"

/**
 * The entry point that needs those packages. It is a variable, so that bundlers do not follow the import: they would
 * report the packages as missing.
 */
const entry: string = "@ironflow/node/worker-streaming"

const load: Effect.Effect<Streams, ValidationError> = Effect.flatMap(
  Effect.tryPromise({
    try: () => import(/* webpackIgnore: true */ /* turbopackIgnore: true */ /* @vite-ignore */ entry),
    catch: packagesMissingError
  }),
  ({ loadConnectStreams }) =>
    // The entry point belongs to this package and has the same version, so its export has this type.
    Effect.tryPromise({ try: loadConnectStreams as () => Promise<Streams>, catch: packagesMissingError })
)

/**
 * Streams over ConnectRPC, for a worker that requires them. When a package is missing, loading fails with a
 * `ValidationError` that says what to install.
 */
export const connectRequired: StreamsOption = { transport, load: () => load }

/**
 * Streams over ConnectRPC, for a worker that uses them if it can. When a package is missing, a log line says so, and
 * the worker uses another transport.
 */
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

/** Streams over ConnectRPC whose code is loaded already. */
export const connectLoaded = (streams: Streams): StreamsOption => ({
  transport,
  load: () => Effect.succeed(streams)
})

/** The error when the packages cannot be loaded. It says what to install. */
export function packagesMissingError(cause: unknown): ValidationError {
  const isMissing = cause instanceof Error && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND"
  const why = isMissing ? "are not installed" : `cannot be loaded (${String(cause)})`
  return new ValidationError(
    `Streaming over ConnectRPC needs packages that ${why}: npm install ${packages.join(" ")}`,
    { code: "PACKAGES_MISSING", cause }
  )
}
