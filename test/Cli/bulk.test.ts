/**
 * Commands on many runs, such as `runs cancel`, and `bulk list|get|cancel`, with a server that is a process of its own and
 * may be killed.
 */
import { createClient, createFunction, createWorker, type IronflowClient } from "@ironflow/node"
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, type Running, Terminal } from "./Terminal.ts"

const charge = createFunction(
  { id: "charge", triggers: [{ event: "order.placed" }], retry: { maxAttempts: 1 } },
  async ({ event, step }) => {
    if (event.data.amount > 100) throw Object.assign(new Error("Card declined"), { code: "DECLINED" })
    if (event.data.amount === 7) await step.waitForEvent("paid", { event: "order.paid", timeout: "1d" })
    return { charged: event.data.amount }
  }
)

const terminal = new Terminal()
let port: number
let server: Running
let env: { readonly IRONFLOW_SERVER_URL: string }
let client: IronflowClient
let worker: ReturnType<typeof createWorker>
let working: Promise<void>

const serve = async () => {
  server = terminal.start(["serve", "--port", String(port), "--data", "bulk.db"])
  await server.until("listens")
}

beforeAll(async () => {
  port = await freePort()
  const serverUrl = `http://127.0.0.1:${port}`
  env = { IRONFLOW_SERVER_URL: serverUrl }
  await serve()
  worker = createWorker({ serverUrl, functions: [charge], logger: false })
  working = worker.start()
  await worker.ready()
  client = createClient({ serverUrl })
}, 60_000)
afterAll(async () => {
  await worker.stop()
  await working
  await client.close()
  await terminal[Symbol.asyncDispose]()
})

let marks = 0
/** Emits orders, and returns an expression that finds their runs. */
const ordersOf = async (...amounts: ReadonlyArray<number>) => {
  const mark = `mark-${++marks}`
  const ids: Array<string> = []
  for (let i = 0; i < amounts.length; i += 500) {
    const events = amounts
      .slice(i, i + 500)
      .map((amount) => ({ event: "order.placed", data: { amount, mark } }))
    for (const { runIds } of await client.emitMany(events)) ids.push(runIds[0]!)
  }
  await vi.waitUntil(
    async () => {
      const { runs } = await client.listRuns({ status: ["pending", "running"], limit: 1 })
      return runs.length === 0
    },
    { timeout: 60_000 }
  )
  return { ids, filter: ["--where", `event.data.mark == '${mark}'`, "--function", "charge"] }
}
const run = (args: ReadonlyArray<string>, input?: string) =>
  input === undefined ? runHere(args, { env }) : terminal.run(args, { env, input })

it(
  "counts first, needs --yes without a terminal, and has an exit code for each result",
  {
    timeout: 120_000
  },
  async () => {
    const { filter, ids } = await ordersOf(200, 1, 7)
    const counted = await run(["runs", "retry", ...filter, "--dry-run"])
    assert.strictEqual(counted.code, 0)
    assert.match(counted.stdout, /^3 runs match, of which 1 can be retried\. The others: /)
    const refused = await run(["runs", "retry", ...filter])
    assert.strictEqual(refused.code, 2)
    assert.match(refused.stderr, /add --yes, or count them first with --dry-run/)
    assert.strictEqual((await client.getRun(ids[0]!)).status, "failed")

    const some = await run(["runs", "retry", ...filter, "--yes", "--json"])
    assert.strictEqual(some.code, 3)
    assert.deepInclude(JSON.parse(some.stdout), {
      done: 1,
      matched: 3,
      skipped: { completed: 1, waiting: 1 }
    })
    assert.match(some.stderr, /"code":"SOME_RUNS"/)
    assert.strictEqual((await client.waitForRun(ids[0]!)).status, "failed")

    const all = await run([
      "runs",
      "cancel",
      ...filter,
      "--status",
      "waiting",
      "--yes",
      "--reason",
      "recalled"
    ])
    assert.strictEqual(all.code, 0, all.stderr)
    assert.match(all.stdout, /^1 run cancelled\./)
    assert.strictEqual((await client.getRun(ids[2]!)).error?.message, "recalled")

    const lacking = await run([
      "runs",
      "retry",
      ...filter,
      "--status",
      "failed",
      "--from-step",
      "no",
      "--dry-run"
    ])
    assert.match(lacking.stdout, /^1 run matches, of which 0 can be retried\. The others: 1 no such step/)

    const begun = await client.bulk("cancel", { where: filter[1]!, functionId: "charge" })
    assert.strictEqual((await run(["bulk", "get", begun.id])).code, 0)
    const waited = await run(["bulk", "get", begun.id, "--wait"])
    assert.strictEqual(waited.code, 4)
    assert.match(waited.stderr, /None of 3 runs can be cancelled: /)
    const none = await run(["runs", "cancel", ...filter, "--yes"])
    assert.strictEqual(none.code, 4)
    assert.match(none.stderr, /None of 3 runs can be cancelled: /)
    assert.strictEqual((await run(["runs", "pause", "--entity", "nobody", "--yes"])).code, 4)
  }
)

