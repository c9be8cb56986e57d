/**
 * The engine with its HTTP server, on the database file `FILENAME`, or on the Postgres at `DATABASE_URL`. Prints the URL of the
 * HTTP server. SIGTERM ends the process.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { layer as layerEngine } from "../../src/Engine/Engine.ts"
import * as PostgresStore from "../../src/Engine/PostgresStore.ts"
import * as Server from "../../src/Server/Server.ts"
import * as SqliteStore from "../../src/Engine/SqliteStore.ts"
import { createNoopLogger } from "../../src/Logger.ts"
import { layerLogger } from "../../src/Promise/EngineLogs.ts"

const { DATABASE_URL: databaseUrl, FILENAME: filename } = process.env
if (filename === undefined) throw new Error("FILENAME must name the database file")

const runtime = ManagedRuntime.make(
  Server.layer({ port: 0 }).pipe(
    Layer.provide(layerEngine),
    Layer.provide(
      databaseUrl === undefined ? SqliteStore.layer({ filename }) : PostgresStore.layer({ url: databaseUrl })
    ),
    Layer.provide(layerLogger(createNoopLogger()))
  )
)
process.once("SIGTERM", () => void runtime.dispose().then(() => process.exit(0)))

const { url } = await runtime.runPromise(Effect.service(Server.HttpServerEngine))
console.log(url)
