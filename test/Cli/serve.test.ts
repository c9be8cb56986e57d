/** `serve` and `worker`, as processes of their own, and the commands that show and steer runs. */
import { randomBytes } from "node:crypto"
import { rmSync } from "node:fs"
import path from "node:path"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, type Running, Terminal, waitForRun } from "./Terminal.ts"

const functions = `
import { existsSync } from "node:fs"
import { createFunction, NonRetryableError } from "@ironflow/node"

export const processOrder = createFunction(
  { id: "process-order", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const payment = await step.run("charge", () => ({ receipt: \`r-\${event.data.orderId}\` }))
    await step.sleep("settle", "50ms")
    return { orderId: event.data.orderId, ...payment }
  }
)

export default [
  createFunction({ id: "approval", triggers: [{ event: "approval.wanted" }] }, async ({ step }) =>
    step.waitForEvent("approval", { event: "order.approved", timeout: "1h" })
  ),
  createFunction({ id: "fragile", triggers: [{ event: "parcel.sent" }] }, async ({ event, step }) =>
    step.run("send", () => {
      if (!existsSync(event.data.gate)) throw new NonRetryableError("the gate is shut")
      return "sent"
    })
  ),
  createFunction(
    { id: "pay", triggers: [{ event: "invoice.due" }], secrets: ["STRIPE_KEY"] },
    async ({ secrets }) => secrets.get("STRIPE_KEY").length
  )
]
`

const slow = `
import { existsSync } from "node:fs"
import { createFunction } from "@ironflow/node"

export const slow = createFunction({ id: "slow", triggers: [{ event: "slow.wanted" }] }, async ({ event, step }) =>
  step.run("work", async ({ signal }) => {
    console.log("work begins")
    await new Promise<void>((resolve) => {
      const look = setInterval(() => {
        if (!existsSync(event.data.gate) && !signal.aborted) return
        clearInterval(look)
        resolve()
      }, 20)
    })
    return "worked"
  })
)
`

const terminal = new Terminal({ "functions.ts": functions, "slow.ts": slow })
let url: string
let env: { readonly IRONFLOW_SERVER_URL: string }
let server: Running

beforeAll(async () => {
  const port = await freePort()
  url = `http://127.0.0.1:${port}`
  env = { IRONFLOW_SERVER_URL: url }
  server = terminal.start(["serve", "--port", String(port)], {
    env: { IRONFLOW_MASTER_KEY: randomBytes(32).toString("base64") }
  })
  await server.until(`Ironflow listens at ${url}, data in ironflow.db`)
  const worker = terminal.start(["worker", "functions.ts", "--label", "pool=small", "--worker-id", "w-1"], {
    env
  })
  await worker.until(`Worker w-1 runs approval, fragile, pay, process-order for ${url}`)
}, 40_000)
afterAll(() => terminal[Symbol.asyncDispose]())

const run = (...args: ReadonlyArray<string>) => runHere(args, { env })
const json = (...args: ReadonlyArray<string>) => jsonHere(args, { env })
const emit = async (event: string, data: unknown): Promise<string> =>
  (await json("emit", event, JSON.stringify(data))).runIds[0]

describe.concurrent("emit", () => {
  it("waits for the runs and prints their outputs", async () => {
    const { code, stdout } = await run("emit", "order.placed", '{"orderId":"o-1"}', "--wait")

    assert.strictEqual(code, 0)
    assert.match(
      stdout,
      /^Emitted order\.placed as (evt_\w+)\. It started:\n {2}(run_\w+)\n\2 {2}process-order {2}completed in \w+ {2}\{"orderId":"o-1","receipt":"r-o-1"\}\n$/
    )
  })

  it("reads data from standard input, and emits once for one idempotency key", async () => {
    const args = ["emit", "order.placed", "-", "--idempotency-key", "o-2"]
    const first = await terminal.json(args, { env, input: '{"orderId":"o-2"}' })
    const second = await terminal.json(args, { env, input: '{"orderId":"o-2"}' })

    assert.lengthOf(first.runIds, 1)
    assert.deepStrictEqual(second, first)
    assert.deepStrictEqual((await waitForRun(url, first.runIds[0])).output.orderId, "o-2")
  })

  it("reports an event that no function listens to", async () => {
    const { code, stdout } = await run("emit", "nobody.cares")

    assert.strictEqual(code, 0)
    assert.include(stdout, "It started no run: no function has a trigger that matches.")
  })
})

