/** `--database-url` and `ironflow migrate`: for a database on Postgres in place of a file. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { databaseUrlOf } from "../Engine/DatabaseUrl.ts"
import type { PostgresOptions } from "../Engine/Store/Postgres/Options.ts"
import { toError, ValidationError } from "../Errors.ts"
import { print } from "./Output.ts"
import { textFlag } from "./TextFlag.ts"

export const databaseFlags = {
  databaseUrl: textFlag("database-url").pipe(
    Flag.withMetavar("URL"),
    Flag.withDescription(
      "A database on Postgres instead of a file: postgres://user:password@host:5432/database; or set IRONFLOW_DATABASE_URL, which keeps the password out of lists of processes"
    ),
    Flag.optional
  ),
  databaseSchema: textFlag("database-schema").pipe(
    Flag.withMetavar("NAME"),
    Flag.withDescription("The schema of the tables on Postgres; ironflow by default"),
    Flag.optional
  )
}

interface DatabaseFlagValues {
  readonly data?: Option.Option<string>
  readonly databaseUrl: Option.Option<string>
  readonly databaseSchema: Option.Option<string>
}

/**
 * The Postgres database that `--database-url` or, without `--data`, IRONFLOW_DATABASE_URL names. `undefined` when
 * the database is a file.
 */
export const databaseOf = ({
  data = Option.none(),
  databaseSchema,
  databaseUrl
}: DatabaseFlagValues): Effect.Effect<PostgresOptions | undefined, ValidationError> =>
  Effect.try({
    try: () => {
      const url = databaseUrlOf(Option.getOrUndefined(databaseUrl), Option.getOrUndefined(data), {
        url: "--database-url",
        file: "--data"
      })
      if (url === undefined) return undefined
      return Option.isNone(databaseSchema) ? { url } : { url, schema: databaseSchema.value }
    },
    // `databaseUrlOf` throws only `ValidationError`
    catch: (error) => toError(error) as ValidationError
  })

export const migrate = Command.make(
  "migrate",
  databaseFlags,
  Effect.fnUntraced(function* (given) {
    const database = yield* databaseOf(given)
    if (database === undefined) {
      return yield* Effect.fail(
        new ValidationError(
          "Name the database: give --database-url or set IRONFLOW_DATABASE_URL. A database file is brought up to date by the engine that opens it"
        )
      )
    }
    const { versionBefore, shown, version } = yield* Effect.tryPromise({
      try: async () => {
        const { migrateDatabase } = await import("../Engine/Store/Postgres/Migrate.ts")
        return migrateDatabase(database)
      },
      catch: toError
    })
    yield* print({ database: shown, from: versionBefore, to: version }, () =>
      versionBefore === version
        ? `The tables at ${shown} are up to date (version ${version}).`
        : `The tables at ${shown} were migrated from version ${versionBefore} to version ${version}.`
    )
  })
).pipe(
  Command.withDescription(
    "Bring the tables on Postgres up to date for this version of Ironflow. An engine does the same when it starts: this command is for engines whose database user may not change tables."
  ),
  Command.withShortDescription("Bring tables on Postgres up to date"),
  Command.withExamples([
    { command: "ironflow migrate --database-url postgres://owner@db.internal:5432/ironflow" }
  ])
)
