/** The streaming worker of the Promise face. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import { checkKeys } from "../OptionKeys.ts"
import { connectLoaded, packagesMissing } from "../Worker/ConnectOption.ts"
import { resolveWorkerOptions } from "../Worker/Options.ts"
import type { PollingOptions } from "../Worker/ServerLink.ts"
import type { Streams } from "../Worker/StreamSession.ts"
import { connectBy, PromiseWorker, serverWorkerKeys, type ServerWorkerConfig, type Worker } from "./Worker.ts"

const caller = "createStreamingWorker()"

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
  checkKeys(config, serverWorkerKeys, "Worker", config?.logger)
  const connected = connectBy(config ?? {}, caller, (options) => Effect.map(load, (layer) => layer(options)))
  resolveWorkerOptions(connected.options)
  return new PromiseWorker(connected)
}

/** What a streaming worker is made of. Rejects when its packages are not installed. */
export const loadConnectStreams = async (): Promise<Streams> =>
  (await import("../Worker/ConnectStreams.ts")).connectStreams

// before anybody is asked for anything: without the packages nothing will come of it
const load = Effect.flatMap(
  Effect.promise(() => import("../Worker/StreamTransport.ts")),
  ({ layer }) =>
    Effect.map(
      Effect.tryPromise({ try: loadConnectStreams, catch: packagesMissing }),
      (streams) => (options: PollingOptions) => layer(options, [connectLoaded(streams)], caller)
    )
)
