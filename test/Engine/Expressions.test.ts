/** Slow expressions on a real server: each is stopped with a warning, and delays no other work. */
import {
  createClient,
  createFunction,
  createSubscriptionClient,
  createWorker,
  type Logger
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterEach, describe, expect, it, vi } from "vitest"
import {
  FEW_STEPS,
  MAX_BYTES,
  MAX_FEW_STEPS,
  MAX_SHARED_STEPS,
  MAX_EXPRESSION_STEPS,
  spentByLast,
  expressionSteps
} from "../../src/ExpressionBudget.ts"

/** How long something may take on a busy machine, in milliseconds. */
const PATIENCE_MS = 20_000

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const start = async (): Promise<{ engine: IronflowEngine; serverUrl: string; warnings: Array<string> }> => {
  const warnings: Array<string> = []
  const silent = () => undefined
  const logger: Logger = { debug: silent, info: silent, error: silent, warn: (text) => warnings.push(text) }
  const engine = await startEngine({ filename: ":memory:", logger, listen: { port: 0 } })
  cleanups.push(() => engine.close())
  return { engine, serverUrl: engine.url ?? "", warnings }
}

const hundred = `[${Array.from({ length: 100 }, (_, i) => i % 10).join()}]`
const nested = (depth: number): string =>
  depth === 0 ? "true" : `${hundred}.all(v${depth}, ${nested(depth - 1)})`

/** Expressions that exceed the budget, by their cause. */
const expensive = {
  "loops inside loops over lists": nested(4),
  "a search for a long text in a longer one": `${nested(2).replace("true", "!event.data.text.contains(event.data.part)")}`,
  "ninety sums of lists": `size(${Array(91).fill("event.data.list").join("+")}) > 0`,
  "sums of texts": `size(${Array(60).fill("event.data.text").join("+")}) > 0`
}
const data = {
  text: "a".repeat(100_000),
  part: `${"a".repeat(50_000)}b`,
  list: Array.from({ length: 2000 }, (_, i) => i)
}

const givenUp = /stopped(?: after (?:300000|2000) steps|, because it made more than 1000000 bytes)/

