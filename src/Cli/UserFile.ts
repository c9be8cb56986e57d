/** Checks whether the user's file exists, before anything is loaded from it. */
import { statSync } from "node:fs"
import path from "node:path"
import { CommandError } from "./CommandError.ts"

/** Throws an `IronflowError` with code `MODULE_NOT_FOUND` when there is no such file. */
export const checkFile = (file: string): void => {
  const absolute = path.resolve(file)
  const stats = statSync(absolute, { throwIfNoEntry: false })
  if (stats?.isFile() === true) return
  const problem =
    stats === undefined
      ? `There is no file ${file}${file === absolute ? "" : ` (${absolute})`}`
      : `${file} is ${stats.isDirectory() ? "a folder" : "not a file"}`
  throw new CommandError(`${problem}: name the file that exports your functions`, {
    code: "MODULE_NOT_FOUND"
  })
}
