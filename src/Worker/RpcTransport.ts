/**
 * Connects a worker to an engine of this package by effect/rpc over a WebSocket, the transport with the lowest
 * latency.
 *
 * The worker polls a server without it.
 */
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type * as Layer from "effect/Layer"
import type { ValidationError } from "../Errors.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"
import type { PollingOptions } from "./PollingOptions.ts"
import * as StreamTransport from "./StreamTransport.ts"

/** Streams over effect/rpc. Loaded only when a server has them: a polling worker does not use WebSockets. */
export const rpc: StreamTransport.StreamsOption = {
  transport: "rpc",
  load: () =>
    Effect.map(
      Effect.promise(() => import("./RpcStreams.ts")),
      ({ rpcStreams }) => rpcStreams
    )
}

/** Connects workers to the configured server. Fails with `ValidationError` when the options are invalid. */
export const layer = (
  options: PollingOptions = {}
): Layer.Layer<WorkerTransport, ValidationError, HttpClient.HttpClient> =>
  StreamTransport.layer(options, [rpc], "WorkerTransport.layerRpc")