describe("streams", () => {
  it("are appended to, read, described and listed", { timeout: 60_000 }, async () => {
    const nothing = await run("streams", "list")
    const first = await json("streams", "append", "o-9", "item.added", '{"sku":"ABC"}', "--type", "order")
    const second = await terminal.run(
      ["streams", "append", "o-9", "item.added", "-", "--type", "order", "--expected-version", "1"],
      { env, input: '{"sku":"XYZ"}' }
    )
    const again = ["streams", "append", "o-9", "item.added", "--type", "order", "--expected-version", "1"]
    const conflict = await run(...again)
    const asJson = await run(...again, "--json")

    assert.strictEqual(nothing.stdout, "There are no such streams.\n")
    assert.strictEqual(first.entityVersion, 1)
    assert.match(
      second.stdout,
      /^Appended item\.added to stream o-9 as evt_\w+\. The stream is at version 2\.\n$/
    )
    assert.strictEqual(conflict.code, 1)
    assert.include(conflict.stderr, "expected version 1, actual version 2")
    assert.strictEqual(JSON.parse(asJson.stderr).error.code, "VERSION_CONFLICT")

    const read = await run("streams", "read", "o-9", "--backward", "--limit", "1")
    assert.match(
      read.stdout,
      /^VERSION +AT +EVENT +DATA\n2 +\S+Z +item\.added +\{"sku":"XYZ"\}\n1 of 2 events\n$/
    )
    const { events, totalCount } = await json("streams", "read", "o-9", "--from", "2")
    assert.deepStrictEqual([events.length, totalCount], [1, 2])
    assert.match((await run("streams", "info", "o-9")).stdout, /^version +2$/m)
    assert.deepInclude(await json("streams", "info", "o-9"), { entityId: "o-9", version: 2, eventCount: 2 })
    assert.match((await run("streams", "list", "--type", "order")).stdout, /^o-9 +order +2 +\S+Z$/m)
    assert.strictEqual((await json("streams", "list")).totalCount, 1)
  })

  it("that do not exist have no events and no description", async () => {
    const read = await run("streams", "read", "nobody")
    const info = await run("streams", "info", "nobody", "--json")

    assert.strictEqual(read.stdout, "Nothing was ever appended to stream nobody.\n")
    assert.strictEqual(info.code, 1)
    assert.strictEqual(JSON.parse(info.stderr).error.code, "STREAM_NOT_FOUND")
  })
})

