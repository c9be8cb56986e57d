/** `runs list`, with a server that is a process of its own: each filter, page after page, and following new runs. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { createClient, createFunction, createWorker } from "@ironflow/node"
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const charge = createFunction(
  {
    id: "charge",
    triggers: [{ event: "order.placed" }, { event: "order.changed" }],
    retry: { maxAttempts: 1 },
    searchBy: ["event.data.orderId"]
  },
  async ({ event, step }) => {
    if (event.data.amount > 100) throw Object.assign(new Error("Card declined"), { code: "DECLINED" })
    if (event.data.amount === 7) await step.waitForEvent("paid", { event: "order.paid", timeout: "1d" })
    return { charged: event.data.amount }
  }
)
const audit = createFunction({ id: "audit", triggers: [{ event: "order.placed" }] }, () => "seen")

const terminal = new Terminal()
let env: { readonly IRONFLOW_SERVER_URL: string }
let worker: ReturnType<typeof createWorker>
let working: Promise<void>
/** The runs of `charge`, by order. */
const runOf: { [orderId: string]: string } = {}
let between = ""

beforeAll(async () => {
  const port = await freePort()
  const serverUrl = `http://127.0.0.1:${port}`
  env = { IRONFLOW_SERVER_URL: serverUrl }
  await terminal.start(["serve", "--port", String(port)]).until("listens")
  worker = createWorker({ serverUrl, functions: [charge, audit], logger: false })
  working = worker.start()
  await worker.ready()
  const client = createClient({ serverUrl })
  const named = async (orderId: string, runIds: ReadonlyArray<string>) => {
    for (const id of runIds) {
      const run = await client.getRun(id)
      if (run.functionId !== "charge") await client.waitForRun(id)
      else runOf[orderId] = id
    }
  }
  const emit = async (name: string, orderId: string, amount: number, key?: string) => {
    const options = key === undefined ? {} : { idempotencyKey: key }
    await named(orderId, (await client.emit(name, { orderId, amount }, options)).runIds)
  }
  await emit("order.placed", "o-1", 1)
  await client.waitForRun(runOf["o-1"]!)
  await emit("order.placed", "o-2", 200, "key-2")
  await client.waitForRun(runOf["o-2"]!)
  between = new Date().toISOString()
  // the next run must be created later
  await vi.waitUntil(() => new Date().toISOString() > between)
  await emit("order.changed", "o-3", 7)
  await client.streams.append("order-4", {
    name: "order.changed",
    data: { orderId: "o-4", amount: 4 },
    entityType: "order"
  })
  const { runs } = await client.listRuns({ entityId: "order-4" })
  await named(
    "o-4",
    runs.map(({ id }) => id)
  )
  await client.waitForRun(runOf["o-4"]!)
  await vi.waitUntil(async () => (await client.getRun(runOf["o-3"]!)).status === "waiting", {
    timeout: 20_000
  })
  await client.close()
}, 60_000)
afterAll(async () => {
  await worker.stop()
  await working
  await terminal[Symbol.asyncDispose]()
})

const filters: ReadonlyArray<readonly [args: () => ReadonlyArray<string>, orders: ReadonlyArray<string>]> = [
  [() => ["--function", "charge"], ["o-4", "o-3", "o-2", "o-1"]],
  [() => ["--function", "charge", "--function", "absent"], ["o-4", "o-3", "o-2", "o-1"]],
  [() => ["--status", "failed"], ["o-2"]],
  [() => ["--status", "failed", "--status", "waiting"], ["o-3", "o-2"]],
  [() => ["--function", "charge", "--created-from", between], ["o-4", "o-3"]],
  [() => ["--function", "charge", "--created-to", between], ["o-2", "o-1"]],
  [() => ["--function", "charge", "--created-from", "1h", "--created-to", "30m"], []],
  [() => ["--function", "charge", "--ended-from", between], ["o-4"]],
  [() => ["--function", "charge", "--ended-to", between], ["o-2", "o-1"]],
  [() => ["--event", "order.changed"], ["o-4", "o-3"]],
  [() => ["--entity", "order-4"], ["o-4"]],
  [() => ["--function", "charge", "--idempotency-key", "key-2"], ["o-2"]],
  [() => ["--error", "card DECLINED"], ["o-2"]],
  [() => ["--attribute", "event.data.orderId=o-3"], ["o-3"]],
  [() => ["--where", "event.data.amount > 3", "--function", "charge"], ["o-4", "o-3", "o-2"]],
  [() => ["--where", "output.charged == 1"], ["o-1"]]
]

