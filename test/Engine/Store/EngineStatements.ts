/** The statements of the engine. */
import { allStatements, type Statement } from "../../../src/Engine/Store/Program.ts"
// this import registers every statement
import "../../../src/engine.ts"

/**
 * All statements without those of tests. A process runs several test files, so the statements of other files are registered
 * too. Their names begin with `test.`.
 */
export const engineStatements = (): ReadonlyArray<Statement> =>
  [...allStatements()].filter((statement) => !statement.name.startsWith("test."))
