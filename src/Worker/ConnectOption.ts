/** Streams over ConnectRPC, for whoever has the packages that they need. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import type { StreamsOption } from "./StreamTransport.ts"

/** What ConnectRPC needs: optional peers of this package. */
export const connectPackages = ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-node"]

/** Fails with a `ValidationError` that says what to install when a package is missing. */
export const connectRequired: StreamsOption = {
  transport: "connect",
  load: () =>
    Effect.map(
      Effect.tryPromise({ try: () => import("./ConnectStreams.ts"), catch: missing }),
      ({ connectStreams }) => connectStreams
    )
}

/** Left out, with a line in the log, when a package is missing. */
export const connectOptional: StreamsOption = {
  transport: "connect",
  load: (link) =>
    Effect.catch(connectRequired.load(link), (error) =>
      Effect.sync(() => {
        link.options.logger.info(error.message)
        return undefined
      })
    )
}

const missing = (cause: unknown): ValidationError => {
  const isMissing = cause instanceof Error && "code" in cause && cause.code === "ERR_MODULE_NOT_FOUND"
  const why = isMissing ? "are not installed" : `cannot be loaded (${String(cause)})`
  return new ValidationError(
    `Streaming over ConnectRPC needs packages that ${why}: npm install ${connectPackages.join(" ")}`,
    { code: "PACKAGES_MISSING", cause }
  )
}
