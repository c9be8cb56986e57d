/**
 * Lists that grow with names that callers choose. They come in pages, one answer has a limit, and no list delays other
 * requests.
 */
import fs from "node:fs"
import os from "node:os"
import path from "node:path"
import process from "node:process"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { DatabaseSync } from "node:sqlite"
import { createClient, createFunction, createSubscriptionClient } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { afterAll, afterEach, assert, beforeAll, describe, it } from "vitest"
import * as Limits from "../../src/Limits.ts"
import { type Ironflow, start } from "../wire/Ironflow.ts"
import { send } from "../wire/RawClient.ts"

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const MANY = 60_000

/** How long this process has waited for a processor so far: the machine causes that, not the code. */
const waitedForProcessorMs = (): number => {
  const file = `/proc/self/task/${process.pid}/schedstat`
  return fs.existsSync(file) ? Number(fs.readFileSync(file, "utf8").split(" ")[1]) / 1e6 : 0
}

const pubSub = "/ironflow.v1.PubSubService"

/** A database with very many topics, buckets and other things that callers name. */
const makeFile = async (): Promise<{ readonly folder: string; readonly filename: string }> => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-lists-"))
  const filename = path.join(folder, "many.db")
  await (await startEngine({ filename, logger: false })).close()
  const db = new DatabaseSync(filename)
  const at = Date.now()
  db.exec("BEGIN")
  db.exec("INSERT OR IGNORE INTO environments (key, name) VALUES (1, 'default')")
  const rows = {
    event: db.prepare(
      "INSERT INTO events (position, environment, kind, id, name, version, data, timestamp) VALUES (?, 1, 1, ?, ?, 1, '{}', ?)"
    ),
    topic: db.prepare("INSERT INTO topics VALUES (1, ?, 1, 2, ?)"),
    bucket: db.prepare(
      "INSERT INTO kv_buckets (environment, name, description, ttl_ms, max_value_bytes, history, revision, created_at) VALUES (1, ?, ?, ?, 1024, 1, 1, ?)"
    ),
    secret: db.prepare("INSERT INTO secrets VALUES (1, ?, 'v1.a.b.c', ?, ?)"),
    group: db.prepare(
      "INSERT INTO consumer_groups (environment, namespace, name, pattern, kind, names, cursor, used_at, created_at) VALUES (1, 'default', ?, ?, 1, ?, 0, ?, ?)"
    ),
    projection: db.prepare(
      `INSERT INTO projections (environment, name, mode, events, created_at, updated_at) VALUES (1, ?, 'managed', '["order.placed"]', ?, ?)`
    )
  }
  const long = "x".repeat(220)
  for (let i = 0; i < MANY; i++) {
    const name = `${long}-${i}`
    rows.event.run(i + 1, `msg_${String(i).padStart(25, "0")}`, name, at)
    rows.topic.run(name, i + 1)
    rows.bucket.run(`b-${i}`, long, i % 2 === 0 ? 60_000 : null, at)
    rows.secret.run(name, at, at)
    rows.group.run(`g-${i}`, `t-${i % 1000}`, `t-${i % 1000}`, at, at)
    rows.projection.run(name, at, at)
  }
  db.exec("COMMIT")
  db.close()
  return { folder, filename }
}

