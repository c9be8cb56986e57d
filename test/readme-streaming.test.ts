/** The documented example of the streaming worker, unchanged. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { describe, expect, test, vi } from "vitest"
import { textOf, useDocumented } from "./Documented.ts"
import { nodeArguments } from "./Built.ts"

describe("the documented streaming worker", () => {
  const documented = useDocumented()

  test(
    "in a process of its own takes jobs over ConnectRPC until SIGTERM drains it",
    { timeout: 60_000 },
    async () => {
      const file = documented.placeExample(textOf("streaming-worker.01"), [], "worker.ts")
      const child: ChildProcess = spawn(process.execPath, [...nodeArguments(), file], {
        stdio: ["ignore", "ignore", "inherit"],
        env: { ...process.env, IRONFLOW_LOG_LEVEL: "error" }
      })
      documented.cleanups.push(() => child.kill("SIGKILL"))
      const ended = once(child, "exit")
      await vi.waitFor(async () => expect(await documented.client.listWorkers()).toHaveLength(1), {
        timeout: 30_000
      })

      const [worker] = await documented.client.listWorkers()
      const run = await documented.runOf("order.placed", { orderId: "o-1" })
      child.kill("SIGTERM")

      expect(worker).toMatchObject({
        functionIds: ["process-order"],
        maxConcurrentJobs: 10,
        transport: "connect"
      })
      expect(run).toMatchObject({ status: "completed", output: "o-1" })
      expect(await ended).toEqual([0, null])
      expect(await documented.client.listWorkers()).toEqual([])
    }
  )
})
