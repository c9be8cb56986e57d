/**
 * The files of a database. They hold everything, so by default they are created for the engine's user alone. They are opened only
 * when that user owns them: an owner can read a file whatever its mode.
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

/** How many links in a row are followed; as many as Linux follows. */
const MAX_LINKS = 40

/**
 * The name of the file itself for a name that may be a link, also for a link to a file that does not exist yet. Two names of one
 * file have the same result, so that they have one lock.
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

/** Creates the file with exactly this mode, unless it exists. SQLite gives the same mode to the files that it adds beside it. */
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
 * What exists under this name, if it is no regular file. A pipe must not be opened: that waits for its writer, and no signal ends
 * the wait.
 */
const otherThanFile = (filename: string): string | undefined => {
  const stat = statSync(filename, { throwIfNoEntry: false })
  if (stat === undefined || stat.isFile()) return undefined
  if (stat.isDirectory()) return "a folder"
  return stat.isFIFO() ? "a pipe" : stat.isSocket() ? "a socket" : "a device"
}

/** The files that SQLite and the engine open beside a database. */
const BESIDE = ["-wal", "-shm", "-journal", ".lock"]

/**
 * Refuses to open a folder, a pipe or a device under the name of a file. Throws a `ValidationError`, or the error that `refusal`
 * makes of the message.
 */
export const refuseNonFile = (
  filename: string,
  refusal: (message: string) => Error = (message) => new ValidationError(message)
): void => {
  const other = otherThanFile(filename)
  if (other === "a folder") {
    throw refusal(
      `"${filename}" is a folder: name the file of the database, such as "${path.join(filename, "ironflow.db")}"`
    )
  }
  if (other !== undefined) throw refusal(`"${filename}" is ${other}, not a file: name a file on a disk`)
  for (const name of BESIDE.map((suffix) => filename + suffix)) {
    const beside = otherThanFile(name)
    if (beside !== undefined) {
      throw refusal(
        `"${name}", which belongs to the database beside it, is ${beside}, not a file: move it away`
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
    const found = stat.mode & 0o777
    const me = process.getuid?.()
    if (me !== undefined && stat.uid !== me) {
      throw new StoreError(
        `"${file}" belongs to user ${stat.uid} and has mode ${octal(found)}, but the engine runs as user ${me}: ` +
          `the owner of a file can read and change everything in it. Run the engine as user ${stat.uid}, or give the file to user ${me} (chown)`,
        { code: "STORE_UNAVAILABLE" }
      )
    }
    return (found & ~mode) === 0
      ? []
      : [
          `"${file}" has mode ${octal(found)}, so not only its owner can use it: change that with \`chmod ${octal(mode)}\`, ` +
            `or allow it with \`ironflow serve --file-mode ${octal(found)}\``
        ]
  })

/** The free space at which a disk that was full counts as having room again, bytes. */
const ROOM_AGAIN = 1024 * 1024

/** Whether the disk of a database has room for more than the smallest writes. `true` when that cannot be found out. */
export const hasRoom = (filename: string): boolean => {
  try {
    const { bavail, bfree, bsize } = statfsSync(path.dirname(path.resolve(filename)))
    return (process.getuid?.() === 0 ? bfree : bavail) * bsize >= ROOM_AGAIN
  } catch {
    // the next write will show it
    return true
  }
}

const octal = (mode: number): string => mode.toString(8).padStart(4, "0")
