/**
 * Two versions of a worker at the same time, each a process of its own, one of which is killed; and the commands that steer
 * functions.
 */
import { createClient, type IronflowClient } from "@ironflow/node"
import { afterAll, assert, beforeAll, expect, it, vi } from "vitest"
import { jsonHere, runHere } from "./Here.ts"
import { freePort, Terminal } from "./Terminal.ts"

const functions = `
import { createFunction } from "@ironflow/node"
const version = process.env.VERSION ?? "1"
export const pack = createFunction(
  { id: "pack", version, versioning: "pin", triggers: [{ event: "order.placed" }] },
  async ({ event, step }) => {
    const begun = await step.run("begin", () => version)
    await step.waitForEvent("paid", { event: "order.paid", match: "data.orderId", timeout: "1d" })
    return step.run("end", () => [begun, version])
  }
)
export const nightly = createFunction({ id: "nightly", triggers: [{ cron: "0 3 * * *" }] }, ({ event }) => event.data)
`
const terminal = new Terminal({ "functions.ts": functions })
let env: { readonly IRONFLOW_SERVER_URL: string }
let client: IronflowClient

const ironflow = (...args: ReadonlyArray<string>) => runHere(args, { env })
const json = (...args: ReadonlyArray<string>) => jsonHere(args, { env })
const startWorker = async (version: string) => {
  const worker = terminal.start(["worker", "functions.ts", "--worker-id", `w-${version}`], {
    env: { ...env, VERSION: version }
  })
  await worker.until(`Worker w-${version} runs`)
  return worker
}
// with the client, not the command, which would start a process for each call
const reaches = (runId: string, code: string) =>
  vi.waitFor(async () => assert.strictEqual((await client.explain(runId)).code, code), {
    timeout: 40_000,
    interval: 100
  })
const ends = async (runId: string) => (await client.waitForRun(runId, { timeout: 40_000 })).output

beforeAll(async () => {
  const port = await freePort()
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  client = createClient({ serverUrl: env.IRONFLOW_SERVER_URL })
  await terminal
    .start(["serve", "--port", String(port), "--data", "orders.db", "--lease-term", "5s"])
    .until("listens")
}, 40_000)
afterAll(async () => {
  await client?.close()
  await terminal[Symbol.asyncDispose]()
})

it(
  "a run stays with its version; when the worker is killed, the run waits and can be moved, paused and forked",
  { timeout: 600_000 },
  async () => {
    const one = await startWorker("1")
    const [left] = (await json("emit", "order.placed", '{"orderId":"o-1"}')).runIds
    await reaches(left, "WAITING_FOR_EVENT")
    await startWorker("2")
    const [newer] = (await json("emit", "order.placed", '{"orderId":"o-2"}')).runIds
    await json("emit", "order.paid", '{"orderId":"o-2"}')
    assert.deepStrictEqual(await ends(newer), ["2", "2"])
    const before = await ironflow("functions", "drain")
    expect(before.stdout).toMatch(/^FUNCTION +CODE +LATEST +LIVE RUNS +OLDEST +WORKERS$/m)
    expect(before.stdout).toMatch(/^pack +2 +latest +\d+ .*w-2$/m)
    expect(before.stdout).toMatch(/^pack +1 +1 +run_\w+ +w-1$/m)
    expect(before.stdout).toContain("1 unfinished run belongs to an old version.")

    one.signal("SIGKILL")
    await one.ended
    await json("emit", "order.paid", '{"orderId":"o-1"}')
    await reaches(left, "NO_WORKER_OF_VERSION")
    const why = await ironflow("runs", "why", left)
    expect(why.stdout).toContain(`or move the run to the latest version with \`ironflow runs move ${left}\`.`)
    assert.deepInclude(await json("functions", "drain", "pack"), { drained: false })
    await ironflow("runs", "cancel", left)
    const many = await ironflow("runs", "retry", left, "run_none", "--yes")
    expect(many.stdout).toMatch(
      /^1 run retried\.\n[^]*\n1 run of pack waits for version 1, which no worker has: start a worker that has it, or run `ironflow runs move --function pack`\n$/
    )
    await ironflow("runs", "cancel", left)
    const retried = await ironflow("runs", "retry", left)
    expect(retried.stdout).toMatch(
      /^Run run_\w+ runs again; its finished steps keep their results\.\nIt still waits\. It is pinned to version "1" of function "pack", with which it began, and no live worker has that version \(w-2 has "2"\): start a worker with version "1", or move the run to the latest version with `ironflow runs move run_\w+`\.\n$/
    )
    await ironflow("runs", "pause", left)
    const resumed = await ironflow("runs", "resume", left)
    expect(resumed.stdout).toContain(
      'continues.\nIt still waits. It is pinned to version "1" of function "pack"'
    )
    const moved = await ironflow("runs", "move", left)
    assert.strictEqual(moved.stdout, `Run ${left} continues with version "2" of pack.\n`, moved.stderr)
    assert.deepStrictEqual(await ends(left), ["1", "2"])
    assert.deepInclude(await json("functions", "drain", "pack"), { drained: true })
    const history = await ironflow("functions", "history", "pack")
    expect(history.stdout).toMatch(/^2 +\S+Z +2 +version *\n1 +\S+Z +1 *$/m)

    const paused = await ironflow("functions", "pause", "pack", "--reason", "the bank is down")
    expect(paused.stdout).toMatch(
      /^Function pack has been paused since \S+Z, by a client: the bank is down; /
    )
    const waiting = await json("functions", "run", "pack", "--data", '{"orderId":"o-3"}')
    await reaches(waiting.id, "FUNCTION_PAUSED")
    await ironflow("functions", "resume", "pack")
    await reaches(waiting.id, "WAITING_FOR_EVENT")

    const fork = await json("runs", "fork", left, "--from", "end", "--patch", 'begin="by hand"')
    assert.strictEqual(fork.forkedFrom, left)
    assert.deepStrictEqual(await ends(fork.id), ["by hand", "2"])
    const now = await json("functions", "run", "nightly")
    assert.deepInclude(await ends(now.id), { cron: "0 3 * * *", timezone: "UTC" })

    for (const [args, message] of [
      [
        ["functions", "pause", "nobody"],
        "Function not found: nobody. `ironflow functions list` shows what exists."
      ],
      [["runs", "fork", left, "--from", "nothing"], 'has no step "nothing"'],
      [["runs", "fork", left, "--from", ""], "--from is empty"],
      [["runs", "fork", "--function", "pack", "--from", "", "--yes"], "--from is empty"],
      [["runs", "move", "--function", "pack", "--version", "", "--yes"], "--version is empty"],
      [["runs", "move", left, "--version", ""], "--version is empty"],
      [["runs", "fork", left, "--patch", "nonsense"], "--patch takes a step and its result"],
      [
        ["runs", "fork", left, "--patch", "begin=1", "--patch", `${left}:begin:0=2`],
        `Error: --patch has two results for step "${left}:begin:0": give one result for each step`
      ],
      [["runs", "move", left], "is completed and cannot be moved"],
      [["functions", "run", "pack", "--data", "{"], "The data is not JSON"]
    ] as const) {
      const { code, stderr } = await ironflow(...args)
      assert.include(stderr, message)
      assert.notStrictEqual(code, 0)
    }
  }
)
