/** Hints of commands on runs and functions: what to do next, and what a command does not do. */
import { createFunction, NonRetryableError } from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, it, vi } from "vitest"
import { runHere } from "./Here.ts"

const order = createFunction(
  { id: "process-order", triggers: [{ event: "order.placed" }] },
  async ({ step }) => {
    await step.run("reserve", () => "reserved")
    step.compensate("reserve", () => undefined)
    await step.run("charge", () => "charged")
    // without the error of the wait as its cause, the error does not say that the run failed because of the wait
    await step.waitForEvent("payment", { event: "order.paid", timeout: "50ms" }).catch(() => {
      throw new NonRetryableError("not paid")
    })
  }
)
const open = createFunction({ id: "open", triggers: [{ event: "open" }] }, async ({ step }) => {
  await step.run("reserve", () => "reserved")
  await step.sleep("nap", "1h")
})
const ping = createFunction({ id: "ping", triggers: [{ event: "ping" }] }, async () => "pong")
const fails = createFunction({ id: "fails", triggers: [{ event: "fails" }] }, async () => {
  throw new NonRetryableError("no")
})

let engine: IronflowEngine
const ironflow = (...args: ReadonlyArray<string>) =>
  runHere(args, { env: { IRONFLOW_SERVER_URL: engine.url! } })
const startRun = async (event: string) => (await engine.client.emit(event, {})).runIds[0]!

beforeAll(async () => {
  engine = await startEngine({
    filename: ":memory:",
    functions: [order, open, ping, fails],
    listen: { port: 0 },
    logger: false
  })
})
afterAll(() => engine.close())

it("a retry of a run whose handler caught the failure of a wait names the flag that lets it wait again", async () => {
  const runId = await startRun("order.placed")
  await engine.client.waitForRun(runId)

  const { stdout } = await ironflow("runs", "retry", runId)

  assert.include(
    stdout,
    `Step payment (waitForEvent) has failed and keeps its failure. If the run fails because of that again, \`ironflow runs retry ${runId} --from-step payment\` lets the step wait again.`
  )
  await engine.client.waitForRun(runId)
  assert.notInclude((await ironflow("runs", "retry", runId, "--from-step", "payment")).stdout, "has failed")
  const other = await startRun("fails")
  await engine.client.waitForRun(other)
  assert.notInclude((await ironflow("runs", "retry", other)).stdout, "keeps its failure")
})

it("a fork of a compensated run says that compensated steps run again", async () => {
  const runId = await startRun("order.placed")
  await engine.client.waitForRun(runId)
  const { stdout } = await ironflow("runs", "fork", runId, "--from", "charge")
  assert.include(stdout, `Run ${runId} stays as it is. Steps that it has compensated run again.`)
})

it("a retry of a completed run names `runs rerun`", async () => {
  const runId = await startRun("ping")
  await engine.client.waitForRun(runId)
  const { stderr } = await ironflow("runs", "retry", runId)
  assert.include(stderr, `For a new run with the same input, use \`ironflow runs rerun ${runId}\``)
})

it("a patch that is not JSON names its flag, and how to quote", async () => {
  const { code, stderr } = await ironflow("runs", "fork", "run_1", "--patch", "charge=hello")
  assert.notStrictEqual(code, 0)
  assert.include(stderr, "The result in --patch charge is not JSON")
  assert.include(stderr, `like --patch 'charge={"ok":true}' or --patch 'charge="done"'`)
})

it("a cancelled run with finished steps is said not to be compensated", async () => {
  const runId = await startRun("open")
  await vi.waitFor(async () => assert.strictEqual((await engine.client.explain(runId)).code, "SLEEPING"))
  const { stdout } = await ironflow("runs", "cancel", runId)
  assert.strictEqual(
    stdout,
    `Run ${runId} is cancelled. What its finished steps have done stays done: a cancelled run is not compensated.\n`
  )
  assert.include((await ironflow("runs", "why", runId)).stdout, "A cancelled run is not compensated.")
})

it.each([
  ["runs", "list"],
  ["runs", "count", "--by", "status"],
  ["runs", "retry", "--dry-run"],
  ["runs", "cancel", "--yes"]
])("%s %s says that a function does not exist", async (...command) => {
  const { stderr } = await ironflow(...command, "--function", "proces-order")
  assert.include(stderr, 'There is no function "proces-order": did you mean process-order?')
  const far = await ironflow(...command, "--function", "nightly-report")
  assert.include(
    far.stderr,
    'There is no function "nightly-report"; `ironflow functions list` shows what exists.'
  )
  assert.notInclude(
    (await ironflow(...command, "--function", "ping", "--status", "paused")).stderr,
    "no function"
  )
})

it("`functions drain` says that no worker has the latest version", async () => {
  const connect = (codeHash: string) =>
    engine.createWorker({
      workerId: `worker-${codeHash}`,
      functions: [
        createFunction(
          { id: "pack", version: codeHash, versioning: "pin", triggers: [{ event: "pack" }] },
          async () => codeHash
        )
      ],
      logger: false
    })
  const [one, two] = [connect("1"), connect("2")]
  void one.start()
  await one.ready()
  void two.start()
  await two.ready()
  await two.stop()

  const { stdout } = await ironflow("functions", "drain", "pack")

  assert.include(
    stdout,
    "No worker has the latest version of pack, whose triggers and schedules are in force"
  )
  await one.stop()
})
