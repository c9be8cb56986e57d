/** The log of the engine: one line for each problem, with its fields, and no line for a success. */
import { createFunction, createWorker, type LogFields, type Logger, serve } from "@ironflow/node"
import { IronflowFunction, Step } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as EffectLogger from "effect/Logger"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import { expect, it } from "vitest"
import * as EngineLog from "../../src/Engine/EngineLog.ts"
import type { Changes, FunctionChange } from "../../src/Engine/Store/Changes.ts"
import { Store, type StoreService } from "../../src/Engine/Store/Store.ts"
import { listen, registerEndpoint, SIGNING_KEY } from "../Serve/Hosts.ts"
import { RawTurnWorker } from "../wire/RawTurnWorker.ts"

interface Line {
  readonly level: keyof Logger
  readonly message: string
  readonly fields: LogFields | undefined
}

const makeRecorder = () => {
  const lines: Array<Line> = []
  const line =
    (level: keyof Logger): Logger[keyof Logger] =>
    (message, _data, fields) =>
      void lines.push({ level, message, fields })
  return {
    lines,
    logger: { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") }
  }
}

const triggers = [{ event: "order.placed" }]
const SECRET = "tok-4711-secret"
const PAYLOAD = "payload-of-the-order"

it("each failed attempt and each failed run has a line, and success has none", async () => {
  const { lines, logger } = makeRecorder()
  const fn = createFunction(
    { id: "charge", triggers, retry: { maxAttempts: 2, initialDelayMs: 10 } },
    async ({ event, step }) => {
      await step.run("reserve", async () => event.data)
      await step.run("pay", async () => {
        throw Object.assign(new Error("declined"), { data: PAYLOAD })
      })
    }
  )
  await using engine = await startEngine({
    filename: ":memory:",
    functions: [fn],
    logger,
    masterKey: "ab".repeat(32)
  })
  await engine.secrets.set("TOKEN", SECRET)

  const { runIds } = await engine.client.emit("order.placed", { secret: PAYLOAD })
  await engine.client.waitForRun(runIds[0]!)

  const runFields = { run: runIds[0], function: "charge", environment: "default" }
  const worker = expect.any(String)
  expect(lines.filter(({ fields }) => fields?.run !== undefined)).toEqual([
    {
      level: "warn",
      message: expect.stringMatching(
        /attempt 1 of step "pay" failed, and the next attempt is due at .*: Error: declined$/
      ),
      fields: { ...runFields, worker, step: "pay", attempt: 1 }
    },
    {
      level: "error",
      message: expect.stringMatching(
        /attempt 2 of step "pay" failed, and the step is not tried again: Error: declined$/
      ),
      fields: { ...runFields, worker, step: "pay", attempt: 2 }
    },
    {
      level: "error",
      message: expect.stringMatching(/has failed: StepError: declined$/),
      fields: { ...runFields, worker, code: "STEP_FAILED" }
    }
  ])
  const all = JSON.stringify(lines)
  expect(all).not.toContain(SECRET)
  expect(all).not.toContain(PAYLOAD)
})

it("the line of a typed error without a message has its name and fields, as explain and the command have", async () => {
  const { lines, logger } = makeRecorder()
  class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}
  const fn = IronflowFunction.make(
    { id: "charge", triggers, retry: { maxAttempts: 1 } },
    Effect.fnUntraced(function* () {
      yield* Step.run("pay", Effect.fail(new Declined({ reason: "no money" })))
    })
  )
  await using engine = await startEngine({ filename: ":memory:", functions: [fn], logger })

  const { runIds } = await engine.client.emit("order.placed", {})
  await engine.client.waitForRun(runIds[0]!)

  const text = 'Declined {"reason":"no money"}'
  const messages = lines.filter(({ level }) => level === "error").map(({ message }) => message)
  expect(messages).toEqual([
    expect.stringMatching(/attempt 1 of step "pay" failed, and the step is not tried again: Declined \{/),
    expect.stringMatching(/has failed: /)
  ])
  for (const message of messages) expect(message).toContain(text)
  expect((await engine.client.explain(runIds[0]!)).message).toContain(text)
})

it("a run that is retried, paused or cancelled has a line, and so has a change of a function or key", async () => {
  const { lines, logger } = makeRecorder()
  let fails = true
  const fn = createFunction(
    { id: "charge", triggers, retry: { maxAttempts: 3, initialDelayMs: 10 } },
    async ({ step }) => {
      if (fails) {
        fails = false
        throw new TypeError("no such order")
      }
      await step.sleep("wait", "1h")
    }
  )
  await using engine = await startEngine({ filename: ":memory:", functions: [fn], logger })
  const { client } = engine

  const { runIds } = await client.emit("order.placed", {})
  await expect.poll(async () => (await client.explain(runIds[0]!)).code).toBe("SLEEPING")
  await client.pauseRun(runIds[0]!, "the bank is closed")
  await client.cancelRun(runIds[0]!, "no more")
  const key = await client.apiKeys.create({ name: "reports" })

  expect(lines.map(({ level, message }) => `${level} ${message}`)).toEqual(
    expect.arrayContaining([
      "info Functions in environment default: charge (new)",
      expect.stringMatching(
        /^warn Run .* failed outside of its steps, and is tried again at .*: TypeError: no such order$/
      ),
      expect.stringMatching(/^warn Run .* is paused: .*the bank is closed/),
      expect.stringMatching(/^info Run .* was cancelled: no more$/),
      expect.stringMatching(new RegExp(`^info apikey:create ${key.id} \\("reports"\\), by `))
    ])
  )
  expect(JSON.stringify(lines)).not.toContain(key.secret)
})

it("a worker that connects or leaves has a line", async () => {
  const { lines, logger } = makeRecorder()
  await using engine = await startEngine({ filename: ":memory:", logger, listen: { port: 0 } })
  const worker = createWorker({
    serverUrl: engine.url!,
    workerId: "till-1",
    functions: [createFunction({ id: "charge", triggers }, async () => undefined)],
    logger: false
  })
  worker.start().catch(() => undefined)
  await worker.ready()
  await worker.stop()

  const workerLines = lines.filter(({ fields }) => fields?.worker === "till-1")
  expect(workerLines).toEqual([
    {
      level: "info",
      message: expect.stringMatching(
        /^Worker till-1 has connected from .*: 10 turns at once, function charge$/
      ),
      fields: { worker: "till-1", environment: "default" }
    },
    {
      level: "info",
      message: "Worker till-1 has disconnected",
      fields: { worker: "till-1", environment: "default" }
    }
  ])
})

it("a worker that registers twice for one reconnect has one line, and one more after it has left", async () => {
  const { lines, logger } = makeRecorder()
  await using engine = await startEngine({ filename: ":memory:", logger, listen: { port: 0 } })
  const worker = new RawTurnWorker(engine.url!, { id: "till-1" })
  const connectedLines = () =>
    lines.filter(
      ({ level, message }) => level === "info" && message.startsWith("Worker till-1 has connected")
    )

  await worker.register()
  // registers again, as if the answer had not arrived
  await worker.register()
  expect(connectedLines()).toHaveLength(1)

  // another worker connects, and then the first one once more
  await new RawTurnWorker(engine.url!, { id: "till-2" }).register()
  await engine.client.listWorkers()
  expect(lines.filter(({ message }) => /^Worker till-. has connected/.test(message))).toHaveLength(2)
  await worker.deregister()
  await worker.register()
  expect(connectedLines()).toHaveLength(2)
})

it("a lost lease has a line", async () => {
  const { lines, logger } = makeRecorder()
  await using engine = await startEngine({
    filename: ":memory:",
    logger,
    listen: { port: 0 },
    push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY }
  })
  const charge = createFunction({ id: "charge", triggers }, async () => "paid")
  const handler = serve({ functions: [charge], signingKey: SIGNING_KEY, logger: false })
  let lost = 0
  const endpoint = await listen(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    // the endpoint dies in the middle of its first turn
    if (body.includes('"type":"turn"') && lost++ === 0) return request.socket.destroy()
    return handler(Object.assign(request, { body }), response)
  })
  try {
    expect((await registerEndpoint(engine, endpoint.url)).status).toBe(200)
    const { runIds } = await engine.client.emit("order.placed", {})
    await engine.client.waitForRun(runIds[0]!)

    expect(lines.filter(({ message }) => message.includes("lost its lease"))).toEqual([
      {
        level: "warn",
        message: expect.stringMatching(
          new RegExp(
            `^Run ${runIds[0]} of function "charge" lost its lease \\(the endpoint .*\\): a worker gets the run again, unless it is paused`
          )
        ),
        fields: {
          run: runIds[0],
          function: "charge",
          worker: expect.stringMatching(/^push-/),
          environment: "default",
          losses: 1
        }
      }
    ])
  } finally {
    await engine.close()
    await endpoint.close()
  }
})

