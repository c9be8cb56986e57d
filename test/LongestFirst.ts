/**
 * The order in which test files start. A fresh clone does not know how long they take. A file of a minute that starts last would
 * run alone at the end.
 */
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** The files that take the most time, the longest first. */
const longest = [
  "durability/nodes",
  "durability/durability",
  "postgres/Store",
  "security/pressure",
  "durability/matrix",
  "durability/streams",
  "Worker/Transports",
  "Engine/Store/Thread",
  "console/Events",
  "Worker/sockets",
  "wire/channel",
  "Cli/dev",
  "Cli/serve",
  "Cli/deploy",
  "Engine/Store/Sqlite",
  "Engine/Store/PostgresFailures",
  "Serve/time",
  "Worker/StreamChaos",
  "Cli/projections",
  "console/Run"
]

export default class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const place = ({ moduleId }: TestSpecification): number => {
      const found = longest.findIndex((name) => moduleId.endsWith(`/test/${name}.test.ts`))
      return found === -1 ? longest.length : found
    }
    return (await super.sort(files)).toSorted((a, b) => place(a) - place(b))
  }
}
