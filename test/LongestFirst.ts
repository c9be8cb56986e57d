/**
 * The order in which test files start. A fresh clone does not know how long they take. A file of a minute that starts last would
 * run alone at the end.
 */
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** The files that take the most time, the longest first. Those that mostly wait are among those that mostly work. */
const longest = [
  "durability/nodes",
  "postgres/Store",
  "security/pressure",
  "Engine/Nodes/Processes",
  "Worker/Transports",
  "durability/streams",
  "docs",
  "durability/durability",
  "security/effects",
  "durability/matrix",
  "Worker/StreamChaos",
  "durability/projections",
  "durability/diskFull",
  "Cli/dev",
  "Engine/Nodes/Bulk",
  "Worker/sockets",
  "security/replayed",
  "fixtures",
  "Cli/bulk",
  "security/lists",
  "durability/failover",
  "Engine/Store/Thread",
  "Cli/backup",
  "security/http2",
  "Cli/doctor",
  "security/matrix",
  "Serve/time",
  "console/Run",
  "durability/poison",
  "Engine/Store/Sqlite",
  "durability/subscriptions",
  "console/Events",
  "Engine/Store/PostgresFailures",
  "durability/push",
  "Engine/Nodes/Listeners",
  "golden/client",
  "golden/calls",
  "Engine/Store/fanOut",
  "console/Functions",
  "Engine/Push",
  "wire/channel",
  "Cli/deploy",
  "Cli/serve",
  "Cli/projections"
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
