/**
 * Postgres on a full disk: clients get errors, nothing acknowledged is lost, and work continues when there is space.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { createClient, createFunction, createWorker, StoreError } from "@ironflow/node"
import pg from "pg"
import { afterAll, assert, describe, it } from "vitest"
import { OwnServer } from "../postgres/Server.ts"
import { canHaveSmallDisk, makeSmallDisk } from "../postgres/SmallDisk.ts"
import { Arguments, freePort } from "./Chaos.ts"
import { Actor } from "./matrix/Actor.ts"
import { Balancer } from "./nodes/Balancer.ts"
import { complaintsAboutLog } from "./nodes/Logs.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-full-"))
const cache = process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

const PATIENCE_MS = 90_000

const until = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
  for (const deadline = Date.now() + PATIENCE_MS; !(await condition()); await delay(100)) {
    if (Date.now() > deadline) throw new Error(`Timed out waiting until ${what}`)
  }
}

const fileAway = createFunction(
  { id: "file-away", triggers: [{ event: "page.written" }] },
  async ({ event, step }) => step.run("file", () => String(Object(event.data).text).length)
)

describe("a Postgres whose disk is full", () => {
  // a small disk needs the right to mount a file system
  it.skipIf(!canHaveSmallDisk())(
    "is reported to clients, loses nothing, and continues when there is space",
    { timeout: 300_000 },
    async () => {
      const closing: Array<() => unknown> = []
      try {
        const disk = await makeSmallDisk(250)
        closing.push(() => disk.close())
        const server = await OwnServer.start(
          { settings: { max_wal_size: "48MB", min_wal_size: "32MB", shared_buffers: "16MB" } },
          path.join(disk.folder, "postgres")
        )
        closing.push(() => server.close())
        const port = await freePort()
        const node = new Actor(
          "node",
          "ironflow",
          () =>
            new Arguments(
              "serve",
              "--port",
              String(port),
              "--database-url",
              server.url,
              "--no-console",
              "--log-format",
              "json"
            ),
          () => 0,
          cache,
          { ready: "Ironflow listens", logs: true, patienceMs: 120_000 }
        )
        closing.push(() => node.kill())
        await node.start()
        const balancer = await Balancer.start([port])
        closing.push(() => balancer.close())
        const serverUrl = `http://127.0.0.1:${port}`
        const worker = createWorker({ serverUrl, functions: [fileAway], logger: false, reconnectDelay: 200 })
        const stopped = worker.start()
        closing.push(async () => {
          await worker.stop()
          await stopped
        })
        await worker.ready()
        const client = createClient({ serverUrl, timeout: 10_000 })
        closing.push(() => client.close())

        const accepted: Array<string> = []
        const errors: Array<unknown> = []
        /** Text that compresses badly. */
        const textOf = (n: number): string =>
          Array.from({ length: 6000 }, (_, i) => ((n + 1) * (i + 7919) * 2654435761).toString(36)).join("")
        let hasRoom = false
        const makeRoom = async (): Promise<void> => {
          if (hasRoom) return
          hasRoom = true
          disk.makeRoom()
          // if Postgres has ended, start it again, as a supervisor would
          if (await isReachable(server.url)) return
          await server.down("immediate")
          await server.up()
        }
        let n = 0
        const write = async (): Promise<void> => {
          const key = `p-${n++}`
          for (const deadline = Date.now() + PATIENCE_MS; ; await delay(200)) {
            try {
              const { eventId } = await client.emit(
                "page.written",
                { text: textOf(n) },
                { idempotencyKey: key }
              )
              accepted.push(eventId)
              return
            } catch (error) {
              errors.push(error)
              if (Date.now() > deadline) throw error
              if (errors.length >= 3 && balancer.probes[0]?.at(-1)?.health === "degraded") await makeRoom()
            }
          }
        }
        for (let i = 0; i < 5; i++) await write()
        assert.deepStrictEqual(errors, [])

        assert.isFalse(balancer.probes[0]?.some(({ health }) => health === "degraded"))
        disk.fill()
        // the write that finds the disk full repeats until there is room
        while (errors.length === 0) {
          if (n > 2000) throw new Error("The disk did not get full")
          await write()
        }
        for (let i = 0; i < 5; i++) await write()

        for (const error of errors) {
          assert.isTrue(Object(error).retryable || Object(error).name === "TimeoutError", String(error))
        }
        assert.isTrue(
          errors.some((error) => error instanceof StoreError && error.code === "STORE_UNAVAILABLE"),
          errors.map(String).join("\n")
        )
        const sql = async (text: string): Promise<ReadonlyArray<Record<string, unknown>>> => {
          const connection = new pg.Client({
            connectionString: server.url,
            options: "-c search_path=ironflow"
          })
          connection.on("error", () => undefined)
          await connection.connect()
          try {
            return (await connection.query(text)).rows
          } finally {
            await connection.end()
          }
        }
        await until(
          "all runs end",
          async () => (await sql("SELECT 1 FROM runs WHERE ended_at IS NULL")).length === 0
        )
        const stored = (await sql("SELECT id FROM events")).map(({ id }) => String(id))
        assert.sameMembers(stored, accepted)
        const runs = await sql("SELECT status, attempt FROM runs")
        assert.lengthOf(runs, accepted.length)
        assert.isTrue(runs.every(({ attempt }) => Number(attempt) === 1))
        await until("the node is healthy", () => balancer.probes[0]?.at(-1)?.health === "ok")
        await node.stop()
        assert.deepStrictEqual(node.record.faults, [])
        assert.deepStrictEqual(complaintsAboutLog("the node", node.record.log ?? ""), [])
      } finally {
        for (const close of closing.toReversed()) await close()
      }
    }
  )
})

const isReachable = async (url: string): Promise<boolean> => {
  for (let tries = 0; tries < 20; tries++) {
    const connection = new pg.Client({ connectionString: url })
    connection.on("error", () => undefined)
    try {
      await connection.connect()
      await connection.query("SELECT 1")
      return true
    } catch {
      await delay(200)
    } finally {
      await connection.end().catch(() => undefined)
    }
  }
  return false
}
