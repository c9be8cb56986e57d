/** Where an engine keeps everything: the service, and the layers that provide it. */
export { Store, type StoreService } from "./Store/Store.ts"
export { layer as layerSqlite, type SqliteOptions } from "./Store/Sqlite.ts"
