/** `ironflow export` and `ironflow import`: copy a database file to Postgres, or a database on Postgres to a file. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { Place } from "../Engine/Store/Transfer/Transfer.ts"
import { ValidationError } from "../Errors.ts"
import { formatSize } from "../Size.ts"
import { databaseFlags, databaseOf } from "./Database.ts"
import { print } from "./Output.ts"
import { fileArgument } from "./FileArgument.ts"
import { textFlag } from "./TextFlag.ts"

const loadTransfer = Effect.promise(() => import("../Engine/Store/Transfer/Transfer.ts"))

const placeOf = ({ data, databaseSchema, databaseUrl }: Parameters<typeof databaseOf>[0]) =>
  Effect.flatMap(
    databaseOf({ ...(data === undefined ? {} : { data }), databaseSchema, databaseUrl }),
    (database): Effect.Effect<Place, ValidationError> =>
      database !== undefined
        ? Effect.succeed({ database })
        : data !== undefined && Option.isSome(data)
          ? Effect.succeed({ filename: data.value })
          : Effect.fail(
              new ValidationError(
                "Name the database: give its file with --data, or its URL with --database-url or IRONFLOW_DATABASE_URL"
              )
            )
  )

export const exportAll = Command.make(
  "export",
  {
    file: fileArgument,
    data: textFlag("data").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription("The database file; it is only read, and an engine may have it open"),
      Flag.optional
    ),
    ...databaseFlags
  },
  Effect.fnUntraced(function* ({ file, ...flags }) {
    const place = yield* placeOf(flags)
    const { exportStore } = yield* loadTransfer
    const info = yield* exportStore(place, file)
    yield* print(
      { filename: file, ...info },
      () =>
        `${file} has everything as it was at ${info.madeAt}: ${info.rows} rows, ${formatSize(info.bytes)}. ` +
        "Later changes of the database are not in the file. Keep the file as safe as the database."
    )
  })
).pipe(
  Command.withDescription(
    "Write all that a database has at this moment to a new file of JSON lines, which `ironflow import` reads into another database. This moves data from a database file to Postgres, or back."
  ),
  Command.withShortDescription("Write everything, to move it to another database"),
  Command.withExamples([
    { command: "ironflow export orders.jsonl --data ironflow.db" },
    { command: "ironflow export orders.jsonl --database-url postgres://ironflow@db.internal:5432/ironflow" }
  ])
)

export const importAll = Command.make(
  "import",
  {
    file: fileArgument,
    data: textFlag("data").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription("The database file, which must not exist yet"),
      Flag.optional
    ),
    ...databaseFlags
  },
  Effect.fnUntraced(function* ({ file, ...flags }) {
    const place = yield* placeOf(flags)
    const { importStore } = yield* loadTransfer
    const info = yield* importStore(file, place)
    yield* print(
      { filename: file, ...info },
      () =>
        `All of ${file} was imported, as it was at ${info.madeAt}: ${info.rows} rows. An engine that is started on this database continues the runs.`
    )
  })
).pipe(
  Command.withDescription(
    "Fill an empty database from a file that `ironflow export` has written, completely or not at all. The database is a new file, or a schema on Postgres without rows."
  ),
  Command.withShortDescription("Fill an empty database from an export"),
  Command.withExamples([
    { command: "ironflow import orders.jsonl --database-url postgres://ironflow@db.internal:5432/ironflow" },
    { command: "ironflow import orders.jsonl --data ironflow.db" }
  ])
)
