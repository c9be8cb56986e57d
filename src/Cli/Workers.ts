/** `ironflow workers`: who runs the functions. */
import * as Effect from "effect/Effect"
import * as Command from "effect/cli/Command"
import { print, table } from "./Output.ts"
import { ask } from "./Server.ts"

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function* () {
    const workers = yield* ask((client) => client.listWorkers())
    yield* print({ workers }, () =>
      workers.length === 0
        ? "No worker is connected: start one with `ironflow worker ./functions.ts`."
        : table(
            ["WORKER", "HOST", "JOBS", "FUNCTIONS", "LABELS", "SINCE"],
            workers.map((worker) => [
              worker.id,
              worker.hostname,
              `${worker.activeJobs}/${worker.maxConcurrentJobs}`,
              worker.functionIds.join(","),
              Object.entries(worker.labels)
                .map(([name, value]) => `${name}=${value}`)
                .join(","),
              worker.registeredAt
            ])
          )
    )
  })
).pipe(Command.withDescription("List the workers that are connected, and how busy they are."))

export const workers = Command.make("workers").pipe(
  Command.withDescription("See the workers that are connected."),
  Command.withShortDescription("See workers"),
  Command.withSubcommands([list])
)
