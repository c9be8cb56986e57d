/** Projections in the Promise API. */
import * as Effect from "effect/Effect"
import type { EffectKind, PromiseKind } from "../Client/Client.ts"
import {
  Projections,
  type ProjectionsApi,
  projectionsMethods,
  type ProjectionStateResult,
  type ProjectionSubscribeOptions
} from "../Client/Projections.ts"
import type { ClientServices } from "../Client/Services.ts"
import type { ValidationError } from "../Errors.ts"
import { namesOf } from "../Client/Methods.ts"
import { promisify, type RuntimeHandle } from "./Promisify.ts"
import { startWatch, type WatchCallbacks, type Watcher } from "./Watcher.ts"

/** The callbacks of a subscription to the states of a projection; `S` is the type of a state. */
// oxlint-disable-next-line typescript/no-explicit-any -- what the state is depends on the projection
export type ProjectionSubscriptionCallbacks<S = any> = WatchCallbacks<ProjectionStateResult<S>>
/** A subscription to the states of a projection. */
// oxlint-disable-next-line typescript/no-explicit-any -- as above
export type ProjectionSubscription<S = any> = Watcher<ProjectionStateResult<S>>

/** `client.projections`: reads projections, waits for them, subscribes to them and controls them. */
export interface ProjectionsClient extends ProjectionsApi<PromiseKind> {
  /**
   * Calls `onUpdate` with each changed state of a managed projection, in the form in which `get` returns states. A
   * slow subscriber receives the newest state of each partition, and misses the states in between. Over HTTP the
   * subscription continues after a lost connection, with the states that have changed meanwhile.
   *
   * ```ts
   * const subscription = client.projections.subscribe("order-totals", { onUpdate: ({ state }) => console.log(state) }, {})
   * await subscription.ready
   * ```
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  subscribe<S = any>(
    name: string,
    callbacks: ProjectionSubscriptionCallbacks<S>,
    options?: ProjectionSubscribeOptions
  ): ProjectionSubscription<S>
  /**
   * Returns the changed states as an async iterable. The subscription is active once `ready` has resolved.
   */
  // oxlint-disable-next-line typescript/no-explicit-any -- as above
  subscribe<S = any>(name: string, options?: ProjectionSubscribeOptions): ProjectionSubscription<S>
}

/** How many states are read ahead of the iteration. When more states change, only the newest state of a partition is kept. */
const MAX_READ_AHEAD = 1

export const promiseProjections = (
  handle: RuntimeHandle<ClientServices, ValidationError>
): ProjectionsClient => {
  const methods = promisify<
    ProjectionsApi<PromiseKind>,
    ProjectionsApi<EffectKind>,
    ClientServices,
    ValidationError
  >(handle, Projections, namesOf(projectionsMethods))
  const subscribe = (
    name: string,
    second: ProjectionSubscriptionCallbacks | ProjectionSubscribeOptions = {},
    third: ProjectionSubscribeOptions = {}
  ): ProjectionSubscription => {
    const callbacks = "onUpdate" in second ? second : undefined
    const options = "onUpdate" in second ? third : second
    return startWatch<ProjectionStateResult, Error, ClientServices, ValidationError>(
      handle,
      (onOpen) =>
        Effect.map(Projections, (projections) =>
          projections.subscribe(name, {
            ...options,
            onOpen: () => {
              onOpen()
              options.onOpen?.()
            }
          })
        ),
      callbacks,
      MAX_READ_AHEAD
    )
  }
  return Object.assign(methods, { subscribe })
}
