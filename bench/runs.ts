/** Starts a run through a client, and waits for it, for the harness. */
import fs from "node:fs"
import path from "node:path"
import type { IronflowClient } from "@ironflow/node"

/** Emits the event that starts a run of this kind. Resolves to the id of the run once the run is durable. */
export const startRun = async (client: IronflowClient, kind: string, input: unknown): Promise<string> => {
  const { runIds } = await client.emit(`bench.${kind}`, input)
  const [runId] = runIds
  if (runId === undefined) throw new Error(`no function is registered for bench.${kind}`)
  return runId
}

/** Resolves to the output of a run once it has completed. */
export const resultOfRun = async (client: IronflowClient, runId: string): Promise<unknown> => {
  const run = await client.waitForRun(runId)
  if (run.status !== "completed") throw new Error(`run ${runId} ended ${run.status}: ${run.error?.message}`)
  return run.output
}

export const bytesIn = (folder: string): number =>
  fs
    .readdirSync(folder)
    .map((name) => fs.statSync(path.join(folder, name)).size)
    .reduce((sum, size) => sum + size, 0)
