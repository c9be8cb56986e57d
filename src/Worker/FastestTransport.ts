/** Connects a worker to a server over the fastest transport that both support. */
import type * as HttpClient from "effect/http/HttpClient"
import type * as Layer from "effect/Layer"
import type { ValidationError } from "../Errors.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"
import { connectOptional } from "./ConnectPackages.ts"
import { rpc } from "./RpcTransport.ts"
import type { PollingOptions } from "./PollingOptions.ts"
import * as StreamTransport from "./StreamTransport.ts"

/**
 * Connects workers over effect/rpc if the server supports it. Otherwise connects them over ConnectRPC, if the server
 * supports that and its packages are installed. Otherwise the workers poll. Fails with `ValidationError` when the
 * options are invalid.
 */
export const layer = (
  options: PollingOptions = {}
): Layer.Layer<WorkerTransport, ValidationError, HttpClient.HttpClient> =>
  StreamTransport.layer(options, [rpc, connectOptional], "WorkerTransport.layerStreaming")
