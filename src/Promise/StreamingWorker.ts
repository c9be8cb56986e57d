/** The streaming worker of the Promise API. */
import * as Effect from "effect/Effect"
import { ValidationError } from "../Errors.ts"
import { checkKeys } from "../OptionKeys.ts"
import { connectLoaded, packagesMissingError } from "../Worker/ConnectPackages.ts"
import { resolveWorkerOptions } from "../Worker/Options.ts"
import type { PollingOptions } from "../Worker/PollingOptions.ts"
import type { Streams } from "../Worker/StreamSession.ts"
import {
  makeServerSetup,
  PromiseWorker,
  serverWorkerKeys,
  type ServerWorkerConfig,
  type Worker
} from "./Worker.ts"

const caller = "createStreamingWorker()"

/**
 * Options of `createStreamingWorker`: those of `createWorker` for a remote server. This worker always
 * streams, whatever `transport` says.
 */
export type StreamingWorkerConfig = ServerWorkerConfig

/**
 * Creates a worker that keeps one stream to its server open: over ConnectRPC, on HTTP/2. When the server does not offer
 * such a stream, the worker polls, and logs one line about that.
 *
 * Throws `ValidationError` when the configuration is invalid. `start()` rejects with code `PACKAGES_MISSING`
 * when the packages of ConnectRPC are not installed. It also rejects in all cases in which `start()` of a worker
 * from `createWorker` rejects.
 */
export const createStreamingWorker = (config: StreamingWorkerConfig): Worker => {
  const given: unknown = config
  if (typeof given === "object" && given !== null && "engine" in given && given.engine !== undefined) {
    throw new ValidationError(
      "createStreamingWorker(): a worker for an engine in this process needs no stream; use createWorker()"
    )
  }
  checkKeys(config, serverWorkerKeys, "Worker", config?.logger)
  const setup = makeServerSetup(config ?? {}, caller, (options) =>
    Effect.map(load, (layer) => layer(options))
  )
  resolveWorkerOptions(setup.options)
  return new PromiseWorker(setup)
}

/** Loads the code for streams over ConnectRPC. Rejects when the packages of ConnectRPC are not installed. */
export const loadConnectStreams = async (): Promise<Streams> =>
  (await import("../Worker/ConnectStreams.ts")).connectStreams

// loaded before any request, since without the packages the worker cannot start
const load = Effect.flatMap(
  Effect.promise(() => import("../Worker/StreamTransport.ts")),
  ({ layer }) =>
    Effect.map(
      Effect.tryPromise({ try: loadConnectStreams, catch: packagesMissingError }),
      (streams) => (options: PollingOptions) => layer(options, [connectLoaded(streams)], caller)
    )
)
