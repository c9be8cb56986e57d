/** The engine's storage: the service, and the layers that provide it. */
export { Store, type StoreService } from "./Store/Store.ts"
export type { BackupInfo } from "./Store/Backup.ts"
export { restore, type RestoreOptions } from "./Store/Restore.ts"
export { layer as layerSqlite } from "./SqliteStore.ts"
export type { SqliteOptions } from "./Store/SqliteFile.ts"
export { layerPostgres } from "./DatabaseUrl.ts"
export type { PostgresOptions } from "./Store/Postgres/Options.ts"
