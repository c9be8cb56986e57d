/**
 * Writes files so that each appears under its name only when it is complete, even if the machine stops in between. Until then the
 * file has another name, and is called a partial file.
 */
import { existsSync, linkSync, readdirSync, renameSync, rmSync, unlinkSync } from "node:fs"
import { open } from "node:fs/promises"
import path from "node:path"
import { ValidationError } from "../../Errors.ts"

let partialCount = 0

/** A unique name in the folder of `filename` for the incomplete file. */
export const partialName = (filename: string): string =>
  `${filename}.${process.pid}-${++partialCount}.partial`

const partialNames = /^(.*)\.(\d+)-\d+\.partial(-journal|-wal|-shm)?$/

/** Whether a process with this id runs on this machine. */
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: the process runs under another user
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

/**
 * Lists the partial files in a folder that were left by processes that have ended, and returns their paths. `names` are all files
 * of the folder. With `finalName`, lists only what was to become the file with that name. A partial file is left out when a new
 * process has the id of the process that has left it.
 */
export const leftovers = (
  folder: string,
  names: ReadonlyArray<string>,
  finalName?: string
): ReadonlyArray<string> =>
  names.flatMap((name) => {
    const [, nameWhenComplete, pid] = partialNames.exec(name) ?? []
    if (nameWhenComplete === undefined || (finalName ?? nameWhenComplete) !== nameWhenComplete) return []
    return isAlive(Number(pid)) ? [] : [path.join(folder, name)]
  })

/** Removes the partial files that earlier attempts to write this file have left, because the process was killed. */
export const removeLeftovers = (filename: string): void => {
  const folder = path.dirname(path.resolve(filename))
  if (!existsSync(folder)) return
  for (const file of leftovers(folder, readdirSync(folder), path.basename(filename)))
    rmSync(file, { force: true })
}

/** Removes the log files that SQLite may have left beside a file. */
export const removeLogs = (filename: string): void => {
  for (const suffix of ["-journal", "-wal", "-shm"]) rmSync(filename + suffix, { force: true })
}

/** Removes a partial file, if it exists. */
export const removePartial = (partial: string): void => {
  rmSync(partial, { force: true })
  removeLogs(partial)
}

/** Flushes a file or a folder to disk. */
const syncFile = async (filename: string): Promise<void> => {
  const file = await open(filename, "r")
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Throws a `ValidationError` when the file exists. */
export const refuseExisting = (filename: string): void => {
  if (!existsSync(filename)) return
  throw new ValidationError(
    `"${filename}" exists, and is not overwritten: name a file that does not exist, or move the existing file away`
  )
}

/** Gives the complete file `partial` its final name. Throws a `ValidationError` when a file with that name exists. */
export const putNew = async (partial: string, filename: string): Promise<void> => {
  await syncFile(partial)
  try {
    // a link, unlike a rename, does not replace a file that has appeared meanwhile
    linkSync(partial, filename)
    unlinkSync(partial)
  } catch (error) {
    refuseExisting(filename)
    if (!(error instanceof Error && "code" in error && linkRefusalCodes.has(String(error.code)))) throw error
    renameSync(partial, filename)
  }
  await syncFile(path.dirname(filename))
}

/** The error codes with which a file system that has no links refuses to make one. */
const linkRefusalCodes: ReadonlySet<string> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"])

/** Gives the complete file `partial` its final name. Replaces an existing file with that name. */
export const putInPlace = async (partial: string, filename: string): Promise<void> => {
  await syncFile(partial)
  renameSync(partial, filename)
  await syncFile(path.dirname(filename))
}
