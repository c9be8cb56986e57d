/**
 * The SQLite that is built into Node.js. When this Node.js is too old, the error says so: the error of a plain import of
 * `node:sqlite` would only say that there is no such module.
 */
import type * as Sqlite from "node:sqlite"
import { NodeVersionError } from "../../Errors.ts"
import { nodeProblem } from "../../NodeVersion.ts"

const load = (): typeof Sqlite => {
  const problem = nodeProblem()
  if (problem !== undefined) throw new NodeVersionError(problem, { code: "NODE_TOO_OLD" })
  return process.getBuiltinModule("node:sqlite")
}

const sqlite = load()

export type DatabaseSync = Sqlite.DatabaseSync
export const DatabaseSync: typeof Sqlite.DatabaseSync = sqlite.DatabaseSync
/** Copies a database page by page, in a separate thread; `rate` is the number of pages in one step. */
export const copyDatabase: typeof Sqlite.backup = (source, path, options) =>
  sqlite.backup(source, path, options)
