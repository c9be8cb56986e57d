/**
 * Checks and creates the files of a SQLite database. They contain everything that the engine stores, so by default only the user
 * that runs the engine may read them. The engine opens a file only when this user owns the file, because an owner can read a file
 * whatever its mode.
 */
import {
  chmodSync,
  closeSync,
  existsSync,
  lstatSync,
  openSync,
  readlinkSync,
  realpathSync,
  statfsSync,
  statSync
} from "node:fs"
import path from "node:path"
import { StoreError, ValidationError } from "../../Errors.ts"

/** Only the owner may read and write. */
export const DEFAULT_MODE = 0o600

/** How many links in a row are followed: as many as Linux follows. */
const MAX_LINKS = 40

/**
 * Follows links: returns the name of the file to which `filename` leads. The file need not exist yet. Two names of one file give
 * the same result, so that the file has one lock.
 */
export const targetOf = (filename: string): string => {
  let name = filename
  for (let links = 0; links < MAX_LINKS; links++) {
    if (existsSync(name)) return realpathSync(name)
    if (lstatSync(name, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return name
    name = path.resolve(realpathSync(path.dirname(name)), readlinkSync(name))
  }
  return name
}

/**
 * Creates the file with exactly this mode, unless it exists. SQLite gives the same mode to the files that it creates beside this
 * file.
 */
export const makeFile = (filename: string, mode: number): void => {
  let file: number
  try {
    file = openSync(filename, "wx", mode)
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return
    throw error
  }
  closeSync(file)
  // `open` applies the umask to the mode
  chmodSync(filename, mode)
}

/**
 * Says what exists under this name, if it is not a regular file; `undefined` for a regular file, and when nothing exists. This must
 * be checked before the file is opened: opening a pipe waits until something writes to the pipe, and no signal ends this wait.
 */
const nonFileAt = (filename: string): string | undefined => {
  const stat = statSync(filename, { throwIfNoEntry: false })
  if (stat === undefined || stat.isFile()) return undefined
  if (stat.isDirectory()) return "a folder"
  return stat.isFIFO() ? "a pipe" : stat.isSocket() ? "a socket" : "a device"
}

/** The files that SQLite and the engine open beside a database. */
const SUFFIXES_BESIDE = ["-wal", "-shm", "-journal", ".lock"]

/**
 * Throws when `filename`, or the name of a file beside it, is a folder, a pipe, a socket or a device. The error is a
 * `ValidationError`, or the error that `refusal` makes from the message.
 */
export const refuseNonFile = (
  filename: string,
  refusal: (message: string) => Error = (message) => new ValidationError(message)
): void => {
  const nonFile = nonFileAt(filename)
  if (nonFile === "a folder") {
    throw refusal(
      `"${filename}" is a folder: name the file of the database, such as "${path.join(filename, "ironflow.db")}"`
    )
  }
  if (nonFile !== undefined) throw refusal(`"${filename}" is ${nonFile}, not a file: name a file on a disk`)
  for (const name of SUFFIXES_BESIDE.map((suffix) => filename + suffix)) {
    const nonFileBeside = nonFileAt(name)
    if (nonFileBeside !== undefined) {
      throw refusal(
        `"${name}", which belongs to the database beside it, is ${nonFileBeside}, not a file: move it away`
      )
    }
  }
}

/**
 * Checks the existing files of a database. Returns a warning for each file that more users may access than `mode` says. Throws a
 * `StoreError` for a file of another user.
 */
export const checkFiles = (filename: string, mode: number): ReadonlyArray<string> =>
  [filename, `${filename}-wal`, `${filename}.lock`].flatMap((file) => {
    const stat = statSync(file, { throwIfNoEntry: false })
    if (stat === undefined) return []
    const fileMode = stat.mode & 0o777
    const user = process.getuid?.()
    if (user !== undefined && stat.uid !== user) {
      throw new StoreError(
        `"${file}" belongs to user ${stat.uid} and has mode ${octal(fileMode)}, but the engine runs as user ${user}: ` +
          `the owner of a file can read and change everything in it. Run the engine as user ${stat.uid}, or give the file to user ${user} (chown)`,
        { code: "STORE_UNAVAILABLE" }
      )
    }
    return (fileMode & ~mode) === 0
      ? []
      : [
          `"${file}" has mode ${octal(fileMode)}, so not only its owner can use it: change that with \`chmod ${octal(mode)}\`, ` +
            `or allow it with \`ironflow serve --file-mode ${octal(fileMode)}\``
        ]
  })

/** A disk with less free space than this counts as full. */
const FULL_BELOW_BYTES = 1024 * 1024

/** Whether the disk of a database has room for more than the smallest writes. Returns `true` when the free space cannot be read. */
export const hasRoom = (filename: string): boolean => {
  try {
    const { bavail, bfree, bsize } = statfsSync(path.dirname(path.resolve(filename)))
    return (process.getuid?.() === 0 ? bfree : bavail) * bsize >= FULL_BELOW_BYTES
  } catch {
    // the next write will show whether there is room
    return true
  }
}

const octal = (mode: number): string => mode.toString(8).padStart(4, "0")