it("runs are listed by each filter", { timeout: 120_000 }, async () => {
  for (const [args, orders] of filters) {
    const { runs } = await jsonHere(["runs", "list", ...args()], { env })
    assert.deepStrictEqual(
      runs.map(({ id }: { id: string }) => id),
      orders.map((orderId) => runOf[orderId]),
      args().join(" ")
    )
  }
  const shown = await terminal.run(["runs", "list", "--error", "declined"], { env })
  assert.match(
    shown.stdout,
    /^RUN +FUNCTION +STATUS +CREATED +ENDED AFTER\nrun_\w+ +charge +failed +\S+Z +\S+\n$/
  )
  const none = await runHere(["runs", "list", "--entity", "order-5"], { env })
  assert.strictEqual(none.stdout, "There are no such runs.\n")
})

it("pages of matching runs continue at their cursor", { timeout: 60_000 }, async () => {
  const args = ["runs", "list", "--event", "order.changed", "--limit", "1"]
  const first = await runHere(args, { env })
  const [, cursor = ""] = /There are more; the next page: --cursor (\S+)/.exec(first.stdout) ?? []
  assert.include(first.stdout, runOf["o-4"]!)
  const second = await runHere([...args, "--cursor", cursor], { env })
  assert.include(second.stdout, runOf["o-3"]!)
  assert.notInclude(second.stdout, "--cursor")
  const other = await runHere(["runs", "list", "--event", "order.placed", "--cursor", cursor], { env })
  assert.strictEqual(other.code, 2, other.stderr)
  assert.include(other.stderr, "belongs to a list with other filters")
})

it("the next page of a relative time continues from the same time", { timeout: 60_000 }, async () => {
  const args = ["runs", "list", "--event", "order.changed", "--limit", "1"]
  const first = await runHere([...args, "--created-from", "1h"], { env })
  const [, more = ""] = /the next page: (--created-from \S+Z --cursor \S+)\n/.exec(first.stdout) ?? []
  const second = await runHere([...args, ...more.split(" ")], { env })
  assert.include(second.stdout, runOf["o-3"]!, second.stderr)
})

