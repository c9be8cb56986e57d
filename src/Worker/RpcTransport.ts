/**
 * Connects a worker to an engine of this package by effect/rpc over a WebSocket. Of the transports over a
 * network, it has the lowest latency.
 *
 * When the server does not support effect/rpc, the worker polls.
 */
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type * as Layer from "effect/Layer"
import type { ValidationError } from "../Errors.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"
import type { PollingOptions } from "./PollingOptions.ts"
import * as StreamTransport from "./StreamTransport.ts"

/**
 * Streams over effect/rpc. Their code is only loaded when a server supports them, since a polling worker needs no
 * WebSockets.
 */
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
