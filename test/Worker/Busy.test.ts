/** Workers whose steps keep the event loop busy one after another, in processes of their own. */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import process from "node:process"
import { startEngine } from "@ironflow/node/engine"
import { afterAll, assert, describe, it } from "vitest"
import type { Transport } from "./Starts.ts"
import { nodeArguments } from "../Built.ts"

const folder = mkdtempSync(join(tmpdir(), "ironflow-busy-"))
const children: Array<ChildProcess> = []
afterAll(() => {
  for (const child of children) child.kill("SIGKILL")
  rmSync(folder, { recursive: true, force: true })
})

const leaseMs = 5000
/** Just under half of the lease term. */
const busyMs = 2400

describe.concurrent("steps that block for nearly half of the lease term, one after another,", () => {
  it.each<readonly [Transport, string]>([
    ["HTTP", "http"],
    ["its channel", "channel"],
    ["rpc", "rpc"],
    ["ConnectRPC", "connect"]
  ])("run once each in a worker over %s", { timeout: 120_000 }, async (transport, event) => {
    await using engine = await startEngine({
      filename: join(folder, `${event}.db`),
      logger: false,
      listen: { port: 0, leaseTerm: leaseMs }
    })
    const child = spawn(
      process.execPath,
      [
        ...nodeArguments(),
        new URL("busy/worker.ts", import.meta.url).pathname,
        transport,
        engine.url!,
        `numbers.${event}`,
        String(busyMs)
      ],
      { stdio: ["ignore", "pipe", "inherit"] }
    )
    children.push(child)
    let said = ""
    const lines = () => said.split("\n")
    await new Promise<void>((resolve) => {
      child.stdout.on("data", (chunk: Buffer) => {
        said += String(chunk)
        if (lines().includes("ready")) resolve()
      })
    })

    const emitted = await Promise.all(
      [false, false, true, true].map((late) => engine.client.emit(`numbers.${event}`, { late }))
    )
    const runIds = emitted.flatMap((result) => result.runIds)
    const ended = await Promise.all(runIds.map((runId) => engine.client.waitForRun(runId)))

    assert.deepStrictEqual(
      ended.map(({ status }) => status),
      ["completed", "completed", "completed", "completed"]
    )
    const began = lines().filter((line) => line.startsWith("began "))
    assert.deepStrictEqual(began.toSorted(), runIds.map((runId) => `began ${runId}`).toSorted())
  })
})