it("a search by expression continues past pages that a server ends early", { timeout: 60_000 }, async () => {
  const run = (n: number) => ({
    id: `run_${n}`,
    functionId: "charge",
    status: "RUN_STATUS_COMPLETED",
    createdAt: "2026-01-31T12:00:00.000Z"
  })
  const pages: ReadonlyArray<object> = [
    { runs: [], totalCount: 0, isTotalExact: false, nextCursor: "c-1", lookedBackTo: "2026-01-31T12:00:03Z" },
    {
      runs: [run(1)],
      totalCount: 1,
      isTotalExact: false,
      nextCursor: "c-2",
      lookedBackTo: "2026-01-31T12:00:02Z"
    },
    { runs: [run(2)], totalCount: 2, isTotalExact: false, nextCursor: "c-3" }
  ]
  const asked: Array<unknown> = []
  const server = createServer((request, response) => {
    const chunks: Array<Buffer> = []
    request.on("data", (chunk: Buffer) => chunks.push(chunk))
    request.on("end", () => {
      const isList = request.url?.endsWith("/ListRuns") === true
      const body = isList ? JSON.parse(Buffer.concat(chunks).toString()) : undefined
      if (isList) asked.push([body.cursor, body.limit])
      const page = pages[["c-1", "c-2"].indexOf(body?.cursor) + 1]
      response.setHeader("content-type", "application/json")
      response.end(JSON.stringify(isList ? page : { status: "ok", version: "0.8.0" }))
    })
  })
  const port = await new Promise<number>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port))
  )
  const slow = { env: { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` } }
  const where = ["runs", "list", "--where", "event.data.amount > 3"]
  try {
    const all = await runHere([...where, "--limit", "2"], slow)
    assert.match(
      all.stdout,
      /\nrun_1 [^]*\nrun_2 [^]*\nThere are more; the next page: --cursor c-3\n$/,
      all.stderr
    )
    assert.deepStrictEqual(asked.splice(0), [
      [undefined, 2],
      ["c-1", 2],
      ["c-2", 1]
    ])
    const one = await runHere([...where, "--time-limit", "0"], slow)
    assert.match(
      one.stdout,
      /^There are no such runs so far\.\nSearched back to \S+; the next page: --cursor c-1\n$/
    )
    assert.lengthOf(asked, 1)
    const odd = await runHere([...where, "--time-limit", "-1"], slow)
    assert.strictEqual(odd.code, 2)
  } finally {
    server.closeAllConnections()
    server.close()
  }
})

it("new matching runs are followed", { timeout: 60_000 }, async () => {
  const failed = terminal.start(["runs", "list", "--status", "failed", "--follow"], { env })
  const ofEvent = terminal.start(["runs", "list", "--event", "order.changed", "--follow", "--json"], { env })
  await failed.until(`${runOf["o-2"]}  charge  failed`)
  await ofEvent.until(`"id":"${runOf["o-4"]}"`)

  const emit = (name: string, data: object) => jsonHere(["emit", name, JSON.stringify(data)], { env })
  const { runIds: changed } = await emit("order.changed", { orderId: "o-5", amount: 5 })
  const { runIds: declined } = await emit("order.changed", { orderId: "o-6", amount: 600 })
  await ofEvent.until(`"id":"${changed[0]}"`)
  await ofEvent.until(`"id":"${declined[0]}"`)
  await failed.until(`${declined[0]}  charge  failed`)

  assert.notInclude(failed.output(), changed[0])
  // each run once, oldest first
  const ids = ofEvent
    .output()
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).id)
  assert.deepStrictEqual(ids, [runOf["o-3"], runOf["o-4"], changed[0], declined[0]])
  for (const running of [failed, ofEvent]) running.signal("SIGINT")
  for (const { code } of await Promise.all([failed.ended, ofEvent.ended])) assert.strictEqual(code, 0)
})

it("invalid use of `runs list` is refused", { timeout: 60_000 }, async () => {
  for (const [args, message] of [
    [["--where", "event.data.amount >"], "Invalid CEL expression"],
    [
      ["--attribute", "nothing"],
      '--attribute takes a path and its value, as in event.data.orderId=o-17, got "nothing"'
    ],
    [
      ["--attribute", "event.data.total=1"],
      "no function has this path in `searchBy`: use event.data.orderId"
    ],
    [["--created-from", "soon"], "--created-from takes how long ago, such as 30m, 12h or 7d, or an ISO time"],
    [["--ended-to", "2026-02-30"], "--ended-to takes how long ago"],
    [["--where", ""], "--where is empty"],
    [["--cursor", ""], "--cursor is empty: give it a value, or leave it out"],
    [
      ["--cursor", "x"],
      'Cursor "x" is not one that this command printed: take the cursor of the previous page.'
    ],
    [["--follow", "--cursor", "x"], "--follow begins with the newest runs: leave --cursor out"]
  ] as const) {
    const ended = await runHere(["runs", "list", ...args], { env })
    assert.strictEqual(ended.code, 2, ended.stderr)
    assert.include(ended.stderr, message)
  }
})
