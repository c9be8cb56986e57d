/**
 * A worker's connection to an engine of this package by effect/rpc over a WebSocket: the one with the lowest latency.
 *
 * A server without it is worked for by polling.
 */
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import type * as Layer from "effect/Layer"
import type { ValidationError } from "../Errors.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"
import type { PollingOptions } from "./ServerLink.ts"
import * as StreamTransport from "./StreamTransport.ts"

/** Streams over effect/rpc, where a server has them. Loaded then: a worker that polls has no use for a WebSocket. */
export const rpc: StreamTransport.StreamsOption = {
  transport: "rpc",
  load: () =>
    Effect.map(
      Effect.promise(() => import("./RpcStreams.ts")),
      ({ rpcStreams }) => rpcStreams
    )
}

/** Connects workers to the server that the options name. Fails with `ValidationError` when they are not acceptable. */
export const layer = (
  options: PollingOptions = {}
): Layer.Layer<WorkerTransport, ValidationError, HttpClient.HttpClient> =>
  StreamTransport.layer(options, [rpc], "WorkerTransport.layerRpc")
