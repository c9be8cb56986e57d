import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Sqlite from "../../../src/Engine/Store/Sqlite.ts"
import { storeSuite } from "./suite.ts"

/** A file of its own for every store. */
const layerFile = Layer.unwrap(
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "ironflow-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
    ),
    (folder) => Sqlite.layer({ filename: join(folder, "orders.db") })
  )
)

storeSuite("SQLite in memory", Sqlite.layer({ filename: ":memory:" }))
storeSuite("a SQLite file", layerFile)