describe("very many names", () => {
  let file: Awaited<ReturnType<typeof makeFile>>
  let server: Ironflow
  beforeAll(async () => {
    file = await makeFile()
    server = await start({ filename: file.filename })
  }, 120_000)
  afterAll(async () => {
    await server.close()
    fs.rmSync(file.folder, { recursive: true, force: true })
  })

  /**
   * The answer as text, and the longest time in which the server did nothing else. Does not parse the text, because that would
   * count too.
   */
  const timed = async (method: string, path: string, body?: string) => {
    const before = waitedForProcessorMs()
    const delays = monitorEventLoopDelay({ resolution: 5 })
    delays.enable()
    const response = await fetch(server.url + path, {
      method,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body })
    })
    const text = await response.text()
    delays.disable()
    return { status: response.status, text, longestMs: delays.max / 1e6 - (waitedForProcessorMs() - before) }
  }

  const lists = [
    ["topics", "POST", `${pubSub}/ListTopics`, "{}"],
    ["secrets", "GET", "/api/v1/secrets", undefined],
    ["buckets", "GET", "/api/v1/kv/buckets", undefined],
    ["projections", "GET", "/api/v1/projections", undefined]
  ] as const

  it.each(lists)("%s come in pages, with each name once", async (list, method, path, body) => {
    const names = new Set<string>()
    let rows = 0
    let cursor: string | undefined
    // later pages are read like the first ones, so a few are enough
    for (let pages = 0; pages < 5 || cursor === undefined; pages++) {
      const query = `?limit=200${cursor === undefined ? "" : `&cursor=${encodeURIComponent(cursor)}`}`
      const answer = await timed(method, path + query, body)
      assert.strictEqual(answer.status, 200, answer.text.slice(0, 300))
      const page = JSON.parse(answer.text)
      for (const { name } of page[list]) names.add(name)
      rows += page[list].length
      assert.lengthOf(page[list], 200)
      cursor = page.nextCursor
      assert.isString(cursor)
    }
    assert.strictEqual(names.size, rows)
  })

  it.each(lists)(
    "%s without a limit are refused with a hint to pages, and delay no other request",
    async (_list, method, path, body) => {
      const { longestMs, status, text } = await timed(method, path, body)

      assert.strictEqual(status, 400)
      assert.match(text, /more than 16777216 characters\. Ask for it in pages, with `limit`/)
      assert.isBelow(longestMs, 400)
    }
  )

  it.each([
    ["the lag of a topic", "POST", `${pubSub}/GetTopicStats`, '{"topic":"t-1"}'],
    ["a page of groups", "GET", "/api/v1/consumer-groups?limit=50", undefined],
    ["one secret", "GET", `/api/v1/secrets/${"x".repeat(220)}-7`, undefined],
    ["metrics", "GET", "/metrics", undefined],
    ["health", "GET", "/health", undefined]
  ])("%s delays no other request", async (_name, method, path, body) => {
    const { longestMs, status, text } = await timed(method, path, body)

    assert.strictEqual(status, 200, text.slice(0, 300))
    assert.isBelow(longestMs, 200)
  })

  it("the client reads all of a list", async () => {
    await using client = createClient({ serverUrl: server.url })

    assert.lengthOf(await client.listTopics(), MANY)
    assert.lengthOf(await client.secrets.list(), MANY)
  })
})

describe("events with large data", () => {
  const streams = "/ironflow.v1.EntityStreamService"

  it("of a stream are read in pages, and refused as one answer", async () => {
    const { close, url } = await start()
    cleanups.push(close)
    await using client = createClient({ serverUrl: url })
    const note = "n".repeat(900_000)
    for (let i = 1; i <= 20; i++) {
      await client.streams.append("o-1", { name: "order.noted", data: { i, note }, entityType: "order" })
    }

    for (const limit of [0, 20]) {
      const refused = await send(url, "POST", `${streams}/ReadStream`, { entity_id: "o-1", limit })
      assert.strictEqual(refused.status, 400)
      assert.match(
        refused.text,
        /stream \\"o-1\\" is too large: more than 16777216 characters\. Read the stream in pages/
      )
    }
    const part = await send(url, "POST", `${streams}/ReadStream`, { entity_id: "o-1", limit: 5 })
    assert.lengthOf(part.body.events, 5)

    const versions = async (options?: object) =>
      (await client.streams.read("o-1", options)).events.map(({ entityVersion }) => entityVersion)
    const all = Array.from({ length: 20 }, (_, i) => i + 1)
    assert.deepStrictEqual(await versions(), all)
    assert.deepStrictEqual(await versions({ limit: 19 }), all.slice(0, 19))
    assert.deepStrictEqual(await versions({ direction: "backward" }), all.toReversed())
    assert.deepStrictEqual(await versions({ fromVersion: 3, limit: 18 }), all.slice(2))

    const history = await send(url, "POST", `${streams}/GetEntityHistory`, { entity_id: "o-1" })
    assert.strictEqual(history.status, 200)
    assert.isBelow(history.text.length, 4 * 1024 * 1024)
    assert.strictEqual(history.body.nextCursor, String(history.body.entries.length + 1))
  }, 30_000)
})

