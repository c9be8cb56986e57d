/** Push endpoints: HTTP handlers that an engine calls to run the handlers' functions. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { EndpointUnavailableError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { idArguments, callKeys, type Methods } from "./Methods.ts"
import type { PushEndpoint } from "../Protocol/Push.ts"

export type { PushEndpoint } from "../Protocol/Push.ts"

/** The methods of push endpoints, for the API kind `F`. */
export interface PushEndpointsApi<F extends HKT.TypeLambda> {
  /**
   * Registers a push endpoint. The engine asks the handler at the URL which functions it has, registers these, and
   * from then on calls the handler to run them. Returns the ids of the functions. Fails with `ValidationError`
   * when the URL or a function is invalid, and with `EndpointUnavailableError` when the handler does not
   * answer as a push handler does.
   */
  readonly register: (
    url: string,
    ...options: CallArgs<F>
  ) => Kind<F, ReadonlyArray<string>, EndpointUnavailableError | ClientError>
  /** Lists all endpoints of the environment, and whether each of them responds. */
  readonly list: (...options: CallArgs<F>) => Kind<F, ReadonlyArray<PushEndpoint>, ClientError>
  /**
   * Removes an endpoint: the engine no longer calls it. The functions stay registered, and their runs wait until a worker or
   * another endpoint has the functions. Returns whether the endpoint was registered.
   */
  readonly remove: (url: string, ...options: CallArgs<F>) => Kind<F, boolean, ClientError>
}

export const pushEndpointsMethods: Methods<PushEndpointsApi<PromiseKind>, PushEndpointsApi<EffectKind>> = {
  register: [idArguments, { EndpointUnavailableError: true }],
  list: [[callKeys]],
  remove: [idArguments]
}

/** Push endpoints as an Effect service. */
export class PushEndpoints extends Context.Service<PushEndpoints, PushEndpointsApi<EffectKind>>()(
  "@ironflow/node/PushEndpoints"
) {}
