/** How a turn reaches the engine: with a report for each step, with the response, and when one way replaces the other. */
import { createFunction, type RunnableFunction, serve, type ServeConfig } from "@ironflow/node"
import { IronflowFunction, Serve, Step } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { afterEach, describe, expect, it, vi } from "vitest"
import { listen, registerEndpoint, SIGNING_KEY } from "./Hosts.ts"

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const startWith = async (
  functions: ReadonlyArray<RunnableFunction>,
  config: (url: string) => Partial<ServeConfig>
) => {
  const engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY }
  })
  cleanups.push(() => engine.close())
  let requests = 0
  const handler = serve({ functions, signingKey: SIGNING_KEY, logger: false, ...config(engine.url ?? "") })
  const server = await listen((request, response) => (requests++, handler(request, response)))
  cleanups.push(server.close)
  expect((await registerEndpoint(engine, server.url)).status).toBe(200)
  const registering = requests
  const run = async () => {
    const { runIds } = await engine.client.emit("order.placed", { orderId: "o-1" })
    return engine.client.waitForRun(runIds[0] ?? "", { timeout: 15_000 })
  }
  return { engine, run, turns: () => requests - registering }
}

describe("a turn that reports at once", () => {
  it("has each step stored before the next one begins", async () => {
    const stored: Array<ReadonlyArray<string>> = []
    const order = createFunction(
      { id: "order", triggers: [{ event: "order.placed" }] },
      async ({ run, step }) => {
        for (const name of ["reserve", "charge", "ship"]) {
          await step.run(name, async () => {
            stored.push((await engine.client.getRunSteps(run.id)).map((one) => one.name))
          })
        }
      }
    )
    const { engine, run, turns } = await startWith([order], (serverUrl) => ({ serverUrl }))

    expect(await run()).toMatchObject({ status: "completed" })
    expect(stored).toEqual([[], ["reserve"], ["reserve", "charge"]])
    expect(turns()).toBe(1)
  })

  it("reports the running step and its progress", async () => {
    let finish: () => void = () => undefined
    const held = new Promise<void>((resolve) => (finish = resolve))
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, ({ step }) =>
      step.run("charge", ({ progress }) => {
        progress(0.5, "half of it")
        return held
      })
    )
    const { engine, run } = await startWith([order], (serverUrl) => ({ serverUrl }))

    const ended = run()
    const [running] = await vi.waitFor(
      async () => {
        const [{ id } = { id: "" }] = (await engine.client.listRuns()).runs
        const steps = await engine.client.getRunSteps(id)
        expect(steps).toHaveLength(1)
        return steps
      },
      { timeout: 10_000 }
    )
    finish()

    expect(running).toMatchObject({
      name: "charge",
      status: "running",
      attempt: 1,
      workerId: expect.stringMatching(/^push-/),
      progress: { fraction: 0.5, text: "half of it" }
    })
    expect(await ended).toMatchObject({ status: "completed" })
  })

  it("ends at a step that only the engine can answer when the handler cannot reach the server", async () => {
    const log: Array<string> = []
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      const { eventId } = await step.publish("orders", {})
      await step.run("ship", async () => void log.push("ship"))
      return typeof eventId
    })
    const gone = await listen(() => undefined)
    await gone.close()
    const { engine, run } = await startWith([order], () => ({ serverUrl: gone.url }))

    const ended = await run()

    expect(ended).toMatchObject({ status: "completed", output: "string" })
    expect(log).toEqual(["ship"])
    expect((await engine.client.getRunSteps(ended.id)).map(({ name }) => name)).toEqual([
      "publish:orders",
      "ship"
    ])
  })

  it("reports with the response when the handler cannot reach the server, with one warning", async () => {
    const warnings: Array<string> = []
    const log: Array<string> = []
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      await step.run("reserve", async () => void log.push("reserve"))
      await step.publish("orders", {})
      await step.run("ship", async () => void log.push("ship"))
      return "done"
    })
    const gone = await listen(() => undefined)
    await gone.close()
    const logger = {
      debug: () => {},
      info: () => {},
      warn: (line: string) => void warnings.push(line),
      error: () => {}
    }
    const { run } = await startWith([order], () => ({ serverUrl: gone.url, logger }))

    expect(await run()).toMatchObject({ status: "completed", output: "done" })
    expect(log).toEqual(["reserve", "ship"])
    expect(warnings).toEqual([expect.stringContaining("send their reports with their responses")])
  })
})

