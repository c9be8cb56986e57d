/**
 * Two engines on a Postgres whose standby takes over. With `synchronous_standby_names` nothing acknowledged is lost.
 * Without it, the engines notice that the last commits are missing, drop what they have cached of them, and reuse no
 * number and no id.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { setTimeout as delay } from "node:timers/promises"
import { createClient, createFunction, createWorker, type IronflowClient } from "@ironflow/node"
import * as Effect from "effect/Effect"
import pg from "pg"
import { examinePostgres } from "../../src/Engine/Doctor/OfflineChecks.ts"
import { afterAll, assert, describe, it } from "vitest"
import { OwnServer } from "../postgres/Server.ts"
import { Arguments, freePort } from "./Chaos.ts"
import { Actor } from "./matrix/Actor.ts"
import { Wire } from "./matrix/Wire.ts"
import { Balancer } from "./nodes/Balancer.ts"
import { complaintsAboutLog } from "./nodes/Logs.ts"

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-failover-"))
const cache = process.env.NODE_COMPILE_CACHE ?? path.join(folder, "cache")
afterAll(() => fs.rmSync(folder, { recursive: true, force: true }))

/** The longest wait for anything here, milliseconds: the machine may be busy. */
const PATIENCE_MS = 90_000

const until = async (what: string, condition: () => boolean | Promise<boolean>): Promise<void> => {
  for (const deadline = Date.now() + PATIENCE_MS; !(await condition()); await delay(50)) {
    if (Date.now() > deadline) throw new Error(`Timed out waiting until ${what}`)
  }
}

/** Repeats a request while the engine cannot answer it. Its errors have to say that they can be retried. */
const persist = async <A>(ask: () => Promise<A>): Promise<A> => {
  for (const deadline = Date.now() + PATIENCE_MS; ; await delay(50)) {
    try {
      return await ask()
    } catch (error) {
      const { code, name, retryable } = Object(error)
      const mayRetry =
        ["ConnectionError", "TimeoutError"].includes(name) || retryable === true || code === "CLOSING"
      if (!mayRetry || Date.now() > deadline) throw error
    }
  }
}

const order = createFunction(
  { id: "process-order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const charged = await step.run("charge", () => `charged ${String(Object(event.data).n)}`)
    await step.sleep("settle", "200ms")
    return step.run("ship", () => `${charged}, shipped`)
  }
)

interface Cluster {
  readonly primary: OwnServer
  readonly standby: OwnServer
  /** The replication connection between the two servers. */
  readonly stream: Wire
  readonly client: IronflowClient
  readonly balancer: Balancer
  readonly nodes: ReadonlyArray<Actor>
  /** Kills the primary and promotes the standby. */
  readonly failOver: () => Promise<void>
  readonly sql: (sql: string, server?: OwnServer) => Promise<ReadonlyArray<Record<string, unknown>>>
}

const withCluster = async (use: (cluster: Cluster) => Promise<void>): Promise<void> => {
  const closing: Array<() => unknown> = []
  try {
    const primary = await OwnServer.start()
    closing.push(() => primary.close())
    const stream = new Wire(() => primary.port)
    closing.push(() => stream.close())
    await stream.listen()
    const standby = await primary.follow(stream.port)
    closing.push(() => standby.close())
    let writes = primary
    const wires = await Promise.all(
      [0, 1].map(async () => {
        const wire = new Wire(() => writes.port)
        closing.push(() => wire.close())
        await wire.listen()
        return wire
      })
    )
    const ports = await Promise.all([freePort(), freePort()])
    const nodes = ports.map(
      (port, which) =>
        new Actor(
          `node-${which}`,
          "ironflow",
          () =>
            new Arguments(
              "serve",
              "--port",
              String(port),
              "--no-console",
              "--log-format",
              "json",
              "--lease-term",
              "3s",
              "--database-url",
              `postgres://postgres@127.0.0.1:${wires[which]!.port}/postgres`
            ),
          () => 0,
          cache,
          { ready: "Ironflow listens", logs: true, patienceMs: 120_000 }
        )
    )
    for (const node of nodes) closing.push(() => node.kill())
    await Promise.all(nodes.map((node) => node.start()))
    const balancer = await Balancer.start(ports)
    closing.push(() => balancer.close())
    const serverUrl = balancer.url
    const worker = createWorker({ serverUrl, functions: [order], logger: false, reconnectDelay: 200 })
    const stopped = worker.start()
    closing.push(async () => {
      await worker.stop()
      await stopped
    })
    await worker.ready()
    const client = createClient({ serverUrl, timeout: 5000 })
    closing.push(() => client.close())
    const sql = async (text: string, server: OwnServer = writes) => {
      const connection = new pg.Client({ connectionString: server.url, options: "-c search_path=ironflow" })
      connection.on("error", () => undefined)
      await connection.connect()
      try {
        return (await connection.query(text)).rows as ReadonlyArray<Record<string, unknown>>
      } finally {
        await connection.end()
      }
    }
    const failOver = async () => {
      await primary.down("killed")
      stream.set({ _tag: "cut" })
      await until("the nodes report that they cannot write", () =>
        balancer.probes.every(
          (probes) => probes.at(-1)?.ready === "degraded" && probes.at(-1)?.health === "degraded"
        )
      ).catch((cause: unknown) => {
        const logs = nodes.map(({ record }) => (record.log ?? "").slice(-2000))
        throw new Error(JSON.stringify({ probes: balancer.probes.map((probes) => probes.at(-1)), logs }), {
          cause
        })
      })
      await sql("SELECT pg_promote()", standby)
      writes = standby
    }
    await use({ primary, standby, stream, client, balancer, nodes, failOver, sql })
  } finally {
    for (const close of closing.toReversed()) await close()
  }
}

