/** The command `projections`, with real processes, some of which are killed. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, type Running, Terminal } from "./Terminal.ts"

const projections = `
import { createProjection } from "@ironflow/node"

export const totals = createProjection({
  name: "totals",
  events: ["order.*"],
  maxRetries: 0,
  initialState: () => ({ orders: 0 }),
  handler: (state, event) => {
    if (event.data.bad) throw new Error("bad order")
    return { orders: state.orders + 1 }
  }
})
`

const terminal = new Terminal({ "projections.ts": projections })
let env: { readonly IRONFLOW_SERVER_URL: string }
let port: number
let server: Running
let worker: Running

const serve = async (): Promise<Running> => {
  const started = terminal.start(["serve", "--port", String(port)], {})
  await started.until("Ironflow listens at")
  return started
}
const startWorker = async (): Promise<Running> => {
  const started = terminal.start(["worker", "projections.ts"], { env })
  await started.until("runs totals for")
  return started
}
const emit = async (data: object): Promise<number> =>
  (await jsonHere(["emit", "order.placed", JSON.stringify(data)], { env })).position
const ask = (...args: ReadonlyArray<string>) => jsonHere(["projections", ...args], { env })
const say = async (...args: ReadonlyArray<string>) =>
  (await runHere(["projections", ...args], { env })).stdout

beforeAll(async () => {
  port = await freePort()
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  server = await serve()
  worker = await startWorker()
}, 60_000)
afterAll(() => terminal[Symbol.asyncDispose]())

describe("ironflow projections", { timeout: 60_000 }, () => {
  it("shows states, status and dead letters", async () => {
    await emit({})
    const bad = await emit({ bad: true })
    const after = await emit({})

    const state = await ask("get", "totals", "--after", String(after))
    assert.deepInclude(state, { state: { orders: 2 }, lastEventSeq: after })
    assert.match(await say("list"), /totals +managed +active +3 +0 +1 +worker-/)
    assert.match(
      await say("status", "totals"),
      /why +Up to date, run by worker-\S+\. 1 event is a dead letter\./
    )
    assert.match(await say("dead-letters", "totals"), /order\.placed +1 +\S+ +bad order/)
    assert.strictEqual((await ask("dead-letters", "totals")).deadLetters[0].position, bad)
    assert.deepStrictEqual(await ask("retry", "totals"), { retrying: 1 })
  })

  it("says how to see the states of partitions, if a partition has none", async () => {
    assert.match(await say("get", "totals", "--partition", "c-9"), /hint .*watch totals --current/)
    assert.notInclude(await say("get", "totals"), "hint")
  })

  it("loses nothing when first the server and then the worker is killed", async () => {
    const watch = terminal.start(["projections", "watch", "totals", "--current", "--json"], { env })
    await watch.until('"orders":2')
    server.signal("SIGKILL")
    await server.ended
    server = await serve()
    assert.deepStrictEqual((await ask("get", "totals", "--after", String(await emit({})))).state, {
      orders: 3
    })

    worker.signal("SIGKILL")
    await worker.ended
    worker = await startWorker()
    assert.deepStrictEqual((await ask("get", "totals", "--after", String(await emit({})))).state, {
      orders: 4
    })
    await watch.until('"orders":3')
    await watch.until('"orders":4')
    watch.signal("SIGINT")
    await watch.ended
  })

  it("pauses, resumes and rebuilds", async () => {
    assert.include(await say("pause", "totals", "--reason", "deploy"), "Projection totals is paused")
    const paused = await ask("status", "totals")
    assert.deepInclude(paused, { status: "paused", pauseReason: "deploy" })
    assert.match(paused.pausedBy, /.+@.+/)
    assert.include(await say("resume", "totals"), "continues")
    const { generation } = await ask("status", "totals")
    assert.isAbove((await ask("rebuild", "totals")).generation, generation)
    assert.deepStrictEqual((await ask("get", "totals", "--after", "5")).state, { orders: 4 })
  })

  it("says what is missing", async () => {
    const missing = await terminal.run(["projections", "get", "nope"], { env })

    assert.notStrictEqual(missing.code, 0)
    assert.include(missing.stderr, 'no worker has registered "nope"')
  })
})