describe.concurrent("runs", () => {
  it("that fail make emit exit with 1, and complete after retry", async () => {
    const gate = terminal.pathOf("gate")
    const failed = await run("emit", "parcel.sent", JSON.stringify({ gate }), "--wait")
    assert.strictEqual(failed.code, 1)
    assert.match(failed.stdout, /fragile {2}failed in \w+ {2}.*the gate is shut/)
    assert.match(
      failed.stderr,
      /^Error: 1 of 1 run did not complete: run_\w+ failed\. `ironflow runs get` shows more\.\n$/
    )
    const runId = /run_\w+/.exec(failed.stdout)![0]
    const steps = await run("runs", "steps", runId)
    assert.match(
      steps.stdout,
      /^STEP +KIND +STATUS +ATTEMPT +TOOK +WAITED +RESULT\nsend +run +failed +1 +\w+ +NonRetryableError: the gate is shut\n$/
    )

    terminal.write("gate", "")
    const retried = await run("runs", "retry", runId)

    assert.strictEqual(retried.stdout, `Run ${runId} runs again; its finished steps keep their results.\n`)
    assert.deepInclude(await waitForRun(url, runId), { state: "completed", output: "sent" })
    assert.match((await run("runs", "get", runId)).stdout, /^status +completed$/m)
  })

  it("continue with the patched result of a step", async () => {
    const failed = await run("emit", "parcel.sent", '{"gate":"no such gate"}', "--wait")
    const runId = /run_\w+/.exec(failed.stdout)![0]

    const bad = await run("runs", "patch", `${runId}:send:0`, "{sent", "--json")
    assert.strictEqual(JSON.parse(bad.stderr).error.code, "USAGE")
    const patched = await run("runs", "patch", `${runId}:send:0`, '"by hand"', "--reason", "sent by phone")
    assert.strictEqual(patched.stdout, `Step ${runId}:send:0 now has this output: "by hand"\n`)
    await run("runs", "retry", runId)

    assert.deepInclude(await waitForRun(url, runId), { state: "completed", output: "by hand" })
  })

  it("are paused, explained, resumed and cancelled", async () => {
    const runId = await emit("approval.wanted", {})
    // a pause of a run whose handler executes takes effect only after the turn
    await vi.waitUntil(async () => (await json("runs", "why", runId)).code === "WAITING_FOR_EVENT", {
      timeout: 20_000
    })

    const paused = await run("runs", "pause", runId, "--reason", "the bank is down")
    assert.strictEqual(paused.code, 0)
    const why = await json("runs", "why", runId)
    assert.strictEqual(why.code, "PAUSED")
    const told = (await run("runs", "why", runId)).stdout
    assert.include(told, "the bank is down")
    assert.include(told, "PAUSED: see docs/reasons.md#paused of @ironflow/node for what to do.")

    assert.strictEqual((await run("runs", "resume", runId)).stdout, `Run ${runId} continues.\n`)
    const cancelled = await run("runs", "cancel", runId)
    assert.strictEqual(cancelled.stdout, `Run ${runId} is cancelled.\n`)
    assert.strictEqual((await json("runs", "get", runId)).status, "cancelled")
  })

  it("are listed by function and status, page by page", async () => {
    await emit("approval.wanted", {})
    await emit("approval.wanted", {})

    const first = await json("runs", "list", "--function", "approval", "--limit", "1")
    const second = await json(
      "runs",
      "list",
      "--function",
      "approval",
      "--limit",
      "1",
      "--cursor",
      first.nextCursor
    )
    const completed = await json("runs", "list", "--status", "completed")
    const shown = await run("runs", "list", "--function", "approval", "--limit", "1")

    assert.lengthOf(first.runs, 1)
    assert.notStrictEqual(second.runs[0].id, first.runs[0].id)
    assert.isTrue(completed.runs.every((run: { status: string }) => run.status === "completed"))
    assert.match(
      shown.stdout,
      /^RUN +FUNCTION +STATUS +CREATED +ENDED AFTER\nrun_\w+ +approval .*\n\d+ in all; the next page: --cursor \S+\n$/
    )
  })

  it("that do not exist are an error", async () => {
    const { code, stderr } = await run("runs", "why", "run_nope")

    assert.strictEqual(code, 1)
    assert.match(stderr, /^Error: [^\n]*run_nope[^\n]*\n$/)
  })
})

describe.concurrent("functions and workers", () => {
  it("are listed", async () => {
    const functions = await json("functions", "list")
    const { workers } = await json("workers", "list")
    const shown = await run("workers", "list")

    assert.deepStrictEqual(
      functions.functions
        .map(({ id }: { id: string }) => id)
        .filter((id: string) => id !== "slow")
        .toSorted(),
      ["approval", "fragile", "pay", "process-order"]
    )
    const worker = workers.find(({ id }: { id: string }) => id === "w-1")
    assert.deepInclude(worker, { id: "w-1", labels: { pool: "small" }, maxConcurrentJobs: 10 })
    assert.match(shown.stdout, /^w-1 .* pool=small /m)
  })
})

describe.concurrent("secrets", () => {
  it("are read from standard input, reach the function and are never shown", async () => {
    const set = await terminal.run(["secrets", "set", "STRIPE_KEY"], { env, input: "sk-123\n" })
    assert.strictEqual(set.stdout, "Secret STRIPE_KEY is stored.\n")

    const runId = await emit("invoice.due", {})
    assert.deepInclude(await waitForRun(url, runId), { state: "completed", output: "sk-123".length })

    const list = await run("secrets", "list")
    assert.match(list.stdout, /^STRIPE_KEY +\d{4}-/m)
    assert.strictEqual((await run("secrets", "delete", "STRIPE_KEY")).code, 0)
    assert.strictEqual((await run("secrets", "list")).stdout, "There are no secrets.\n")
    const gone = await run("secrets", "delete", "STRIPE_KEY")
    assert.strictEqual(gone.code, 1)
    assert.include(gone.stderr, 'There is no secret "STRIPE_KEY"')
    assert.notInclude(server.output() + set.stdout + list.stdout, "sk-123")
  })

  it("without a value are refused", async () => {
    const { code, stderr } = await terminal.run(["secrets", "set", "EMPTY"], { env, input: "\n" })

    assert.strictEqual(code, 2)
    assert.include(stderr, 'There is no value for secret "EMPTY"')
  })
})

