/** What the command shows of runs that fail: the step, the message, and the user's own line. */
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { freePort, type Running, Terminal } from "./Terminal.ts"

const FUNCTIONS = `
import { createFunction, NonRetryableError } from "@ironflow/node"
import { Data, Effect } from "effect"
import { IronflowFunction, Step } from "@ironflow/node/effect"

const once = { maxAttempts: 1 }
const askBank = () => {
  throw new NonRetryableError("card declined", { cause: new TypeError("no such card") })
}
export const step = createFunction({ id: "step", triggers: [{ event: "step.wanted" }], retry: once }, async ({ step }) => {
  await step.run("charge", () => askBank())
})
export const handler = createFunction({ id: "handler", triggers: [{ event: "handler.wanted" }], retry: once }, async () => {
  JSON.parse("{nope")
})
export const noError = createFunction({ id: "no-error", triggers: [{ event: "no-error.wanted" }], retry: once }, async ({ step }) => {
  await step.run("charge", () => {
    throw "declined"
  })
})
class Declined extends Data.TaggedError("Declined")<{ readonly reason: string }> {}
const pay = Effect.fn("pay")(function* () {
  return yield* new Declined({ reason: "no funds" })
})
export const effect = IronflowFunction.make(
  { id: "effect", triggers: [{ event: "effect.wanted" }], retry: once },
  Effect.fnUntraced(function* () {
    yield* Step.run("charge", pay())
  })
)
const refuse = Effect.fn("refuse")(function* (error: Error) {
  return yield* Effect.fail(error)
})
export const outside = IronflowFunction.make(
  { id: "outside", triggers: [{ event: "outside.wanted" }], retry: once },
  () => refuse(Object.assign(new Error("made elsewhere"), { stack: "Error: made elsewhere" }))
)
`

let terminal: Terminal
let dev: Running
let env: { readonly IRONFLOW_SERVER_URL: string }
beforeAll(async () => {
  terminal = new Terminal({ "functions.ts": FUNCTIONS })
  const port = await freePort()
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  dev = terminal.start(["dev", "./functions.ts", "--port", String(port)])
  await dev.until("Emit an event")
})
afterAll(() => terminal[Symbol.asyncDispose]())

describe.each([
  [
    "step",
    'step "charge" failed: NonRetryableError: card declined',
    ["at askBank (functions.ts:8:9)", "at functions.ts:11:34"]
  ],
  ["handler", "SyntaxError: Expected property name", ["at Object.handler (functions.ts:14:8)"]],
  ["no-error", 'step "charge" failed: declined', ["at Object.handler (functions.ts:17:14)"]],
  [
    "effect",
    'step "charge" failed: Declined {"reason":"no funds"}',
    ["at functions.ts:23:17", "at pay (functions.ts:28:"]
  ],
  ["outside", "made elsewhere", ["at refuse (functions.ts:36:9)"]]
])("a run of %s that failed", (id, message, places) => {
  it("is shown by emit --wait, runs get and dev with its message and the lines of the user", async () => {
    const emitted = await terminal.run(["emit", `${id}.wanted`, "--wait"], { env })
    const runId = /run_\w+/.exec(emitted.stdout)![0]
    const got = await terminal.run(["runs", "get", runId], { env })
    await dev.until(`${runId}  ${id}  failed`)
    const told = dev.output().slice(dev.output().indexOf(runId))

    assert.strictEqual(emitted.code, 1)
    for (const text of [emitted.stdout, got.stdout, told]) {
      assert.include(text, message)
      assert.notMatch(text, /node:|node_modules|src\/Execution|\\n/)
    }
    for (const place of places) {
      assert.include(emitted.stdout, `\n    ${place}`)
      assert.include(got.stdout, `\n          ${place}`)
      // a value that is no error knows its place only when the run has failed
      if (id !== "no-error") assert.include(told, `\n            ${place}`)
    }
  })
})

it("a cause is shown with the error", async () => {
  const { stdout } = await terminal.run(["emit", "step.wanted", "--wait"], { env })

  assert.match(stdout, /\n {4}caused by TypeError: no such card\n/)
})