describe("a handler whose server is another engine than the one that calls it", () => {
  const startAtOther = async (functions: ReadonlyArray<RunnableFunction>) => {
    const other = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    cleanups.push(() => other.close())
    const warnings: Array<string> = []
    const logger = { debug() {}, info() {}, warn: (line: string) => void warnings.push(line), error() {} }
    const started = await startWith(functions, () => ({ serverUrl: other.url, logger }))
    return { ...started, warnings, otherUrl: other.url ?? "" }
  }

  it("says so once, and reports with the response, so that no step is repeated", async () => {
    const log: Array<string> = []
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      await step.run("charge", () => void log.push("charge"))
      await step.publish("orders", {})
      await step.run("ship", () => void log.push("ship"))
      return "done"
    })
    const { otherUrl, run, warnings } = await startAtOther([order])

    expect(await run()).toMatchObject({ status: "completed", output: "done" })
    expect(await run()).toMatchObject({ status: "completed", output: "done" })

    expect(log).toEqual(["charge", "ship", "charge", "ship"])
    expect(warnings).toEqual([
      expect.stringMatching(
        /^The engine at (\S+) does not know run run_\w+, so it is not the engine that calls this handler: set `serverUrl`/
      )
    ])
    expect(warnings[0]).toContain(otherUrl)
  })

  it("leaves a step running that the other engine does not know", async () => {
    let wasAborted = false
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, ({ step }) =>
      step.run("charge", async ({ signal }) => {
        // the handler asks the other engine for notices while the step runs
        await vi.waitFor(() => expect(warnings).toHaveLength(1), { timeout: 10_000 })
        wasAborted = signal.aborted
      })
    )
    const { run, turns, warnings } = await startAtOther([order])

    expect(await run()).toMatchObject({ status: "completed" })

    expect(wasAborted).toBe(false)
    expect(turns()).toBe(1)
  })
})

describe("a turn past its budget", () => {
  it.each([
    ["reporting with the response", () => ({})],
    ["reporting at once", (serverUrl: string) => ({ serverUrl })]
  ])("%s continues in another request, and repeats nothing", async (_what, config) => {
    const log: Array<string> = []
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      for (const name of ["reserve", "charge", "ship"]) {
        await step.run(name, async () => {
          log.push(name)
          // wait until the budget is used up
          const begun = performance.now()
          await vi.waitFor(() => expect(performance.now() - begun).toBeGreaterThan(30))
        })
      }
      return "done"
    })
    const { run, turns } = await startWith([order], (url) => ({ ...config(url), turnBudget: "20ms" }))

    expect(await run()).toMatchObject({ status: "completed", output: "done", attempt: 1 })
    expect(log).toEqual(["reserve", "charge", "ship"])
    expect(turns()).toBe(3)
  })
})

it("a turn whose request is aborted aborts its steps, and reports nothing", async () => {
  const log: Array<string> = []
  const order = createFunction({ id: "order", triggers: [] }, async ({ step }) =>
    step.run("charge", async ({ signal }) => {
      log.push("charge")
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()))
      log.push(`aborted: ${(signal.reason as { readonly code?: string }).code}`)
    })
  )
  const handler = serve({ functions: [order], skipVerification: true, logger: false })
  const leaves = new AbortController()
  const answered: Promise<Response> = handler(
    new Request("http://app/", {
      method: "POST",
      signal: leaves.signal,
      body: JSON.stringify({
        run_id: "run_1",
        function_id: "order",
        attempt: 1,
        event: { id: "evt_1", name: "order.placed", data: {}, timestamp: "2026-01-01T00:00:00Z" }
      })
    })
  )
  await vi.waitFor(() => expect(log).toEqual(["charge"]))

  leaves.abort()

  expect((await answered).status).toBe(499)
  await vi.waitFor(() => expect(log).toEqual(["charge", "aborted: REQUEST_ABORTED"]))
})

