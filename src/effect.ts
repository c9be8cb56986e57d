/**
 * The Effect API: one namespace a service. Failures are in the types, requirements are layers. Namespaces that Effect has as well
 * (`Config`, `Function`, `Logger`) have our name in front, so that programs can import both.
 *
 * ```ts
 * const Main = Worker.layer({ functions: [processOrder] }).pipe(
 *   Layer.provide(WorkerTransport.layerMemory),
 *   Layer.provide(Engine.layer.pipe(Layer.provide(Store.layerSqlite({ filename: "orders.db" }))))
 * )
 * ```
 */
export * as ApiKeys from "./Client/ApiKeys.ts"
export * as Client from "./Client/Clients.ts"
export * as ConsumerGroups from "./Client/ConsumerGroups.ts"
export * as Engine from "./Engine/Engine.ts"
export * as Kv from "./Client/Kv.ts"
export * as Store from "./Engine/Stores.ts"
export * as WorkerTransport from "./Engine/WorkerTransport.ts"
export * as Entity from "./Entity.ts"
export * as Errors from "./Errors.ts"
export * as Event from "./Event.ts"
export * as IronflowConfig from "./Client/Config.ts"
export * as IronflowFunction from "./Function.ts"
export * as IronflowLogger from "./Logger.ts"
export * as Projection from "./Projection/Projection.ts"
export * as Projections from "./Client/Projections.ts"
export * as Serve from "./Serve/Serve.ts"
export * as Push from "./Engine/Push/Settings.ts"
export * as Orgs from "./Client/Orgs.ts"
export * as Policies from "./Client/Policies.ts"
export * as Roles from "./Client/Roles.ts"
export * as Secrets from "./Client/Secrets.ts"
export * as Server from "./Engine/Http/Server.ts"
export * as Step from "./Step.ts"
export * as Streams from "./Client/Streams.ts"
export * as Subscriptions from "./Client/Subscriptions.ts"
export * as Testing from "./Testing/Testing.ts"
export * as Upcaster from "./Upcaster.ts"
export * as Webhook from "./Webhook.ts"
export * as Worker from "./Worker/Worker.ts"
