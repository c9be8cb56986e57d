/** The statements of the engine. */
import { allStatements, type Statement } from "../../../src/Engine/Store/Program.ts"
// loads every statement
import "../../../src/engine.ts"

/**
 * All statements but those of tests: a process runs several test files, so that statements of other files are among all. Theirs
 * are named `test.…`.
 */
export const engineStatements = (): ReadonlyArray<Statement> =>
  [...allStatements()].filter((statement) => !statement.name.startsWith("test."))
