/** Checks of a database file. They write nothing, and do not take the locks that an engine takes. */
import { existsSync, readdirSync, realpathSync, statfsSync, statSync } from "node:fs"
import path from "node:path"
import type { DoctorCheck } from "../../Protocol/Server.ts"
import { StoreError } from "../../Errors.ts"
import { formatSize } from "../../Size.ts"
import { checkFiles, DEFAULT_MODE, refuseNonFile } from "../Store/Files.ts"
import { verifyChecksum, markOf } from "../Store/Checksum.ts"
import { isOwned } from "../Store/FileOwnership.ts"
import { lockHolderOf } from "../Store/Lock.ts"
import { migrations } from "../Store/Migrations.ts"
import { DatabaseSync } from "../Store/NodeSqlite.ts"
import { leftovers } from "../Store/AtomicWrite.ts"
import { checkAll, checkIsIronflow, isForeign, versionOf } from "../Store/SqliteFile.ts"
import { count, fail, ok, warn } from "./Checks.ts"

const sizeOf = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0

/** Checks who owns the files of the database, and who may use them. */
export const checkPermissions = (filename: string): DoctorCheck => {
  try {
    const warnings = checkFiles(filename, DEFAULT_MODE)
    if (warnings.length === 0)
      return ok("files", `"${filename}" and the files beside it can be read by their owner only.`)
    return warn(
      "files",
      `${warnings.join(". ")}.`,
      "Give each of these files mode 0600, unless others are meant to read it."
    )
  } catch (error) {
    return fail("files", `${messageOf(error)}.`, "Run the engine as the user that the files belong to.")
  }
}

/** The check fails when less space than this is free: with less, the write-ahead log may not be able to grow for a commit. */
const FAIL_BELOW_FREE_BYTES = 128 * 1024 * 1024
/** The check warns when less space than this is free. */
const WARN_BELOW_FREE_BYTES = 1024 * 1024 * 1024

/** Checks whether there is room for the database to grow, and for a copy of it. */
export const checkDisk = (filename: string): DoctorCheck => {
  const folder = path.dirname(path.resolve(filename))
  const { bavail, bsize } = statfsSync(folder)
  const free = bavail * bsize
  const bytes = sizeOf(filename)
  const log = sizeOf(`${filename}-wal`)
  const message =
    `${formatSize(free)} are free at ${folder}; the database takes ${formatSize(bytes)}` +
    `${log === 0 ? "" : `, and its write-ahead log ${formatSize(log)}`}.`
  const advice = "Make room, or keep less: `ironflow serve --keep-runs`, `--keep-messages`."
  if (free < FAIL_BELOW_FREE_BYTES) return fail("disk", message, advice)
  return free < WARN_BELOW_FREE_BYTES || free < bytes + log
    ? warn(
        "disk",
        `${message} A backup through the server needs as much free space as the database takes.`,
        advice
      )
    : ok("disk", message)
}

/** Finds partial files that a backup, restore, export or import has left because its process ended too early. */
export const checkLeftovers = (filename: string): DoctorCheck => {
  const folder = path.dirname(path.resolve(filename))
  const found = leftovers(folder, readdirSync(folder))
  if (found.length === 0)
    return ok("leftovers", "Nothing is left of backups, restores, exports or imports that were killed.")
  const bytes = found.reduce((sum, file) => sum + sizeOf(file), 0)
  const more = found.length > 5 ? `, and ${found.length - 5} more` : ""
  return warn(
    "leftovers",
    `${count(found.length, "file")} of ${formatSize(bytes)} ${found.length === 1 ? "is" : "are"} left of backups, restores, exports or imports that were killed: ${found.slice(0, 5).join(", ")}${more}.`,
    `Remove them: \`rm ${found.slice(0, 5).join(" ")}\`. The next backup, restore, export or import that writes the same file removes its leftovers too.`
  )
}