/** The lines about one commit with these changes: their messages, and the function in their fields. */
const linesAbout = (
  changes: Partial<Changes>
): Promise<ReadonlyArray<{ readonly message: string; readonly fn: unknown }>> => {
  const lines: Array<{ readonly message: string; readonly fn: unknown }> = []
  const logger = EffectLogger.make(({ fiber, message }) => {
    lines.push({ message: String(message), fn: fiber.getRef(References.CurrentLogAnnotations).function })
  })
  const store = Layer.sync(Store, () => {
    const onCommit: StoreService["onCommit"] = (listener) => {
      // the log looks at these three only
      listener({ accessLog: [], functions: [], runFailures: [], ...changes } as unknown as Changes)
      return () => undefined
    }
    // the log uses no other method of the store
    return { onCommit } as StoreService
  })
  return Effect.runPromise(
    Effect.as(Effect.scoped(Layer.build(EngineLog.layer)), lines).pipe(
      Effect.provide(store),
      Effect.provide(EffectLogger.layer([logger]))
    )
  )
}

it("the line about one function of an environment has it in its fields, whatever happens in other environments", async () => {
  const newFunction = (environment: string, id: string): FunctionChange => ({
    environment,
    changed: "new",
    // the log looks at the id only
    registration: { id } as FunctionChange["registration"]
  })

  const lines = await linesAbout({
    functions: [newFunction("test", "refund"), newFunction("production", "charge")]
  })

  expect(lines).toEqual([
    { message: "Functions in environment test: refund (new)", fn: "refund" },
    { message: "Functions in environment production: charge (new)", fn: "charge" }
  ])
})

it("of very many lines about one commit, those beyond 200 are counted", async () => {
  const accessLog = Array.from({ length: 203 }, (_, i) => ({
    by: "local",
    action: "apikey:create",
    subject: `key_${i}`
  }))
  const runFailures = Array.from({ length: 201 }, (_, i) => ({
    _tag: "LeaseLost" as const,
    environment: "default",
    functionId: "charge",
    runId: `run_${i}`,
    why: "its worker is gone",
    losses: 1
  })) as unknown as Changes["runFailures"]

  const lines = (await linesAbout({ accessLog, runFailures })).map(({ message }) => message)

  expect(lines.filter((message) => message.startsWith("apikey:create"))).toHaveLength(200)
  expect(lines.filter((message) => message.includes("lost its lease"))).toHaveLength(200)
  expect(lines.filter((message) => message.startsWith("Left out"))).toEqual([
    "Left out 1 more line about runs: too many at once",
    "Left out 3 more lines of the access log: GET /api/v1/access-log shows them"
  ])
})
