/**
 * `SqliteFile.ts` with the shortcut of `NewTables.ts`, for a thread that the mocks of `freshWorker.ts` do not reach.
 */
import { migrate as migrateAll } from "../../../../src/Engine/Store/SqliteFile.ts"
import { soonerThan } from "../../../NewTables.ts"

export * from "../../../../src/Engine/Store/SqliteFile.ts"
export const migrate = soonerThan(migrateAll)