describe("an expression that would take long", () => {
  it("as a filter lets nothing through and warns once, while other subscribers get everything", async () => {
    const { engine, serverUrl, warnings } = await start()
    const sub = createSubscriptionClient({ serverUrl })
    const other = createSubscriptionClient({ serverUrl })
    cleanups.push(
      () => sub.close(),
      () => other.close()
    )
    const filtered: Array<unknown> = []
    const got: Array<string> = []
    await Promise.all([sub.connect(), other.connect()])
    for (const [i, filter] of Object.values(expensive).entries()) {
      // a connection can have one subscription to a pattern
      const pattern = `events:order.${["placed", "*", ">"][i] ?? "placed"}`
      const client = i < 3 ? sub : createSubscriptionClient({ serverUrl })
      if (client !== sub) {
        cleanups.push(() => client.close())
        await client.connect()
      }
      await client.subscribe(pattern, { filter, onEvent: (event) => void filtered.push(event.topic) })
    }
    await other.subscribe("events:order.*", { onEvent: (event) => void got.push(event.eventId ?? "") })

    const { eventId } = await engine.client.emit("order.placed", data)
    const second = await engine.client.emit("order.placed", data)

    await vi.waitFor(() => expect(got).toEqual([eventId, second.eventId]), PATIENCE_MS)
    await vi.waitFor(() => expect(warnings.filter((text) => givenUp.test(text))).toHaveLength(4), PATIENCE_MS)
    expect(warnings.join("\n")).toMatch(
      /The filter of the subscription to "events:order\.placed" is too expensive to evaluate for an event/
    )
    expect(filtered).toEqual([])
  })

  it("as a trigger starts nothing and warns with the name of its function, while others start", async () => {
    const { engine, serverUrl, warnings } = await start()
    const ids = Object.keys(expensive).map((_, i) => `expensive-${i}`)
    const functions = Object.values(expensive).map((expression, i) =>
      createFunction({ id: ids[i]!, triggers: [{ event: "order.placed", expression }] }, async () => i)
    )
    const ship = createFunction(
      { id: "ship", triggers: [{ event: "order.placed", expression: "event.data.part != ''" }] },
      async () => "shipped"
    )
    const worker = createWorker({ serverUrl, functions: [...functions, ship], logger: false })
    const working = worker.start()
    cleanups.push(async () => {
      await worker.stop()
      await working
    })
    await vi.waitFor(async () => expect(await engine.client.listFunctions()).toHaveLength(5), PATIENCE_MS)

    const { runIds } = await createClient({ serverUrl }).emit("order.placed", data)

    expect(runIds).toHaveLength(1)
    expect(await engine.client.waitForRun(runIds[0]!, { timeout: PATIENCE_MS })).toMatchObject({
      output: "shipped"
    })
    for (const id of ids) {
      expect(warnings.find((text) => text.includes(`function "${id}"`))).toMatch(givenUp)
    }
  })

  it("as the match of a wait matches nothing and warns with the name of the wait", async () => {
    const { engine, serverUrl, warnings } = await start()
    const functions = Object.entries(expensive).map(([_, match], i) =>
      createFunction({ id: `wait-${i}`, triggers: [{ event: "order.placed" }] }, async ({ step }) =>
        step.waitForEvent(`payment-${i}`, { event: "payment.received", match, timeout: "1h" })
      )
    )
    const worker = createWorker({ serverUrl, functions, logger: false })
    const working = worker.start()
    cleanups.push(async () => {
      await worker.stop()
      await working
    })
    await vi.waitFor(async () => expect(await engine.client.listFunctions()).toHaveLength(4), PATIENCE_MS)
    const { runIds } = await engine.client.emit("order.placed", {})
    const waiting = async () => {
      for (const runId of runIds) expect((await engine.client.getRun(runId)).status).toBe("waiting")
    }
    await vi.waitFor(waiting, PATIENCE_MS)

    await engine.client.emit("payment.received", data)

    // the waits that exceed the shared budget of one transaction are evaluated next
    await vi.waitFor(() => {
      for (const i of runIds.keys()) {
        expect(warnings.find((text) => text.includes(`wait "payment-${i}:`))).toMatch(givenUp)
      }
    }, PATIENCE_MS)
    await waiting()
  })

  it("leaves other expressions for that event little time, but enough for simple ones", async () => {
    const { engine, serverUrl, warnings } = await start()
    const functions = Array.from({ length: 60 }, (_, i) =>
      createFunction(
        {
          id: `expensive-${i}`,
          triggers: [{ event: "order.placed", expression: `${nested(3)} && ${i} == ${i}` }]
        },
        async () => i
      )
    )
    const ship = createFunction(
      { id: "ship", triggers: [{ event: "order.placed", expression: "event.data.list.exists(x, x == 5)" }] },
      async () => "shipped"
    )
    const worker = createWorker({ serverUrl, functions: [...functions, ship], logger: false })
    const working = worker.start()
    cleanups.push(async () => {
      await worker.stop()
      await working
    })
    await vi.waitFor(async () => expect(await engine.client.listFunctions()).toHaveLength(61), PATIENCE_MS)

    const before = expressionSteps()
    const { runIds } = await engine.client.emit("order.placed", data)

    expect(runIds).toHaveLength(1)
    expect(await engine.client.waitForRun(runIds[0]!, { timeout: PATIENCE_MS })).toMatchObject({
      output: "shipped"
    })
    expect(warnings.filter((text) => givenUp.test(text))).toHaveLength(60)
    expect(warnings.join("\n")).toContain("because the expressions evaluated just before it took long")
    expect(expressionSteps() - before).toBeLessThan(
      MAX_SHARED_STEPS + MAX_EXPRESSION_STEPS + 61 * 2 * FEW_STEPS
    )
  })

  it("shares a small limit with hundreds of others for one event, and warnings say that it was stopped or not evaluated", async () => {
    const { engine, serverUrl, warnings } = await start()
    // each uses all of its small budget, and together their text exceeds the cache of compiled expressions
    const expensive = (i: number): string =>
      Array.from({ length: 20 }, (_, j) => `event.data.list.all(x, x != -${1 + i * 20 + j})`).join(" && ")
    const functions = Array.from({ length: 20 }, (_, f) => ({
      id: `expensive-${f}`,
      triggers: Array.from({ length: 40 }, (_, t) => ({
        event: "order.placed",
        expression: `!(${expensive(f * 40 + t)})`
      }))
    }))
    for (const fn of functions) {
      const registered = await fetch(`${serverUrl}/ironflow.v1.IronflowService/RegisterFunction`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(fn)
      })
      expect(registered.status).toBe(200)
    }

    const before = expressionSteps()
    const { runIds } = await engine.client.emit("order.placed", data)

    expect(runIds).toEqual([])
    expect(expressionSteps() - before).toBeLessThan(
      MAX_SHARED_STEPS + 2 * MAX_EXPRESSION_STEPS + MAX_FEW_STEPS
    )
    const told = warnings.filter((text) => /evaluation was stopped|was not evaluated/.test(text))
    expect(told.length).toBeGreaterThan(10)
    expect(told.length).toBeLessThanOrEqual(100)
  })

  it("as the condition of a policy denies, with the reason", async () => {
    const { engine, serverUrl } = await start()
    const { secret } = await engine.client.apiKeys.create({ name: "operator" })
    const operator = createClient({ serverUrl, apiKey: secret })
    cleanups.push(() => operator.close())
    const org = await operator.orgs.create({ name: "Acme" })
    const policy = await operator.policies.create({
      name: "slow",
      effect: "allow",
      actions: "*",
      resources: "*",
      condition: nested(4),
      org_id: org.id
    })
    const role = await operator.roles.create({ name: "slow", org_id: org.id })
    await operator.roles.assignPolicy(role.id, policy.id)
    const key = await operator.apiKeys.create({ name: "slow", role_ids: [role.id] })
    const slow = createClient({ serverUrl, apiKey: key.secret })
    cleanups.push(() => slow.close())

    const before = expressionSteps()
    await expect(slow.emit("order.placed", {})).rejects.toMatchObject({
      message: expect.stringMatching(givenUp)
    })

    expect(spentByLast().steps > MAX_EXPRESSION_STEPS || spentByLast().bytes > MAX_BYTES).toBe(true)
    expect(expressionSteps() - before).toBeLessThan(3 * MAX_EXPRESSION_STEPS)
    expect((await operator.emit("order.placed", {})).eventId).toMatch(/^evt_/)
  })

  it("lets other work run between two filters, and between two events for one filter", async () => {
    const { engine, serverUrl } = await start()
    const sub = createSubscriptionClient({ serverUrl })
    cleanups.push(() => sub.close())
    await sub.connect()
    const got: Array<string> = []
    for (let i = 0; i < 20; i++) {
      await sub.subscribe(`events:order.${"*.".repeat(i)}>`, {
        filter: `${nested(2)} && ${nested(2)} && ${nested(2)} && event.data.i >= ${i}`,
        onEvent: (event) => void got.push(`${i} ${event.topic}`)
      })
    }
    let longest = 0
    let last = expressionSteps()
    let isRunning = true
    const look = () => {
      longest = Math.max(longest, expressionSteps() - last)
      last = expressionSteps()
      if (isRunning) setImmediate(look)
    }
    look()

    const name = `order.${Array(21).fill("a").join(".")}`
    for (let n = 0; n < 5; n++) await engine.client.emit(name, { i: 30 })

    await vi.waitFor(() => expect(got).toHaveLength(100), PATIENCE_MS)
    isRunning = false
    expect(new Set(got).size).toBe(20)
    expect(longest).toBeLessThan(3 * MAX_EXPRESSION_STEPS)
  })

  it("counts under a limit for the length of all filters of its connection", async () => {
    const { serverUrl } = await start()
    const sub = createSubscriptionClient({ serverUrl })
    cleanups.push(() => sub.close())
    await sub.connect()
    const filter = `event.data.a == "${"a".repeat(4000)}"`
    const subscribe = (i: number) => sub.subscribe(`events:order.${i}`, { filter, onEvent: () => undefined })
    for (let i = 0; i < 16; i++) await subscribe(i)

    await expect(subscribe(16)).rejects.toThrow(
      /The total length of the filters of one connection is too large.*65536/
    )
  })
})
