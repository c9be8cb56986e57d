/**
 * Connects a worker to an engine of this package over ConnectRPC. When the server does not support ConnectRPC, the
 * worker polls.
 */
import type * as HttpClient from "effect/http/HttpClient"
import type * as Layer from "effect/Layer"
import type { ValidationError } from "../Errors.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"
import { connectRequired } from "./ConnectPackages.ts"
import type { PollingOptions } from "./PollingOptions.ts"
import * as StreamTransport from "./StreamTransport.ts"

/**
 * Connects workers to the configured server. Fails with `ValidationError` when the options are invalid. Opening a
 * session fails with code `PACKAGES_MISSING` when the packages of ConnectRPC are not installed.
 */
export const layer = (
  options: PollingOptions = {}
): Layer.Layer<WorkerTransport, ValidationError, HttpClient.HttpClient> =>
  StreamTransport.layer(options, [connectRequired], "WorkerTransport.layerConnect")
