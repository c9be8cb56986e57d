/** The store on SQLite, with everything that the engine stores. */
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../Errors.ts"
import * as Sqlite from "./Store/Sqlite.ts"
import type { SqliteOptions } from "./Store/SqliteFile.ts"
import type { Store, StoreService } from "./Store/Store.ts"
import { engineStoreCallbacks } from "./EngineStoreCallbacks.ts"

/**
 * Opens a database. Fails with `StoreError`: `STORE_LOCKED` when another engine has the file open, `STORE_CORRUPT` when the file is
 * damaged or not an Ironflow database, `STORE_UNAVAILABLE` when it was written by a newer version, or cannot be opened or written.
 */
export const make = (options: SqliteOptions): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  Sqlite.make(options, engineStoreCallbacks)

/** The store on SQLite, as a layer: see {@link make}. */
export const layer = (options: SqliteOptions): Layer.Layer<Store, StoreError> =>
  Sqlite.layer(options, engineStoreCallbacks)
