/** The store on Postgres, with everything that the engine stores. */
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { StoreError } from "../Errors.ts"
import type { Migration } from "./Store/Postgres/Migrations.ts"
import type { PostgresOptions } from "./Store/Postgres/Options.ts"
import * as Postgres from "./Store/Postgres/Postgres.ts"
import type { Store, StoreService } from "./Store/Store.ts"
import { engineStoreCallbacks } from "./EngineStoreCallbacks.ts"

/**
 * Opens a store on Postgres. `sharing` says whether other engines may use the schema too; `known` are the migrations to apply, by
 * default all of this package. Fails with `StoreError`: `STORE_LOCKED` when another engine has exclusive use of the schema,
 * `STORE_CORRUPT` when the schema has tables of another program, `STORE_UNAVAILABLE` when Postgres cannot be reached or used, or
 * the package `pg` is missing.
 */
export const make = (
  options: PostgresOptions,
  sharing?: Postgres.Sharing,
  known?: ReadonlyArray<Migration>
): Effect.Effect<StoreService, StoreError, Scope.Scope> =>
  Postgres.make(options, engineStoreCallbacks, sharing, known)

/** The store on Postgres, as a layer: see {@link make}. */
export const layer = (options: PostgresOptions, sharing?: Postgres.Sharing): Layer.Layer<Store, StoreError> =>
  Postgres.layer(options, engineStoreCallbacks, sharing)