describe.concurrent("serve", () => {
  it("reports a port or database in use", async () => {
    const port = new URL(url).port

    const samePort = await terminal.run(["serve", "--port", port, "--data", "other.db"], { env })
    const sameData = await terminal.run(["serve", "--port", "0", "--json"], { env })

    assert.strictEqual(samePort.code, 1)
    assert.match(
      samePort.stderr,
      new RegExp(`^Error: Port ${port} on 127\\.0\\.0\\.1 is in use [^\\n]*with --port[^\\n]*\\n$`)
    )
    assert.strictEqual(sameData.code, 1)
    assert.strictEqual(JSON.parse(sameData.stderr).error.code, "STORE_LOCKED")
  })

  it("stores no secret without a master key, and ends with exit code 0 at SIGTERM", async () => {
    const keyless = terminal.start(["serve", "--port", "0", "--data", "keyless.db", "--json"])
    const { url } = JSON.parse(await keyless.until("\n"))

    const { code, stderr } = await terminal.run(["secrets", "set", "A", "--json"], {
      env: { IRONFLOW_SERVER_URL: url },
      input: "value"
    })
    assert.strictEqual(code, 1)
    assert.strictEqual(JSON.parse(stderr).error.code, "MASTER_KEY_MISSING")

    keyless.signal("SIGTERM")
    assert.strictEqual((await keyless.ended).code, 0)
  })
})

describe("emit --wait that ends before the run", () => {
  it("says what the run waits for, and fails when it is interrupted", async () => {
    const waiting = terminal.start(["emit", "approval.wanted", "--wait"], { env })
    await waiting.until('has not ended yet. Step "approval" waits for event "order.approved"')

    waiting.signal("SIGINT")

    assert.strictEqual((await waiting.ended).code, 1)
  })

  it("still prints the ids when its time is up", async () => {
    const { code, stdout, stderr } = await terminal.run(
      ["emit", "approval.wanted", "--wait", "--timeout", "10ms", "--json"],
      { env }
    )

    assert.strictEqual(code, 1)
    assert.strictEqual(JSON.parse(stderr).error.code, "TIMEOUT")
    assert.lengthOf(JSON.parse(stdout).runIds, 1)
  })
})

// one after another, because they run the same function
describe("worker", () => {
  it("lets a running step end at the first signal", async () => {
    const worker = terminal.start(["worker", "slow.ts"], { env })
    await worker.until("runs slow for")
    const gate = terminal.pathOf("drain-gate")
    const runId = await emit("slow.wanted", { gate })
    await worker.until("work begins")

    worker.signal("SIGTERM")
    terminal.write("drain-gate", "")

    assert.strictEqual((await worker.ended).code, 0)
    assert.deepInclude(await waitForRun(url, runId), { state: "completed", output: "worked" })
  })

  it("gives its runs back at the second signal, and another worker takes them at once", async () => {
    const first = terminal.start(["worker", "slow.ts"], { env })
    await first.until("runs slow for")
    const gate = terminal.pathOf("force-gate")
    const runId = await emit("slow.wanted", { gate })
    await first.until("work begins")

    first.signal("SIGTERM")
    first.signal("SIGINT")
    assert.strictEqual((await first.ended).code, 1)

    terminal.write("force-gate", "")
    const second = terminal.start(["worker", "slow.ts"], { env })
    await second.until("runs slow for")
    assert.deepInclude(await waitForRun(url, runId), { state: "completed", output: "worked" })
    second.signal("SIGTERM")
    assert.strictEqual((await second.ended).code, 0)
  })

  it("keeps trying until the server is up", async () => {
    const port = await freePort()
    const worker = terminal.start(["worker", "slow.ts", "--server-url", `http://127.0.0.1:${port}`])
    await worker.until("Trying again until the server answers")

    const late = terminal.start(["serve", "--port", String(port), "--data", "late.db"])
    await worker.until("runs slow for")

    worker.signal("SIGTERM")
    late.signal("SIGTERM")
    assert.strictEqual((await worker.ended).code, 0)
    assert.strictEqual((await late.ended).code, 0)
  })
})

describe("serve, when another engine takes over its database,", () => {
  it("ends by itself with an error, even while it has nothing to do", async () => {
    const args = ["serve", "--port", "0", "--data", "taken.db"]
    const first = terminal.start(args)
    await first.until("Ironflow listens at")
    rmSync(path.join(terminal.folder, "taken.db.lock"))

    const second = terminal.start(args)
    await second.until("Ironflow listens at")
    const { code, stderr } = await first.ended

    assert.strictEqual(code, 1)
    assert.match(stderr, /^Error: Database "taken\.db" was taken over by another engine: this engine stops/m)
    second.signal("SIGTERM")
    assert.strictEqual((await second.ended).code, 0)
  })
})
