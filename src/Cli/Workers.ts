/** `ironflow workers`: lists the connected workers. */
import { Client } from "../Client/Client.ts"
import * as Command from "effect/cli/Command"
import { table } from "./Output.ts"
import { commandsOf } from "./OneCallCommands.ts"

const clientCommand = commandsOf(Client)

const list = clientCommand("list", {
  description: "List the workers that are connected, and how busy they are.",
  call: (client) => client.listWorkers(),
  json: (workers) => ({ workers }),
  text: (workers) =>
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
})

export const workers = Command.make("workers").pipe(
  Command.withDescription("See the workers that are connected."),
  Command.withShortDescription("See workers"),
  Command.withSubcommands([list])
)