const emitAll = (client: IronflowClient, from: number, to: number) =>
  Promise.all(
    Array.from({ length: to - from }, (_, i) =>
      persist(() => client.emit("order.placed", { n: from + i }, { idempotencyKey: `o-${from + i}` }))
    )
  )

/** Waits until all runs have ended. Fails with the reasons of those that have not. */
const allEnd = async (client: IronflowClient, sql: Cluster["sql"]): Promise<void> => {
  const unfinished = () => sql("SELECT * FROM runs WHERE ended_at IS NULL")
  await until("all runs end", async () => (await unfinished()).length === 0).catch(async (error: unknown) => {
    const runs = (await unfinished()).slice(0, 3)
    const explanations = await Promise.all(runs.map(({ id }) => client.explain(String(id))))
    throw new Error(JSON.stringify({ runs, explanations }), { cause: error })
  })
}

const logOf = (nodes: ReadonlyArray<Actor>): string => nodes.map(({ record }) => record.log ?? "").join("")

describe("a standby that takes over", () => {
  it("has all acknowledged data when it is synchronous, and work continues on it", { timeout: 400_000 }, () =>
    withCluster(async ({ balancer, client, failOver, nodes, primary, sql, standby }) => {
      await sql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
      await sql("SELECT pg_reload_conf()")
      await until("the standby is synchronous", async () =>
        (await sql("SELECT sync_state FROM pg_stat_replication")).some(
          ({ sync_state }) => sync_state === "sync"
        )
      )
      const before = await emitAll(client, 0, 20)
      await until("the doctor sees on the standby which engines there are", async () => {
        const checks = await Effect.runPromise(examinePostgres({ url: standby.url }, false))
        return checks.some(({ message }) => message.startsWith("2 engines use the tables"))
      })
      const during = emitAll(client, 20, 60)
      await failOver()
      const after = await emitAll(client, 60, 80)
      const acknowledged = [...before, ...(await during), ...after]

      await allEnd(client, sql)
      const stored = new Set((await sql("SELECT id FROM events")).map(({ id }) => id))
      assert.deepStrictEqual(
        acknowledged.filter(({ eventId }) => !stored.has(eventId)),
        []
      )
      assert.lengthOf(new Set(acknowledged.map(({ eventId }) => eventId)), 80)
      const runs = await sql("SELECT id, status, attempt FROM runs")
      assert.lengthOf(runs, 80)
      assert.sameMembers(
        runs.map(({ id }) => String(id)),
        acknowledged.flatMap(({ runIds }) => runIds)
      )
      assert.isTrue(runs.every(({ attempt }) => Number(attempt) === 1))
      await until("the nodes are healthy", () =>
        balancer.probes.every((probes) => probes.at(-1)?.ready === "ready" && probes.at(-1)?.health === "ok")
      )
      await Promise.all(nodes.map((node) => node.stop()))
      assert.include(logOf(nodes), "Postgres is another server than before, and has everything")
      assert.notInclude(logOf(nodes), "had acknowledged are lost")
      assert.deepStrictEqual(complaintsAboutLog("the nodes", logOf(nodes)), [])
      assert.strictEqual(primary.pid, 0)
    })
  )

  it(
    "that lacks the last commits is noticed: lost data is dropped, and no number or id is reused",
    { timeout: 400_000 },
    () =>
      withCluster(async ({ balancer, client, failOver, nodes, sql, standby, stream }) => {
        const kept = await emitAll(client, 0, 10)
        await until(
          "the first runs have ended",
          async () => (await sql("SELECT 1 FROM runs WHERE ended_at IS NULL")).length === 0
        )
        const [{ at } = {}] = await sql("SELECT pg_current_wal_flush_lsn() AS at")
        await until(
          "the standby has the first runs",
          async () =>
            (await sql(`SELECT pg_last_wal_replay_lsn() >= '${String(at)}' AS has`, standby))[0]?.has === true
        )
        // the standby receives nothing from now on
        stream.set({ _tag: "deaf", towards: "both" })
        const gone = await emitAll(client, 10, 30)
        const [last] = await sql("SELECT max(position) AS position FROM events")
        await failOver()

        const again = await emitAll(client, 10, 30)
        const more = await emitAll(client, 30, 50)
        await allEnd(client, sql)

        const ids = [...kept, ...gone, ...again, ...more].flatMap(({ eventId, runIds }) => [
          eventId,
          ...runIds
        ])
        assert.lengthOf(new Set(ids), 2 * 70, "no id comes twice")
        const positions = await sql("SELECT id, position FROM events ORDER BY position")
        const keptIds = new Set(kept.map(({ eventId }) => eventId))
        assert.deepStrictEqual(
          positions.filter(
            ({ id, position }) => !keptIds.has(String(id)) && Number(position) <= Number(last?.position)
          ),
          [],
          "no position comes twice"
        )
        const stored = new Set(positions.map(({ id }) => String(id)))
        assert.isTrue([...kept, ...again, ...more].every(({ eventId }) => stored.has(eventId)))
        assert.isTrue(gone.every(({ eventId }) => !stored.has(eventId)))
        const runs = await sql("SELECT status, attempt FROM runs")
        assert.lengthOf(runs, 50)
        assert.isTrue(runs.every(({ attempt }) => Number(attempt) === 1))
        await until("the nodes are healthy", () =>
          balancer.probes.every(
            (probes) => probes.at(-1)?.ready === "ready" && probes.at(-1)?.health === "ok"
          )
        )
        await Promise.all(nodes.map((node) => node.stop()))
        assert.include(logOf(nodes), "the last commits that Postgres had acknowledged are lost")
        assert.deepStrictEqual(complaintsAboutLog("the nodes", logOf(nodes)), [])
      })
  )
})
