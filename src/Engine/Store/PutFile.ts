/** A file that appears under its name when it is whole, and not before: also when the machine stops in between. */
import { existsSync, linkSync, readdirSync, renameSync, rmSync, unlinkSync } from "node:fs"
import { open } from "node:fs/promises"
import path from "node:path"
import { ValidationError } from "../../Errors.ts"

let partials = 0

/** A name beside `filename` for what is not whole yet, which nobody else has. */
export const partialName = (filename: string): string => `${filename}.${process.pid}-${++partials}.partial`

const partialNames = /^(.*)\.(\d+)-\d+\.partial(-journal|-wal|-shm)?$/

/** Whether a process of this machine has the id. */
const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // it is there, and is somebody else's
    return error instanceof Error && "code" in error && error.code === "EPERM"
  }
}

/**
 * What processes that are gone have left in a folder, of `names`: all of it, or what was to become the file `of`. That of a process
 * whose id another one has by now is taken for its own, and left.
 */
export const leftovers = (folder: string, names: ReadonlyArray<string>, of?: string): ReadonlyArray<string> =>
  names.flatMap((name) => {
    const [, whole, pid] = partialNames.exec(name) ?? []
    if (whole === undefined || (of !== undefined && whole !== of)) return []
    return isAlive(Number(pid)) ? [] : [path.join(folder, name)]
  })

/** Removes what is left of earlier attempts to make the file, by processes that were killed. */
export const removeLeftovers = (filename: string): void => {
  const folder = path.dirname(path.resolve(filename))
  if (!existsSync(folder)) return
  for (const file of leftovers(folder, readdirSync(folder), path.basename(filename)))
    rmSync(file, { force: true })
}

/** Removes what SQLite may have left beside a file. */
export const removeLogs = (filename: string): void => {
  for (const suffix of ["-journal", "-wal", "-shm"]) rmSync(filename + suffix, { force: true })
}

/** Removes a file that is not wanted, if it is there. */
export const removePartial = (partial: string): void => {
  rmSync(partial, { force: true })
  removeLogs(partial)
}

/** Has the system write to the disk what it holds of a file, or of a folder. */
const syncFile = async (filename: string): Promise<void> => {
  const file = await open(filename, "r")
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Throws a `ValidationError` when there is a file of this name. */
export const refuseExisting = (filename: string): void => {
  if (!existsSync(filename)) return
  throw new ValidationError(
    `"${filename}" exists, and is not overwritten: name a file that does not exist, or move that one away`
  )
}

/** Gives a whole file its name, unless there is one of that name: then it throws a `ValidationError`. */
export const putNew = async (partial: string, filename: string): Promise<void> => {
  await syncFile(partial)
  try {
    // a link, unlike a new name, replaces nothing that has come in the meantime
    linkSync(partial, filename)
    unlinkSync(partial)
  } catch (error) {
    refuseExisting(filename)
    if (!(error instanceof Error && "code" in error && noLinks.has(String(error.code)))) throw error
    renameSync(partial, filename)
  }
  await syncFile(path.dirname(filename))
}

/** What file systems say that have no links. */
const noLinks: ReadonlySet<string> = new Set(["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"])

/** Gives a whole file its name, in place of the one that has it. */
export const putInPlace = async (partial: string, filename: string): Promise<void> => {
  await syncFile(partial)
  renameSync(partial, filename)
  await syncFile(path.dirname(filename))
}
