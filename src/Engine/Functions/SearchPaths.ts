/** The paths in `searchBy` of functions, which runs are found by. */
import type { FunctionRegistration } from "../../Protocol/Worker.ts"
import { type Program, statement, write } from "../Store/Program.ts"

const BEGIN = statement(
  "SearchPaths.begin",
  "INSERT INTO search_paths (function, path, below) VALUES (?, ?, NULL) ON CONFLICT (function, path) DO UPDATE SET below = NULL"
)

/**
 * What a registration changes: paths that are new are filled from the beginning, in a later transaction, since the runs of this one are
 * still started by the registration before.
 */
export function* putSearchPaths(
  fn: number,
  { searchBy = [] }: FunctionRegistration,
  before: FunctionRegistration | undefined
): Program<void> {
  for (const path of searchBy) if (before?.searchBy?.includes(path) !== true) yield* write(BEGIN, fn, path)
}
