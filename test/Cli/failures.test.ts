/** What the command shows of failed runs: the step, the message, and the line in the user's code. */
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { runHere } from "./Here.ts"
import { freePort, type Running, Terminal } from "./Terminal.ts"

const FUNCTIONS = `
import { createFunction, NonRetryableError } from "@ironflow/node"
import { Data, Effect, Schema } from "effect"
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
const inEffect = <A, E>(id: string, program: () => Effect.Effect<A, E, Step.Step>) =>
  IronflowFunction.make({ id, triggers: [{ event: id + ".wanted" }], retry: once }, program)
export const effectText = inEffect("effect-text", Effect.fnUntraced(function* () {
  yield* Step.run("say", Effect.fail("declined"))
}))
export const effectObject = inEffect("effect-object", Effect.fnUntraced(function* () {
  yield* Step.run("tell", Effect.fail({ _tag: "NoFunds", missing: 3 }))
}))
export const effectSchema = inEffect("effect-schema", Effect.fnUntraced(function* () {
  yield* Step.run("read", Schema.decodeUnknownEffect(Schema.Struct({ a: Schema.Number }))({ a: "x" }))
}))
export const effectMap = inEffect("effect-map", Effect.fnUntraced(function* () {
  yield* Step.run("count", Effect.succeed(new Map()))
}))
export const effectInvoke = inEffect("effect-invoke", Effect.fnUntraced(function* () {
  yield* Step.invoke("child", {})
}))
export const child = createFunction({ id: "child", triggers: [], retry: once }, async () => {
  throw new TypeError("no such child")
})
const on = (id: string, handler: Parameters<typeof createFunction>[1]) =>
  createFunction({ id, triggers: [{ event: id + ".wanted" }], retry: once }, handler)
export const map = on("map", async ({ step }) => {
  await step.run("count them", async () => new Map() as never)
})
export const invoke = on("invoke", async ({ step }) => {
  await step.invoke("child", { by: "promise" })
})
const deep = async () => {
  throw new RangeError("too deep")
}
export const wrapped = on("wrapped", async ({ step }) => {
  try {
    await step.run("dig", deep)
  } catch (error) {
    throw new Error("the dig failed", { cause: error })
  }
})
`

/** The place of the text in the file. */
const place = (text: string): string => {
  const line = FUNCTIONS.split("\n").findIndex((one) => one.includes(text)) + 1
  assert.isAbove(line, 0, text)
  return `(functions.ts:${line}:`
}

let terminal: Terminal
let dev: Running
let env: { readonly IRONFLOW_SERVER_URL: string }
beforeAll(async () => {
  terminal = new Terminal({ "functions.ts": FUNCTIONS })
  const port = await freePort()
  env = { IRONFLOW_SERVER_URL: `http://127.0.0.1:${port}` }
  dev = terminal.start(["dev", "./functions.ts", "--port", String(port)])
  await dev.until("Emit an event")
  // the command shows places relative to its working folder
  vi.spyOn(process, "cwd").mockReturnValue(terminal.folder)
})
afterAll(async () => {
  vi.restoreAllMocks()
  await terminal[Symbol.asyncDispose]()
})

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
  ["outside", "made elsewhere", ["at refuse (functions.ts:36:9)"]],
  ["effect-text", 'step "say" failed: declined', [`at Object.<anonymous> ${place('Step.run("say"')}`]],
  [
    "effect-object",
    'step "tell" failed: {"_tag":"NoFunds","missing":3}',
    [`at Object.<anonymous> ${place('Step.run("tell"')}`]
  ],
  [
    "effect-schema",
    'step "read" failed: SchemaError: Expected number at ["a"]',
    [`at Object.<anonymous> ${place('Step.run("read"')}`]
  ],
  [
    "effect-map",
    'step "count" failed: ValidationError: Result of step "count" cannot be stored',
    [`at Object.<anonymous> ${place('Step.run("count"')}`]
  ],
  [
    "effect-invoke",
    "InvokeError: Invoked function 'child'",
    [`at Object.<anonymous> ${place('Step.invoke("child"')}`]
  ],
  [
    "map",
    'step "count them" failed: ValidationError: Result of step "count them" cannot be stored',
    [`at Object.handler ${place('"count them"')}`]
  ],
  ["invoke", "InvokeError: Invoked function 'child'", [`at Object.handler ${place('by: "promise"')}`]],
  [
    "wrapped",
    "the dig failed",
    [`at Object.handler ${place('"the dig failed"')}`, `at deep ${place('"too deep"')}`]
  ]
])("a run of %s that failed", (id, message, places) => {
  it("is shown by emit --wait, runs get, runs why and dev with its message and the lines in the user's code", async () => {
    const emitted = await runHere(["emit", `${id}.wanted`, "--wait"], { env })
    const runId = /run_\w+/.exec(emitted.stdout)![0]
    const got = await runHere(["runs", "get", runId], { env })
    const why = await runHere(["runs", "why", runId], { env })
    await dev.until(`${runId}  ${id}  failed`)
    const told = dev.output().slice(dev.output().indexOf(runId))

    assert.strictEqual(emitted.code, 1)
    for (const text of [emitted.stdout, got.stdout, why.stdout, told]) {
      assert.include(text, message)
      assert.notMatch(text, /node:|node_modules|src\/Execution|\\n|^ +at \[/m)
    }
    for (const place of places) {
      assert.include(emitted.stdout, `\n    ${place}`)
      assert.include(got.stdout, `\n             ${place}`)
      assert.include(why.stdout, `\n    ${place}`)
      assert.include(told, `\n            ${place}`)
    }
  })
})

it("an error of a step that is the cause of another error is shown once, with the step and its own lines", async () => {
  const { stdout } = await runHere(["emit", "wrapped.wanted", "--wait"], { env })

  const [, failed] = stdout.split("the dig failed\n")
  const lines = failed!
    .trimEnd()
    .split("\n")
    .map((line) => line.trim().replace(/:\d+\)$/, ":"))
  assert.deepStrictEqual(lines, [
    `at Object.handler ${place('"the dig failed"')}`,
    'caused by step "dig" failed: RangeError: too deep',
    `at deep ${place('"too deep"')}`
  ])
})

it("the JSON of runs why also names the step and the error", async () => {
  const { stdout } = await runHere(["emit", "handler.wanted", "--wait"], { env })
  const outside = await runHere(["runs", "why", /run_\w+/.exec(stdout)![0], "--json"], { env })
  const emitted = await runHere(["emit", "step.wanted", "--wait"], { env })
  const inStep = await runHere(["runs", "why", /run_\w+/.exec(emitted.stdout)![0], "--json"], { env })

  assert.deepInclude(JSON.parse(inStep.stdout).details, { step: "charge", thrown: "NonRetryableError" })
  const { details } = JSON.parse(outside.stdout)
  assert.strictEqual(details.thrown, "SyntaxError")
  assert.notProperty(details, "step")
})

it("runs get shows no attempts for a run that was not retried itself", async () => {
  const { stdout } = await runHere(["emit", "step.wanted", "--wait"], { env })
  const got = await runHere(["runs", "get", /run_\w+/.exec(stdout)![0]], { env })

  assert.notMatch(got.stdout, /^attempt/m)
})

it("a cause is shown with the error", async () => {
  const { stdout } = await terminal.run(["emit", "step.wanted", "--wait"], { env })

  assert.include(stdout, `\n    at askBank ${place("throw new NonRetryableError")}`)
  assert.match(stdout, /\n {4}caused by TypeError: no such card\n/)
})
