/** The engine inside the process. */
export { Engine, layer, layerClient, layerClientIn, layerWorkerTransport } from "./Engine/Engine.ts"
export type { HttpServerOptions } from "./Engine/Http/Server.ts"
export { type SqliteOptions, layer as layerSqlite } from "./Engine/Store/Sqlite.ts"
export {
  type EngineSecrets,
  type IronflowEngine,
  type PushConfig,
  startEngine,
  type StartEngineOptions
} from "./Promise/Engine.ts"