/** Checks whether an engine has the file open, and which. */
export const checkHolder = (filename: string): DoctorCheck => {
  const holderText = lockHolderOf(realpathSync(filename))
  return holderText === undefined
    ? ok("holder", "No engine has the file open.")
    : ok(
        "holder",
        `An engine has the file open${holderText}. \`ironflow doctor --server-url URL\` asks this engine for more.`
      )
}

export const checkTables = (db: DatabaseSync, filename: string): DoctorCheck => {
  try {
    checkIsIronflow(db, filename)
  } catch (error) {
    if (!(error instanceof StoreError)) throw error
    return fail(
      "tables",
      `${messageOf(error)}.`,
      isForeign(db)
        ? "Check the name of the file."
        : "Use the version of @ironflow/node that wrote them, or a later one."
    )
  }
  const version = versionOf(db)
  if (version === 0)
    return fail("tables", `"${filename}" has no tables of Ironflow.`, "Check the name of the file.")
  return version === migrations.length
    ? ok("tables", `The tables are at version ${version}, the one of this package.`)
    : warn(
        "tables",
        `The tables are at version ${version}, and this package has version ${migrations.length}.`,
        "The next `ironflow serve` of this package brings them up to date, after which older versions do not open the file: make a backup first."
      )
}

/** A file up to this size is always checked. A larger file is checked only on request. The check reads about 500 MiB a second. */
const MAX_ALWAYS_CHECKED_BYTES = 1024 * 1024 * 1024

/**
 * Checks the pages of the file. With `all`, also checks the rows and the references between them. Without `all`, a file of more
 * than {@link MAX_ALWAYS_CHECKED_BYTES} is not checked.
 */
export const checkIntegrity = (db: DatabaseSync, filename: string, all: boolean): DoctorCheck => {
  const restore = "Restore a backup: `ironflow restore BACKUP --data FILE --replace`."
  try {
    if (all) {
      checkAll(db, filename, "")
      return ok("integrity", "Every page and every row was read, and nothing is damaged.")
    }
    const bytes = sizeOf(filename)
    if (bytes > MAX_ALWAYS_CHECKED_BYTES) {
      return ok(
        "integrity",
        `The file was not read, because it has ${formatSize(bytes)}: \`ironflow doctor --data FILE --check\` reads all of it.`
      )
    }
    const [found] = db.prepare("PRAGMA quick_check(1)").all()
    const problem = String(Object.values(found ?? {})[0])
    return problem === "ok"
      ? ok(
          "integrity",
          "The pages of the file are not damaged; `ironflow doctor --data FILE --check` reads the rows too."
        )
      : fail("integrity", `The database is damaged: ${problem}.`, restore)
  } catch (error) {
    const text = messageOf(error)
    return fail(
      "integrity",
      text.includes("is damaged") ? `${text}.` : `The database is damaged: ${text}.`,
      restore
    )
  }
}

/**
 * Compares a backup with its checksum, as a restore does. Returns `undefined` for a file without a checksum, and for a file that an
 * engine has open, or had open when the file was copied.
 */
export const checkBackup = async (db: DatabaseSync, filename: string): Promise<DoctorCheck | undefined> => {
  try {
    if (markOf(db)?.sha256 === undefined || isOwned(db)) return undefined
    await verifyChecksum(filename, filename)
    return ok("checksum", "The file is a backup, and was not changed since it was written.")
  } catch (error) {
    return fail(
      "checksum",
      `${messageOf(error)}.`,
      "`ironflow restore` refuses this backup: use another one."
    )
  }
}

/**
 * Opens a database file for reading only. An engine may have the file open at the same time. Throws a `StoreError` when the file
 * does not exist. Throws a `ValidationError` when `filename` names something else, such as a folder.
 */
export const openForReading = (filename: string): DatabaseSync => {
  refuseNonFile(filename)
  if (!existsSync(filename)) {
    throw new StoreError(`There is no database "${filename}": check its name`, { code: "STORE_UNAVAILABLE" })
  }
  return new DatabaseSync(filename, { readOnly: true, timeout: 5000 })
}

export const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(/\.$/, "")