describe("the Effect API", () => {
  class Terminal extends Context.Service<
    Terminal,
    { readonly charge: (id: string) => Effect.Effect<string> }
  >()("test/Terminal") {}
  const order = IronflowFunction.make(
    { id: "order", triggers: [{ event: "order.placed" }] },
    Effect.fnUntraced(function* ({ event }) {
      const terminal = yield* Terminal
      return yield* Step.run("charge", terminal.charge(String(event.data.orderId)))
    })
  )
  const request = () =>
    new Request("http://app/", {
      method: "POST",
      body: JSON.stringify({
        run_id: "run_1",
        function_id: "order",
        attempt: 1,
        event: {
          id: "evt_1",
          name: "order.placed",
          data: { orderId: "o-1" },
          timestamp: "2026-01-01T00:00:00Z"
        }
      })
    })

  it("serves functions with their services", async () => {
    const program = Effect.gen(function* () {
      const handler = yield* Serve.make({ functions: [order], skipVerification: true, logger: false })
      const response = yield* handler.fetch(request())
      return yield* Effect.promise(() => response.json())
    })

    const body = await Effect.runPromise(
      Effect.provideService(program, Terminal, { charge: (id) => Effect.succeed(`paid ${id}`) })
    )

    expect(body).toMatchObject({ status: "completed", result: "paid o-1" })
  })

  it("has a handler for every framework, which runs functions with their services", async () => {
    const runtime = ManagedRuntime.make(
      Layer.succeed(Terminal, { charge: (id) => Effect.succeed(`paid ${id}`) })
    )
    cleanups.push(() => runtime.dispose())
    const { handler } = await runtime.runPromise(
      Serve.make({ functions: [order], skipVerification: true, logger: false })
    )
    const server = await listen(handler)
    cleanups.push(server.close)

    const overNode = await fetch(server.url, { method: "POST", body: await request().text() })
    const overFetch: Response = await handler(request())

    for (const response of [overNode, overFetch])
      expect(await response.json()).toMatchObject({ status: "completed", result: "paid o-1" })
  })

  it("fails for invalid options with the reason", async () => {
    const error = await Effect.runPromise(Effect.flip(Serve.make({ functions: [], maxBodyBytes: 0 })))

    expect(error).toMatchObject({ _tag: "ValidationError", message: expect.stringContaining("maxBodyBytes") })
  })
})

describe("a run that is paused during a turn", () => {
  const held = () => {
    const log: Array<string> = []
    let release = (): void => undefined
    const order = createFunction({ id: "order", triggers: [{ event: "order.placed" }] }, async ({ step }) => {
      await step.run("reserve", () => {
        log.push("reserve")
        return new Promise<void>((resolve) => (release = resolve))
      })
      await step.run("charge", async () => void log.push("charge"))
      return "done"
    })
    return { log, order, release: () => release() }
  }
  const settled = async (started: Awaited<ReturnType<typeof startWith>>, it: ReturnType<typeof held>) => {
    const { client } = started.engine
    const { runIds } = await client.emit("order.placed", {})
    const runId = runIds[0] ?? ""
    await vi.waitFor(() => expect(it.log).toEqual(["reserve"]))
    await client.pauseRun(runId)
    it.release()
    return { client, runId }
  }

  it("begins no step after the running one when it reports at once, and repeats none", async () => {
    const it = held()
    const started = await startWith([it.order], (serverUrl) => ({ serverUrl }))
    const { client, runId } = await settled(started, it)

    await vi.waitFor(async () => expect((await client.getRun(runId)).status).toBe("paused"))
    expect((await client.getRunSteps(runId)).map(({ name }) => name)).toEqual(["reserve"])
    expect(it.log).toEqual(["reserve"])
    await client.resumeRun(runId)

    expect(await client.waitForRun(runId, { timeout: 15_000 })).toMatchObject({ output: "done" })
    expect(it.log).toEqual(["reserve", "charge"])
    expect(started.turns()).toBe(2)
  })

  it("continues to the end of its turn when it reports with the response, and repeats none", async () => {
    const it = held()
    const started = await startWith([it.order], () => ({}))
    const { client, runId } = await settled(started, it)

    expect(await client.waitForRun(runId, { timeout: 15_000 })).toMatchObject({ output: "done" })
    expect(it.log).toEqual(["reserve", "charge"])
  })

  it("is paused with the response of a turn that exceeded its budget, and repeats no step", async () => {
    const it = held()
    const started = await startWith([it.order], () => ({ turnBudget: "1ms" }))
    const { client, runId } = await settled(started, it)

    await vi.waitFor(async () => expect((await client.getRun(runId)).status).toBe("paused"))
    await client.resumeRun(runId)

    expect(await client.waitForRun(runId, { timeout: 15_000 })).toMatchObject({ output: "done" })
    expect(it.log).toEqual(["reserve", "charge"])
  })
})
