/** The streaming worker of the Promise face. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import { resolveWorkerOptions } from "../Worker/Options.ts"
import { connectBy, PromiseWorker, type ServerWorkerConfig, type Worker } from "./Worker.ts"

/** As `createWorker` takes it for a server elsewhere. `transport` may be left out: this worker streams. */
export type StreamingWorkerConfig = ServerWorkerConfig

/**
 * A worker that keeps one stream to its server open, over ConnectRPC on HTTP/2. A server that does not exchange turns over
 * it is worked for by polling, and one line in the log says so.
 *
 * Throws `ValidationError` when the configuration is not acceptable. `start()` rejects with code `PACKAGES_MISSING` when the
 * packages of ConnectRPC are not installed, and otherwise as that of `createWorker` does.
 */
export const createStreamingWorker = (config: StreamingWorkerConfig): Worker => {
  const given: unknown = config
  if (typeof given === "object" && given !== null && "engine" in given && given.engine !== undefined) {
    throw new ValidationError(
      "createStreamingWorker(): a worker for an engine in this process needs no stream; use createWorker()"
    )
  }
  const connected = connectBy(config ?? {}, "createStreamingWorker()", (options) =>
    Effect.map(load, (layer) => layer(options))
  )
  resolveWorkerOptions(connected.options)
  return new PromiseWorker(connected)
}

const load = Effect.map(
  Effect.promise(() => import("../Worker/ConnectTransport.ts")),
  ({ layer }) => layer
)
