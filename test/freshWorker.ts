/**
 * Test files run one after another in the same process, which has loaded Effect and the sources once. This restores for each
 * file what the first one found.
 */
import process from "node:process"
import { vi } from "vitest"
import type * as SqliteFile from "../src/Engine/Store/SqliteFile.ts"
import { soonerThan } from "./NewTables.ts"

vi.mock("../src/Engine/Store/SqliteFile.ts", async (original) => {
  const file = await original<typeof SqliteFile>()
  return { ...file, migrate: soonerThan(file.migrate) }
})

const KNOWN = Symbol.for("ironflow-test-environment")
const found = globalThis as { [KNOWN]?: NodeJS.ProcessEnv }

found[KNOWN] ??= { ...process.env }
vi.useRealTimers()
vi.restoreAllMocks()
vi.unstubAllGlobals()
vi.unstubAllEnvs()
for (const name of Object.keys(process.env)) if (!(name in found[KNOWN])) delete process.env[name]
Object.assign(process.env, found[KNOWN])