it(
  "takes ids as arguments and from standard input, and treats a single id as before",
  {
    timeout: 120_000
  },
  async () => {
    const { ids } = await ordersOf(7, 7, 7)
    const one = await run(["runs", "cancel", ids[0]!])
    assert.match(one.stdout, new RegExp(`^Run ${ids[0]} is cancelled\\.`))
    const read = await run(["runs", "cancel", "-", "--yes"], `${ids[1]}\n${ids[2]}\n`)
    assert.strictEqual(read.code, 0, read.stderr)
    assert.match(read.stdout, /^2 runs cancelled\./)
    const again = await run(["runs", "rerun", ids[1]!, ids[2]!, "--yes"])
    assert.match(again.stdout, /^2 runs started again\./)
    const deleted = await run(["runs", "delete", ids[1]!, "--yes"])
    assert.strictEqual(deleted.code, 0, deleted.stderr)
    assert.match((await run(["runs", "get", ids[1]!])).stderr, /Run not found/)
  }
)

it(
  "waits for an operation until its timeout, and lets it continue when the command ends",
  { timeout: 120_000 },
  async () => {
    const { filter } = await ordersOf(...Array.from({ length: 2000 }, () => 1))
    const { id } = await client.bulk("fork", { where: filter[1]!, functionId: "charge" })
    const late = await run(["bulk", "get", id, "--wait", "--timeout", "1ms"])
    assert.strictEqual(late.code, 1, late.stdout)
    assert.match(late.stderr, /did not end within 1 ?ms, and continues/)
    assert.strictEqual((await run(["bulk", "get", id, "--timeout", "1s"])).code, 2)
    const counting = await client.bulk("rerun", { where: "event.data.mark == 'none'" }, { dryRun: true })
    const signalled = terminal.start(["bulk", "get", id, "--wait"], { env })
    signalled.signal("SIGINT")
    await signalled.ended
    assert.notStrictEqual((await client.getBulk(id)).status, "cancelled")
    const ended = await run(["bulk", "get", id, "--wait", "--timeout", "2m"])
    assert.strictEqual(ended.code, 0, ended.stderr)
    assert.match(ended.stdout, /2000 runs forked\./)
    await client.waitForBulk(counting.id)
  }
)

