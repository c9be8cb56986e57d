/** A worker's connection to an engine of this package by ConnectRPC. A server without it is worked for by polling. */
import type * as HttpClient from "effect/http/HttpClient"
import type * as Layer from "effect/Layer"
import type { ValidationError } from "../Errors.ts"
import type { WorkerTransport } from "../Protocol/Worker.ts"
import { connectRequired } from "./ConnectOption.ts"
import type { PollingOptions } from "./ServerLink.ts"
import * as StreamTransport from "./StreamTransport.ts"

/**
 * Connects workers to the server that the options name. Fails with `ValidationError` when they are not acceptable, and,
 * with code `PACKAGES_MISSING`, when the packages of ConnectRPC are not installed.
 */
export const layer = (
  options: PollingOptions = {}
): Layer.Layer<WorkerTransport, ValidationError, HttpClient.HttpClient> =>
  StreamTransport.layer(options, [connectRequired], "WorkerTransport.layerConnect")
