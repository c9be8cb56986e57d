/** `SqliteFile.ts` with the shortcut of `NewTables.ts`, for a thread: what `freshWorker.ts` mocks is as it was there. */
import { migrate as migrateAll } from "../../../../src/Engine/Store/SqliteFile.ts"
import { soonerThan } from "../../../NewTables.ts"

export * from "../../../../src/Engine/Store/SqliteFile.ts"
export const migrate = soonerThan(migrateAll)