it("moves and forks many runs, and refuses options for one", { timeout: 120_000 }, async () => {
  const { filter, ids } = await ordersOf(1, 1)
  const moved = await run(["runs", "move", ...filter, "--yes"])
  assert.strictEqual(moved.code, 4)
  assert.match(moved.stderr, /None of 2 runs can be moved: 2 completed/)
  const forked = await run(["runs", "fork", ...ids, "--yes", "--json"])
  assert.strictEqual(forked.code, 0, forked.stderr)
  assert.deepInclude(JSON.parse(forked.stdout), { action: "fork", done: 2, matched: 2 })
  for (const flag of [
    ["--patch", "charge=1"],
    ["--data", "{}"]
  ]) {
    const refused = await run(["runs", "fork", ...ids, ...flag, "--yes"])
    assert.strictEqual(refused.code, 2)
    assert.match(refused.stderr, /works on exactly one run/)
    const notCounted = await run(["runs", "fork", ids[0]!, ...flag, "--dry-run"])
    assert.strictEqual(notCounted.code, 2)
    assert.include(notCounted.stderr, `leave out either --dry-run, or ${flag[0]}`)
  }
})

it("reports invalid use, and starts nothing", { timeout: 120_000 }, async () => {
  const before = await client.listBulk()
  const wrong: ReadonlyArray<readonly [args: ReadonlyArray<string>, said: RegExp, input?: string]> = [
    [["runs", "cancel", "--yes"], /Select the runs to cancel/],
    [["runs", "cancel", "run_1", "--status", "failed", "--yes"], /not both/],
    [["runs", "cancel", "-", "--yes"], /Standard input has no ids of runs/, "\n"],
    [["runs", "cancel", "-", "--yes"], /10001 ids are too many .*`split -l 10000`/, "run_1\n".repeat(10_001)],
    [["runs", "cancel", "--where", "event.(", "--yes"], /expression/i],
    [["runs", "delete", "--ended-to", "yesterday", "--yes"], /--ended-to takes how long ago, such as .*7d/],
    [
      ["runs", "delete", "--function", "", "--status", "completed", "--created-to", "", "--yes"],
      /--function is empty/
    ],
    [["runs", "delete", "--status", "completed", "--created-to", "", "--yes"], /--created-to is empty/],
    [["runs", "delete", "--status", "completed", "--event", "", "--yes"], /--event is empty/],
    [
      ["runs", "delete", "--status", "completed", "--idempotency-key", " ", "--yes"],
      /--idempotency-key is empty/
    ],
    [["runs", "retry", "--status", "failed", "--from-step", "", "--yes"], /--from-step is empty/],
    [
      ["runs", "cancel", "--status", "failed", "--reason", "x".repeat(5000), "--yes"],
      /^Error: --reason is too large/
    ],
    [["runs", "retry", "--status", "lost", "--yes"], /lost/]
  ]
  for (const [args, said, input] of wrong) {
    const { code, stderr } = await run(args, input)
    assert.strictEqual(code, 2, args.join(" "))
    assert.match(stderr, said)
  }
  assert.deepStrictEqual(await client.listBulk(), before)
  assert.strictEqual((await run(["bulk", "get", "bulk_none"])).code, 1)
})

it(
  "continues after a kill of the server, and handles no run twice",
  {
    timeout: 180_000
  },
  async () => {
    const { filter } = await ordersOf(...Array.from({ length: 2000 }, () => 1))
    const { id } = await client.bulk("rerun", { where: filter[1]!, functionId: "charge" })
    await vi.waitUntil(async () => (await client.getBulk(id)).done > 0, { timeout: 30_000, interval: 1 })
    server.signal("SIGKILL")
    await server.ended
    await serve()
    const ended = await run(["bulk", "get", id, "--wait", "--json"])
    assert.deepInclude(JSON.parse(ended.stdout), { done: 2000, matched: 2000, status: "completed" })
    let count = 0
    let cursor: string | undefined
    do {
      const page = await client.listRuns({
        where: filter[1]!,
        functionId: "charge",
        limit: 1000,
        ...(cursor === undefined ? {} : { cursor })
      })
      count += page.runs.length
      cursor = page.nextCursor
    } while (cursor !== undefined)
    assert.strictEqual(count, 4000)
    const { operations } = await jsonHere(["bulk", "list"], { env })
    assert.strictEqual(operations[0].id, id)
    assert.match((await run(["bulk", "cancel", id])).stdout, /had already ended \(completed\)/)
  }
)
