/**
 * An app in push mode that is killed again and again, in the middle of its turns: nothing is lost, and nothing that was
 * reported runs again. And an engine that is killed in the middle of a turn that it has sent.
 *
 * The judgement compares the app's own file with the steps that the engine shows, by code that shares nothing with
 * either. `IRONFLOW_TEST_SEED=7 IRONFLOW_TEST_ROUNDS=20` runs twenty rounds from seed 7 on.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import net from "node:net"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { createClient, createFunction, serve } from "@ironflow/node"
import { startEngine, type IronflowEngine } from "@ironflow/node/engine"
import { afterAll, describe, expect, it, vi } from "vitest"
import { Terminal } from "../Cli/Terminal.ts"
import { listen, registerEndpoint, SIGNING_KEY } from "../Serve/Hosts.ts"
import type { AppOptions, Line } from "./push/app.ts"
import { programArguments } from "../Programs.ts"
import { seeds } from "../Long.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-push-"))
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const steps = ["reserve", "charge", "pack", "label", "mail", "ship"]

const freePort = async (): Promise<number> => {
  const server = net.createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, "close")
  return port
}

const startApp = async (options: AppOptions): Promise<ChildProcess> => {
  const child = spawn(
    process.execPath,
    [...programArguments("durability/push/app.ts"), JSON.stringify(options)],
    {
      stdio: ["ignore", "pipe", "inherit"]
    }
  )
  await once(child.stdout, "data")
  return child
}

const readLog = (file: string): ReadonlyArray<Line> =>
  fs.existsSync(file)
    ? fs
        .readFileSync(file, "utf8")
        .split("\n")
        .slice(0, -1)
        .map((line) => JSON.parse(line) as Line)
    : []

/** The results of the steps that the engine has stored, by run and step. */
const storedSteps = async (
  { client }: IronflowEngine,
  runIds: ReadonlyArray<string>
): Promise<ReadonlyMap<string, unknown>> => {
  const stored = new Map<string, unknown>()
  for (const runId of runIds) {
    for (const { name, output, status } of await client.getRunSteps(runId)) {
      if (status === "completed" && steps.includes(name)) stored.set(`${runId} ${name}`, output)
    }
  }
  return stored
}

it(
  "an engine that is killed in the middle of a turn sends the turn again as soon as it is back",
  { timeout: 120_000 },
  async () => {
    await using terminal = new Terminal()
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const start = async () => {
      const engine = terminal.start(
        ["serve", "--port", String(port), "--data", "orders.db", "--allow-private-endpoints", "--no-console"],
        { env: { IRONFLOW_SIGNING_KEY: SIGNING_KEY } }
      )
      await engine.until(`Ironflow listens at ${url}`)
      return engine
    }
    const log: Array<string> = []
    const charge = createFunction({ id: "charge", triggers: [] }, ({ step }) =>
      step.run("pay", async ({ signal }) => {
        log.push("begun")
        if (log.length > 1) return "paid"
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()))
        log.push("aborted")
        throw signal.reason
      })
    )
    // shorter than the lease of the turn
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, ({ step }) =>
      step.invoke(charge, {}, { timeout: "20s" })
    )
    const app = await listen(
      serve({ functions: [order, charge], signingKey: SIGNING_KEY, serverUrl: url, logger: false })
    )
    const client = createClient({ serverUrl: url })
    const first = await start()
    await client.pushEndpoints.register(app.url)
    const { runIds } = await client.emit("order.placed", {})
    await vi.waitFor(() => expect(log).toEqual(["begun"]), { timeout: 20_000 })

    first.signal("SIGKILL")
    await first.ended
    await start()

    expect(await client.waitForRun(runIds[0]!, { timeout: 60_000 })).toMatchObject({
      status: "completed",
      output: "paid"
    })
    expect(log.toSorted()).toEqual(["aborted", "begun", "begun"])
    await client.close()
    await app.close()
  }
)

describe("an app in push mode that is killed in the middle of turns", () => {
  for (const seed of seeds(1, 10)) {
    it(
      `loses nothing and repeats nothing that was reported, with seed ${seed}`,
      { timeout: 120_000 },
      async () => {
        const log = path.join(folder, `side-${seed}.log`)
        const port = await freePort()
        await using engine = await startEngine({
          filename: path.join(folder, `orders-${seed}.db`),
          logger: false,
          listen: { port: 0 },
          push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY }
        })
        const options = { port, serverUrl: engine.url ?? "", signingKey: SIGNING_KEY, log }
        let child = await startApp(options)
        expect((await registerEndpoint(engine, `http://127.0.0.1:${port}/`)).status).toBe(200)
        child.kill("SIGKILL")
        await once(child, "exit")
        const runIds: Array<string> = []
        for (let i = 0; i < 3; i++) {
          const { runIds: started } = await engine.client.emit("order.placed", { orderId: `o-${i}` })
          runIds.push(...started)
        }

        const violations: Array<string> = []
        /** The number of lines in the file when a life ended, and what the engine had stored by then. */
        const seenAt: Array<{ readonly lineCount: number; readonly stored: ReadonlyMap<string, unknown> }> =
          []
        let kills = 0
        for (let life = 0; life < 5; life++) {
          child = await startApp({ ...options, dieAfter: 1 + ((seed * 7 + life * 5) % 9) })
          const [, signal] = (await once(child, "exit")) as [unknown, string]
          expect(signal).toBe("SIGKILL")
          kills++
          const lineCount = readLog(log).length
          const stored = await storedSteps(engine, runIds)
          // a step that is stored now must not begin after this line
          seenAt.push({ lineCount, stored })
          if (stored.size === runIds.length * steps.length) break
        }
        child = await startApp(options)
        for (const runId of runIds) {
          const run = await engine.client.waitForRun(runId, { timeout: 60_000 })
          if (run.status !== "completed") violations.push(`${runId} has ${run.status}: ${run.error?.message}`)
          const lines = readLog(log).filter((line) => line.run === runId)
          const output = run.output as ReadonlyArray<string>
          for (const [i, step] of steps.entries()) {
            const ends = lines.filter((line) => line.step === step && line.t === "end")
            if (!ends.some(({ token }) => token === output[i])) {
              violations.push(`${runId} ${step}: ${output[i]} was never returned by its body`)
            }
          }
        }
        const all = readLog(log)
        for (const { lineCount, stored } of seenAt) {
          for (const key of stored.keys()) {
            const again = all
              .slice(lineCount)
              .find((line) => line.t === "begin" && `${line.run} ${line.step}` === key)
            if (again !== undefined) violations.push(`${key} had been reported, and began again`)
          }
        }
        const executions = all.filter(({ t }) => t === "begin").length
        console.log(
          `seed ${seed}: ${kills} kills, ${executions} executions of ${runIds.length * steps.length} steps`
        )
        child.kill("SIGKILL")
        await once(child, "exit")

        expect(violations).toEqual([])
        expect(kills).toBeGreaterThan(2)
        // a kill repeats only the steps that were running, at most two in each run
        expect(executions).toBeLessThanOrEqual(runIds.length * steps.length + kills * runIds.length * 2)
      }
    )
  }
})
