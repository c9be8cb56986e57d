/**
 * A run whose step kills its process: the other runs of the same worker finish, and are not paused because of it.
 *
 * `IRONFLOW_TEST_LONG=1` tries every transport, which takes some minutes.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import fs from "node:fs"
import net from "node:net"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { ConnectionError, createClient, type IronflowClient } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { afterAll, assert, describe, it, vi } from "vitest"
import type { AppOptions, Parcel } from "./poison/app.ts"
import { programArguments } from "../Programs.ts"
import { isLong } from "../Long.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-poison-"))
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const parcels: ReadonlyArray<Parcel> = Array.from({ length: 16 }, (_, n) => ({
  name: `p-${n}`,
  kills: n === 7,
  takes: n === 4 ? 10_000 : 300
}))

/** Starts the app again whenever it has died, until the returned value is disposed. */
const supervise = (options: AppOptions) => {
  let child: ChildProcess | undefined
  let isOver = false
  let deaths = 0
  const lives = (async () => {
    while (!isOver) {
      child = spawn(
        process.execPath,
        [...programArguments("durability/poison/app.ts"), JSON.stringify(options)],
        {
          stdio: ["ignore", "ignore", "inherit"],
          env: { NODE_COMPILE_CACHE: path.join(folder, "cache"), ...process.env }
        }
      )
      const [, signal] = (await once(child, "exit")) as [unknown, string]
      assert.strictEqual(signal, "SIGKILL")
      deaths++
    }
  })()
  const stop = async () => {
    isOver = true
    child?.kill("SIGKILL")
    await lives
  }
  return { deaths: () => deaths, [Symbol.asyncDispose]: stop }
}

/** Repeats a request while the process that should answer it is dead. */
const persist = async <A>(ask: () => Promise<A>): Promise<A> => {
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error
    }
  }
}

/** Emits the parcels; returns the outcomes of their runs once all but the killing one have ended. */
const send = async (client: IronflowClient) => {
  const runIds = new Map<Parcel, string>()
  for (const parcel of parcels) {
    const emitted = await persist(() => client.emit("parcel.sent", parcel, { idempotencyKey: parcel.name }))
    runIds.set(parcel, emitted.runIds[0]!)
  }
  const startedAt = performance.now()
  const outcomes: Array<string> = []
  await Promise.all(
    [...runIds].map(async ([parcel, runId]) => {
      if (parcel.kills) return
      const { status } = await persist(() => client.waitForRun(runId, { timeout: 120_000 }))
      outcomes.push(`${parcel.name} ${status}`)
    })
  )
  const poison = [...runIds].find(([{ kills }]) => kills)![1]
  return {
    outcomes,
    tookMs: performance.now() - startedAt,
    poison: await persist(() => client.getRun(poison))
  }
}

const freePort = async (): Promise<number> => {
  const server = net.createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as net.AddressInfo
  server.close()
  await once(server, "close")
  return port
}

const harmlessOutcomes = parcels.filter(({ kills }) => !kills).map(({ name }) => `${name} completed`)

describe.concurrent("a step that kills its process", () => {
  for (const transport of isLong ? (["polling", "rpc", "connect"] as const) : (["polling"] as const)) {
    it(
      `does not prevent the other runs of its worker from ending over ${transport}`,
      { timeout: 150_000 },
      async () => {
        await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
        const log = path.join(folder, `${transport}.log`)
        await using lives = supervise({ log, transport, serverUrl: engine.url! })

        await vi.waitFor(async () => assert.isNotEmpty(await engine.client.listFunctions()), 30_000)
        const { outcomes, poison, tookMs } = await send(engine.client)

        console.log(`${transport}: ${lives.deaths()} deaths, ${Math.round(tookMs)} ms`)
        assert.sameMembers(outcomes, harmlessOutcomes)
        assert.include(["running", "waiting"], poison.status)
      }
    )
  }

  it(
    "does not prevent the other runs from ending when the engine is in that process",
    { timeout: 150_000 },
    async () => {
      const port = await freePort()
      const log = path.join(folder, "embedded.log")
      const client = createClient({ serverUrl: `http://127.0.0.1:${port}`, retry: { maxAttempts: 100 } })
      await using lives = supervise({ log, database: path.join(folder, "parcels.db"), port })

      const { outcomes, poison, tookMs } = await send(client)
      await client.close()

      console.log(`embedded: ${lives.deaths()} deaths, ${Math.round(tookMs)} ms`)
      assert.sameMembers(outcomes, harmlessOutcomes)
      assert.notStrictEqual(poison.status, "completed")
      assert.isAtMost(tookMs, 90_000)
    }
  )
})
