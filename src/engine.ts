/** The engine, which runs in the process of the program that starts it. */
export { Engine, layer, layerClient, layerClientIn, layerWorkerTransport } from "./Engine/Engine.ts"
export type { HttpServerOptions } from "./Server/Server.ts"
export { layer as layerSqlite } from "./Engine/SqliteStore.ts"
export type { BackupInfo } from "./Engine/Store/Backup.ts"
export type { RestoreOptions } from "./Engine/Store/Restore.ts"
export type { DoctorCheck } from "./Protocol/Server.ts"
export type { SqliteOptions } from "./Engine/Store/SqliteFile.ts"
export { layerPostgres } from "./Engine/DatabaseUrl.ts"
export type { PostgresOptions } from "./Engine/Store/Postgres/Options.ts"
export {
  type EngineSecrets,
  type IronflowEngine,
  type PushConfig,
  restoreBackup,
  startEngine,
  type StartEngineOptions
} from "./Promise/Engine.ts"
