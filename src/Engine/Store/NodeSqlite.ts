/** SQLite as Node.js has it, or the word that this one is too old: an import of `node:sqlite` would only say that there is none. */
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
/** Copies a database, page by page in a thread of its own, whose steps are as large as `rate` says. */
export const copyDatabase: typeof Sqlite.backup = (source, path, options) =>
  sqlite.backup(source, path, options)
