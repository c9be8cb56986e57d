/** A whole engine on Postgres: embedded, with both APIs, and as a command. */
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import {
  createClient,
  createFunction,
  type FailedRun,
  type HookCall,
  NonRetryableError,
  verifyHook
} from "../../../src/index.ts"
import { type IronflowEngine, startEngine } from "../../../src/engine.ts"
import { ValidationError } from "../../../src/Errors.ts"
import { layerPostgres, runSql } from "../../postgres/Schemas.ts"
import { sharedUrl } from "../../postgres/Server.ts"
import { listen } from "../../Serve/Hosts.ts"
import { freePort, Terminal } from "../../Cli/Terminal.ts"
import { engineScenarios } from "./ThreadEngine.ts"

describe("an engine on Postgres", () => engineScenarios(layerPostgres))

const schema = `engine_${process.pid}`
let databaseUrl: string

beforeAll(async () => {
  databaseUrl = await sharedUrl()
})
afterAll(() => runSql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`))

const charged: Array<string> = []
const order = createFunction(
  { id: "order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    await step.run("charge", () => void charged.push(event.data.id))
    const { data } = await step.waitForEvent("paid", { event: "order.paid", match: "data.id", timeout: "1h" })
    return data.amount
  }
)

const start = (): Promise<IronflowEngine> =>
  startEngine({ databaseUrl, databaseSchema: schema, functions: [order], logger: false })

describe("startEngine({ databaseUrl })", () => {
  it("continues after a restart where it was, and repeats no finished step", async () => {
    const first = await start()
    const { runIds } = await first.client.emit("order.placed", { id: "o-1" })
    const runId = runIds[0] ?? ""
    while ((await first.client.getRun(runId)).status !== "waiting") await new Promise(setImmediate)
    await first.close()

    const second = await start()
    try {
      await second.client.emit("order.paid", { id: "o-1", amount: 42 })
      const { output } = await second.client.waitForRun(runId)
      assert.strictEqual(output, 42)
      assert.deepStrictEqual(charged, ["o-1"])
    } finally {
      await second.close()
    }
  })

  it("may run beside other engines, and knows their commits", async () => {
    const first = await start()
    const second = await startEngine({ databaseUrl, databaseSchema: schema, logger: false })
    try {
      const { runIds } = await second.client.emit("order.placed", { id: "o-2" })
      await first.client.emit("order.paid", { id: "o-2", amount: 7 })
      const { output } = await second.client.waitForRun(runIds[0] ?? "", { timeout: 20_000 })
      assert.strictEqual(output, 7)
    } finally {
      await first.close()
      await second.close()
    }
  })

  it("runs failure handlers, calls hooks, and starts functions whose trigger is a system event", async () => {
    const calls: Array<HookCall> = []
    const secret = "secret-of-the-hooks-on-postgres"
    const receiver = await listen(async (request, response) => {
      const chunks: Array<Buffer> = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      calls.push(verifyHook({ headers: request.headers, body: Buffer.concat(chunks) }, secret))
      // the first call fails
      response.writeHead(calls.length === 1 ? 500 : 204).end()
    })
    const fails = createFunction(
      { id: "charge", triggers: [{ event: "order.charged" }], onFailure: ({ event }) => event.data },
      async ({ step }) => {
        await step.run("reserve", async () => "r-1")
        throw new NonRetryableError("declined")
      }
    )
    const alarm = createFunction(
      { id: "alarm", triggers: [{ event: "system.function.*.failing" }] },
      ({ event }) => event.data.failed
    )
    const engine = await startEngine({
      databaseUrl,
      databaseSchema: `${schema}_hooks`,
      functions: [fails, alarm],
      hooks: [{ url: receiver.url, secret, on: ["run.failed"], retry: { initialDelayMs: 10 } }],
      failing: { runs: 1 },
      push: { allowPrivateNetworks: true },
      logger: false
    })
    try {
      const { client } = engine
      const { runIds } = await client.emit("order.charged", { id: "o-1" })
      const outputOf = (functionId: string) =>
        vi.waitFor(
          async () => {
            const { runs } = await client.listRuns({ functionId, status: "completed" })
            assert.lengthOf(runs, 1)
            return (await client.getRun(runs[0]!.id)).output
          },
          { timeout: 20_000 }
        )
      const told = (await outputOf("charge/on-failure")) as FailedRun
      assert.strictEqual(told.runId, runIds[0])
      assert.deepStrictEqual(told.event.data, { id: "o-1" })
      assert.deepStrictEqual(
        told.steps.map(({ name, output }) => [name, output]),
        [["reserve", "r-1"]]
      )
      assert.strictEqual(await outputOf("alarm"), 1)
      await vi.waitFor(() => assert.lengthOf(calls, 2), { timeout: 20_000 })
      assert.strictEqual(calls[0]!.id, calls[1]!.id)
    } finally {
      await engine.close()
      await receiver.close()
      await runSql(`DROP SCHEMA IF EXISTS ${schema}_hooks CASCADE`)
    }
  })

  it("runs bulk operations, explains events, and deletes old events", async () => {
    const greet = createFunction(
      {
        id: "greet",
        triggers: [{ event: "guest.came", expression: "event.data.name != 'Eve'" }],
        searchBy: ["event.data.name"]
      },
      async ({ event, step }) => {
        if (event.data.waits) await step.waitForEvent("go on", { event: "guest.left", timeout: "1d" })
      }
    )
    const options = {
      databaseUrl,
      databaseSchema: `${schema}_many`,
      functions: [greet],
      logger: false
    } as const
    const first = await startEngine(options)
    try {
      const { client } = first
      const done = async (...operation: Parameters<typeof client.bulk>) =>
        client.waitForBulk((await client.bulk(...operation)).id, { timeout: 30_000 })
      await client.emit("unheard", {})
      for (let i = 0; i < 60; i++) await client.emit("guest.came", { name: "Ada", waits: true })
      const { eventId } = await client.emit("guest.came", { name: "Eve" })
      const { eventId: started } = await client.emit("guest.came", { name: "Bob" })
      const ada = { attributes: { "event.data.name": "Ada" } }
      assert.deepInclude(await done("cancel", { ...ada, where: "event.data.waits" }, { dryRun: true }), {
        done: 60
      })
      assert.deepInclude(await done("cancel", ada), { done: 60, matched: 60, skipped: {} })
      assert.deepInclude(await done("rerun", ada), { done: 60, matched: 60 })
      assert.deepInclude(await done("pause", { ...ada, status: ["pending", "running", "waiting"] }), {
        skipped: {}
      })
      assert.deepInclude(await done("delete", { ...ada, status: "cancelled" }), { done: 60, skipped: {} })
      assert.strictEqual((await client.listBulk()).length, 5)
      assert.strictEqual((await client.explainEvent(eventId)).functions[0]?.code, "EXPRESSION_FALSE")
      assert.strictEqual((await client.explainEvent(started)).functions[0]?.code, "STARTED")
    } finally {
      await first.close()
    }
    const second = await startEngine({ ...options, maxEventBytes: 1 })
    try {
      // the event of the oldest remaining run stays, and so do all later events
      let names: ReadonlyArray<string> = []
      do {
        const { events } = await second.client.listEvents({ order: "oldest", limit: 1000 })
        names = events.map(({ name }) => name)
      } while (names.includes("unheard"))
      assert.strictEqual(names.length, 62)
    } finally {
      await second.close()
      await runSql(`DROP SCHEMA IF EXISTS ${schema}_many CASCADE`)
    }
  })

  it("shows the logs of its runs, its events and its metrics", async () => {
    const greet = createFunction(
      { id: "greet", triggers: [{ event: "guest.came" }] },
      async ({ logger }) => void logger.info("good morning")
    )
    const engine = await startEngine({
      databaseUrl,
      databaseSchema: `${schema}_seen`,
      functions: [greet],
      listen: { port: 0 },
      logger: false
    })
    try {
      const { runIds } = await engine.client.emit("guest.came", {})
      await engine.client.waitForRun(runIds[0] ?? "")
      const lines = await engine.client.getRunLogs(runIds[0] ?? "")
      assert.deepStrictEqual(
        lines.map(({ message }) => message),
        ["good morning"]
      )
      assert.lengthOf((await engine.client.listEvents({ name: "guest.*" })).events, 1)
      const figures = await (await fetch(`${engine.url}/metrics`)).text()
      assert.match(figures, /ironflow_function_runs_total\{.*function="greet",what="completed"\} 1$/m)
      assert.match(figures, /^ironflow_database_bytes [1-9]/m)
      assert.match(figures, /^ironflow_invariant_violations_total 0$/m)
    } finally {
      await engine.close()
    }
  })

  it("takes either a file or a database URL, and the URL must be valid", async () => {
    const failure = (options: Parameters<typeof startEngine>[0]) =>
      startEngine({ ...options, logger: false }).then(
        () => undefined,
        (error: unknown) => error as Error
      )
    const both = await failure({ databaseUrl, filename: "orders.db" })
    assert.instanceOf(both, ValidationError)
    assert.include(both.message, "`databaseUrl` or `filename`, not both")
    const wrong = await failure({ databaseUrl: "orders.db" })
    assert.instanceOf(wrong, ValidationError)
    assert.include(wrong.message, "postgres://user:password@host:5432/database")
  })
})

describe("ironflow serve --database-url", () => {
  const functions = `
import { createFunction } from "@ironflow/node"

export const ship = createFunction({ id: "ship", triggers: [{ event: "parcel.packed" }] }, async ({ event, step }) => {
  const label = await step.run("print label", () => "label " + event.data.id)
  await step.sleep("cool off", "20ms")
  return label
})
`
  it("serves workers and clients, and the next engine continues unfinished runs, also after a kill", async () => {
    await using terminal = new Terminal({ "functions.ts": functions })
    const name = `${schema}_cli`
    const env = { IRONFLOW_DATABASE_URL: databaseUrl }
    const migrated = await terminal.json(["migrate", "--database-schema", name], { env })
    assert.strictEqual(migrated.from, 0)
    assert.isAbove(migrated.to, 0)
    const port = await freePort()
    const url = `http://127.0.0.1:${port}`
    const serve = () => terminal.start(["serve", "--port", String(port), "--database-schema", name], { env })
    const first = serve()
    try {
      await first.until(`Ironflow listens at ${url}, data in Postgres`)
      const client = createClient({ serverUrl: url })
      const worker = terminal.start(["worker", "functions.ts"], { env: { IRONFLOW_SERVER_URL: url } })
      await worker.until("runs ship for")
      const one = await client.emit("parcel.packed", { id: "p-1" })
      assert.strictEqual((await client.waitForRun(one.runIds[0] ?? "")).output, "label p-1")

      first.signal("SIGKILL")
      await first.ended
      const second = serve()
      await second.until(`Ironflow listens at ${url}`)
      assert.strictEqual((await client.getRun(one.runIds[0] ?? "")).output, "label p-1")
      const two = await client.emit("parcel.packed", { id: "p-2" })
      assert.strictEqual((await client.waitForRun(two.runIds[0] ?? "")).output, "label p-2")
      await client.close()
      worker.signal("SIGTERM")
      await worker.ended
      second.signal("SIGTERM")
      await second.ended
    } finally {
      await runSql(`DROP SCHEMA IF EXISTS ${name} CASCADE`)
    }
  })

  it("explains what is wrong in one line", async () => {
    await using terminal = new Terminal()
    const { code, stderr } = await terminal.run(["serve", "--database-url", "postgres://127.0.0.1:1/orders"])
    assert.notStrictEqual(code, 0)
    assert.include(stderr, "Check the host and port in the database URL, and that Postgres is running")
    const both = await terminal.run([
      "serve",
      "--database-url",
      "postgres://127.0.0.1:1/orders",
      "--data",
      "a.db"
    ])
    assert.include(both.stderr, "Give --database-url or --data, not both")
    const none = await terminal.run(["migrate"])
    assert.include(none.stderr, "IRONFLOW_DATABASE_URL")
  })
})
