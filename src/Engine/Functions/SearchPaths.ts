/** The search paths of functions: the paths in `searchBy`. */
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { type Program, statement, write } from "../Store/Program.ts"

const PUT_SEARCH_PATH = statement(
  "SearchPaths.putSearchPath",
  "INSERT INTO search_paths (function, path, below) VALUES (?, ?, NULL) ON CONFLICT (function, path) DO UPDATE SET below = NULL"
)

/**
 * Stores the new search paths of a function. A later transaction fills in their values, because runs that start in this transaction
 * still have the old registration.
 */
export function* putSearchPaths(
  fn: number,
  { searchBy = [] }: FunctionRegistration,
  before: FunctionRegistration | undefined
): Program<void> {
  for (const path of searchBy)
    if (before?.searchBy?.includes(path) !== true) yield* write(PUT_SEARCH_PATH, fn, path)
}