describe("steps with long results", () => {
  it("come in pages, are refused as one answer, and the client reads them all", async () => {
    const step = createFunction({ id: "long", triggers: [{ event: "long.wanted" }] }, async ({ step }) => {
      for (let i = 0; i < 5; i++) await step.run(`s-${i}`, () => "r".repeat(3_900_000))
    })
    const engine = await startEngine({
      filename: ":memory:",
      logger: false,
      listen: { port: 0 },
      functions: [step]
    })
    cleanups.push(() => engine.close())
    const url = engine.url ?? ""
    const { runIds } = await engine.client.emit("long.wanted", {})
    const [runId = ""] = runIds
    assert.strictEqual((await engine.client.waitForRun(runId)).status, "completed")

    const all = await send(url, "GET", `/api/v1/runs/${runId}/steps`)
    assert.strictEqual(all.status, 400)
    assert.match(all.text, /list of all steps .*more than 16777216 characters/)

    const names: Array<string> = []
    for (let cursor: string | undefined = ""; cursor !== undefined;) {
      const page = await send(url, "GET", `/api/v1/runs/${runId}/steps?limit=10&cursor=${cursor}`)
      assert.strictEqual(page.status, 200, page.text.slice(0, 300))
      names.push(...page.body.steps.map(({ name }: { readonly name: string }) => name))
      cursor = page.body.nextCursor
    }
    assert.deepStrictEqual(names, ["s-0", "s-1", "s-2", "s-3", "s-4"])
    await using client = createClient({ serverUrl: url })
    assert.deepStrictEqual(
      (await client.getRunSteps(runId)).map(({ name }) => name),
      names
    )
  }, 30_000)
})

describe("environments", () => {
  it("are limited to 10,000, and existing ones continue to work", async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "ironflow-lists-"))
    cleanups.push(() => fs.rmSync(folder, { recursive: true, force: true }))
    const filename = path.join(folder, "many.db")
    await (await startEngine({ filename, logger: false })).close()
    const db = new DatabaseSync(filename)
    db.exec("BEGIN")
    const insert = db.prepare("INSERT INTO environments (name) VALUES (?)")
    for (let i = 0; i < Limits.environments; i++) insert.run(`env-${i}`)
    db.exec("COMMIT")
    db.close()
    const { close, url } = await start({ filename })
    cleanups.push(close)
    const emit = (environment: string) =>
      send(
        url,
        "POST",
        "/ironflow.v1.IronflowService/Emit",
        { event: "order.placed", data: {} },
        { "content-type": "application/json", "x-ironflow-environment": environment }
      )

    const refused = await emit("one-more")

    assert.strictEqual(refused.status, 400)
    assert.match(refused.text, /number of environments, .*limit is 10000 environments/)
    assert.strictEqual((await emit("env-77")).status, 200)
  })

  it("are forgotten when they have no subscribers any more", async () => {
    const { close, url } = await start()
    cleanups.push(close)
    for (let i = 0; i < 20; i++) {
      const client = createSubscriptionClient({ serverUrl: url, environment: `env-${i}` })
      await client.connect()
      await client.subscribe("system.>", { onEvent: () => undefined })
      await client.subscribe("events:>", { onEvent: () => undefined })
      await client.close()
    }
    // a client that comes back receives new events
    const received: Array<string> = []
    const client = createSubscriptionClient({ serverUrl: url, environment: "env-3" })
    cleanups.push(() => client.close())
    await client.connect()
    const first = new Promise<void>((resolve, reject) => {
      client
        .subscribe("events:>", {
          onEvent: ({ topic }) => {
            received.push(topic)
            resolve()
          }
        })
        .then(
          () =>
            send(
              url,
              "POST",
              "/ironflow.v1.IronflowService/Emit",
              { event: "order.placed", data: {} },
              { "content-type": "application/json", "x-ironflow-environment": "env-3" }
            ),
          reject
        )
        .catch(reject)
    })
    await first
    assert.deepStrictEqual(received, ["order.placed"])
  })
})
