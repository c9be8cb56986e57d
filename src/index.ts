/**
 * Durable functions with async handlers: define functions, run workers, call an engine.
 *
 * The engine itself is in `@ironflow/node/engine`; the Effect API is in `@ironflow/node/effect`.
 */
import { ironflow } from "./Function.ts"

export * from "./core.ts"
export type { PushEndpoint, PushEndpointsApi } from "./Client/PushEndpoints.ts"
export type { ClientApi, PromiseKind, WaitForRunOptions } from "./Client/Client.ts"
export {
  createSubscriptionClient,
  type StreamedEvent,
  SubscriptionClient,
  type SubscriptionClientConfig
} from "./Promise/Subscriptions.ts"
export type { AsyncIterableKind, StreamsApi } from "./Client/Streams.ts"
export type { ConsumerGroupsApi } from "./Client/ConsumerGroups.ts"
export type { ProjectionsApi } from "./Client/Projections.ts"
export type { ProjectionsClient } from "./Promise/Projections.ts"
export { createWebhook } from "./Webhook.ts"
export { type HookRequest, verifyHook, type VerifyHookOptions } from "./Serve/HookSignature.ts"
export { createFunction, ironflow } from "./Function.ts"
export { createProjection } from "./Projection/Projection.ts"
export { createClient, IronflowClient, type IronflowClientConfig } from "./Promise/Client.ts"
export {
  type EventContext,
  type EventStepClient,
  type NamedEvents,
  withEvents,
  type WithEvents
} from "./Promise/WithEvents.ts"
export {
  ConfigClient,
  type ConfigClientConfig,
  type ConfigWatchCallbacks,
  type ConfigWatcher
} from "./Promise/Config.ts"
export { KVBucketHandle, KVClient, type KVClientConfig } from "./Promise/Kv.ts"
export type { EngineHandle } from "./Promise/EngineConnection.ts"
export {
  createWorker,
  type RunnableFunction,
  type RunnableProjection,
  type Worker,
  type WorkerConfig,
  type WorkerConnection
} from "./Promise/Worker.ts"
export { createHandler, serve, type ServeConfig, type ServeHandler } from "./Promise/Serve.ts"

export default { ironflow }
