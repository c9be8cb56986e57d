/** `ironflow backup` writes the whole database to a file, and `ironflow restore` makes a database from such a file. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import type { BackupInfo } from "../Engine/Store/Backup.ts"
import { print } from "./Output.ts"
import { formatSize } from "../Size.ts"
import { fileArgument } from "./FileArgument.ts"
import { textFlag } from "./TextFlag.ts"

/** Loaded when it is used, so that commands that only talk to a server do not load the code that reads databases. */
const loadBackupFile = Effect.promise(() => import("./BackupFile.ts"))

const sizeAndTime = ({ bytes, madeAt }: BackupInfo): string =>
  `${formatSize(bytes)}, ${madeAt === undefined ? "made at an unknown time" : `as it was at ${madeAt}`}`

export const backup = Command.make(
  "backup",
  {
    file: fileArgument,
    data: textFlag("data").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription(
        "Back up this database file, even while an engine has it open; by default the server makes the backup and sends it"
      ),
      Flag.optional
    )
  },
  Effect.fnUntraced(function* ({ data, file }) {
    const { backUpFile, download } = yield* loadBackupFile
    const info = yield* Option.match(data, {
      onNone: () => download(file),
      onSome: (database) => backUpFile(database, file)
    })
    yield* print(
      info,
      () =>
        `${file} has the whole database (${sizeAndTime(info)}). Keep this file as safe as the database, and keep IRONFLOW_MASTER_KEY elsewhere: ` +
        "without that key the secrets in the file cannot be read."
    )
  })
).pipe(
  Command.withDescription(
    "Write everything that the engine has at this moment to a new file, while the engine keeps running. Needs `engine:backup` if there are API keys."
  ),
  Command.withShortDescription("Write everything to a file"),
  Command.withExamples([
    { command: "ironflow backup ironflow-monday.db" },
    { command: "ironflow backup ironflow-monday.db --data /var/lib/ironflow/ironflow.db" }
  ])
)

export const restore = Command.make(
  "restore",
  {
    file: fileArgument,
    data: textFlag("data").pipe(
      Flag.withMetavar("FILE"),
      Flag.withDescription("The database file to restore into")
    ),
    replace: Flag.Boolean("replace").pipe(
      Flag.withDescription("Replace an existing database"),
      Flag.withoutNegation,
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ data, file, replace }) {
    const { restoreFile } = yield* loadBackupFile
    const info = yield* restoreFile({ backup: file, filename: data, replace })
    yield* print(
      info,
      () =>
        `${data} was restored from ${file}: ${sizeAndTime(info)}. \`ironflow serve --data ${data}\` continues from there.`
    )
  })
).pipe(
  Command.withDescription(
    "Restore a database from a backup, completely or not at all. The backup is checked first, and no engine may have the database open."
  ),
  Command.withShortDescription("Restore a database from a backup"),
  Command.withExamples([
    { command: "ironflow restore ironflow-monday.db --data /var/lib/ironflow/ironflow.db --replace" }
  ])
)
