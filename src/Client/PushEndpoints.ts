/** Push endpoints: handlers that a server calls for the turns of their functions. */
import * as Context from "effect/Context"
import type * as HKT from "effect/HKT"
import type { EndpointUnavailableError } from "../Errors.ts"
import type { CallArgs, ClientError, EffectKind, Kind, PromiseKind } from "./Client.ts"
import { byId, call, type Methods } from "./Methods.ts"
import type { PushEndpoint } from "../Protocol/Push.ts"

export type { PushEndpoint } from "../Protocol/Push.ts"

/** What a client does with push endpoints, in the reading `F`. */
export interface PushEndpointsApi<F extends HKT.TypeLambda> {
  /**
   * Has the server ask the handler at the URL for its functions, register them, and call it for their turns from then on.
   * Resolves to their ids. Fails with `ValidationError` when the URL or a function is not acceptable, with
   * `EndpointUnavailableError` when the handler does not answer as it should.
   */
  readonly register: (
    url: string,
    ...options: CallArgs<F>
  ) => Kind<F, ReadonlyArray<string>, EndpointUnavailableError | ClientError>
  /** All endpoints of the environment, and whether each answers. */
  readonly list: (...options: CallArgs<F>) => Kind<F, ReadonlyArray<PushEndpoint>, ClientError>
  /** Has the server call it no more: its functions stay, and their runs wait. Resolves to whether it was called. */
  readonly remove: (url: string, ...options: CallArgs<F>) => Kind<F, boolean, ClientError>
}

export const pushEndpointsMethods: Methods<PushEndpointsApi<PromiseKind>, PushEndpointsApi<EffectKind>> = {
  register: [byId, { EndpointUnavailableError: true }],
  list: [[call]],
  remove: [byId]
}

/** The endpoints as an Effect service. */
export class PushEndpoints extends Context.Service<PushEndpoints, PushEndpointsApi<EffectKind>>()(
  "@ironflow/node/PushEndpoints"
) {}
