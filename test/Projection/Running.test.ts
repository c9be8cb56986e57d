/** Projections as their users see them, in the engine's process and over HTTP. */
import { afterEach, assert, describe, expect, it, vi } from "vitest"
import {
  createClient,
  createEventDefinitionRegistry,
  createFunction,
  createNoopLogger,
  createProjection,
  createWorker,
  defineEvent,
  type IronflowClient,
  NonRetryableError,
  ProjectionBehindError,
  ProjectionNotFoundError,
  type RunnableProjection,
  ValidationError,
  type Worker,
  type WorkerConfig
} from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"

const totals = createProjection({
  name: "order-totals",
  events: ["order.placed", "order.cancelled"],
  initialState: () => ({ total: 0, count: 0 }),
  handler: (state, event) =>
    event.name === "order.placed"
      ? { total: state.total + event.data.amount, count: state.count + 1 }
      : { total: state.total - event.data.amount, count: state.count - 1 }
})

interface Setup {
  readonly client: IronflowClient
  /** The client in the engine's process, for preparations that take long over HTTP. */
  readonly embedded: IronflowClient
  readonly startWorker: (
    projections: ReadonlyArray<RunnableProjection>,
    more?: Partial<WorkerConfig>
  ) => Promise<Worker>
}

const cleanups: Array<() => Promise<unknown>> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const open = async (transport: "memory" | "http"): Promise<Setup> => {
  const engine = await startEngine({
    filename: ":memory:",
    logger: false,
    ...(transport === "http" ? { listen: { port: 0 } } : {})
  })
  cleanups.push(() => engine.close())
  const client = engine.url === undefined ? engine.client : createClient({ serverUrl: engine.url })
  if (engine.url !== undefined) cleanups.push(() => client.close())
  return {
    client,
    embedded: engine.client,
    startWorker: async (projections, more = {}) => {
      const config = { functions: [], projections, logger: createNoopLogger(), ...more }
      const worker =
        engine.url === undefined
          ? engine.createWorker(config as WorkerConfig)
          : createWorker({ ...config, serverUrl: engine.url } as WorkerConfig)
      const working = worker.start()
      cleanups.push(async () => {
        await worker.stop()
        await working
      })
      await worker.ready()
      return worker
    }
  }
}

const rejection = async (promise: Promise<unknown>): Promise<any> =>
  promise.then(
    () => assert.fail("expected a rejection"),
    (error: unknown) => error
  )

describe.for(["memory", "http"] as const)("projections over %s", (transport) => {
  const emitAll = async (client: IronflowClient, ...amounts: ReadonlyArray<number>): Promise<number> => {
    let position = 0
    for (const amount of amounts) {
      const emitted = await client.emit("order.placed", { amount, customer: `c-${amount % 2}` })
      position = emitted.position ?? 0
    }
    return position
  }

  it("fold events into a state, and reads can wait for an earlier write", async () => {
    const { client, startWorker } = await open(transport)
    await emitAll(client, 1, 2)
    await startWorker([totals])

    const { position } = await client.emit("order.cancelled", { amount: 1 })
    const result = await client.projections.get("order-totals", { after: position })

    assert.deepStrictEqual(result.state, { total: 2, count: 1 })
    assert.deepInclude(result, {
      name: "order-totals",
      partition: "__global__",
      mode: "managed",
      status: "active"
    })
    assert.strictEqual(result.lastEventSeq, position)
    expect((await client.projections.list()).map(({ name }) => name)).toEqual(["order-totals"])
  })

  it("receive the events of entity streams with their entity, and reads can wait for an append", async () => {
    const { client, startWorker } = await open(transport)
    const seen: Array<unknown> = []
    const balances = createProjection({
      name: "balances",
      events: ["account.*"],
      partitionKey: "$.entity.id",
      initialState: () => ({ balance: 0, version: 0 }),
      handler: (state, { data, entity }) => ({
        balance: state.balance + data.amount,
        version: entity?.version ?? -1
      })
    })
    const audit = createProjection({
      name: "audit",
      events: ["account.*"],
      handler: ({ entity, name }) => void seen.push([name, entity])
    })
    await startWorker([balances, audit])

    let position: number | undefined
    for (const amount of [5, 7, -2]) {
      const appended = await client.streams.append("account-1", {
        entityType: "account",
        name: amount > 0 ? "account.credited" : "account.debited",
        data: { amount }
      })
      position = appended.position
      const { state } = await client.projections.get("balances", { partition: "account-1", after: position })
      assert.strictEqual(state.version, appended.entityVersion)
    }
    await client.emit("account.checked", { amount: 0 })
    const last = await client.emit("account.checked", { amount: 0 })
    await client.projections.waitForCatchup("audit", { after: last.position })

    const { state } = await client.projections.get("balances", { partition: "account-1", after: position })
    assert.deepStrictEqual(state, { balance: 10, version: 3 })
    assert.deepStrictEqual(seen, [
      ["account.credited", { id: "account-1", type: "account", version: 1 }],
      ["account.credited", { id: "account-1", type: "account", version: 2 }],
      ["account.debited", { id: "account-1", type: "account", version: 3 }],
      ["account.checked", undefined],
      ["account.checked", undefined]
    ])
  })

  it("save many states and dead letters in several parts when they are far behind", async () => {
    const { client, startWorker, embedded } = await open(transport)
    const count = 3000
    // few partitions at first, so that the batches grow; then a partition for each event, and a dead letter for every other event
    await Promise.all(
      Array.from({ length: count }, (_, i) => embedded.emit("many", { key: i < 1000 ? "same" : `p-${i}`, i }))
    )
    await startWorker([
      createProjection({
        name: "many",
        events: ["many"],
        batchSize: 500,
        maxRetries: 0,
        partitionKey: "$.data.key",
        initialState: () => ({ sum: 0 }),
        handler: (state, event) => {
          if (event.data.i >= 1000 && event.data.i % 2 === 0) throw new Error("even")
          return { sum: state.sum + event.data.i }
        }
      })
    ])

    await client.projections.waitForCatchup("many", { after: count })
    const sumOf = async (partition: string) => (await client.projections.get("many", { partition })).state.sum
    const status = await client.projections.status("many")

    assert.deepStrictEqual(
      [await sumOf("same"), await sumOf("p-1001"), await sumOf("p-2999")],
      [499_500, 1001, 2999]
    )
    assert.deepStrictEqual([status.deadLetters, status.lag, status.refusedSaves], [1000, 0, 0])
  })

  it("let other work run while they fold many events", async () => {
    const { client, startWorker, embedded } = await open(transport)
    await Promise.all(Array.from({ length: 500 }, (_, i) => embedded.emit("tick", { i })))
    let turns = 0
    const turnsAt: Array<number> = []
    const ticking = setInterval(() => turns++, 0)
    cleanups.push(async () => clearInterval(ticking))
    const slow = createProjection({
      name: "slow",
      events: ["tick"],
      batchSize: 1000,
      initialState: () => 0,
      handler: (count) => {
        turnsAt.push(turns)
        for (const started = performance.now(); performance.now() - started < 0.5;);
        return count + 1
      }
    })

    await startWorker([slow])
    const { state } = await client.projections.get("slow", { after: 500 })

    assert.strictEqual(state, 500)
    // the events are one batch, which takes a quarter of a second
    assert.isAtLeast(turnsAt.at(-1)! - turnsAt[0]!, 20)
  })

  it("show the old state while they are rebuilt, and wait with `after`", async () => {
    const { client, startWorker } = await open(transport)
    const worker = await startWorker([totals])
    const after = await emitAll(client, 1, 2, 3)
    await client.projections.waitForCatchup("order-totals", { after })
    await worker.drain()

    const rebuilding = await client.projections.rebuild("order-totals")
    const meanwhile = await client.projections.get("order-totals")
    const waiting = client.projections.get("order-totals", { after })
    // the worker of the projection has left, so another one may run it
    await startWorker([
      { ...totals, config: { ...totals.config, handler: () => ({ total: -1, count: -1 }) } }
    ])
    const rebuilt = await waiting

    assert.strictEqual(rebuilding.status, "rebuilding")
    assert.deepStrictEqual(meanwhile.state, { total: 6, count: 3 })
    assert.deepStrictEqual(rebuilt.state, { total: -1, count: -1 })
    assert.strictEqual((await client.projections.status("order-totals")).status, "active")
  })

  it("keep a state for each partition, by path or function", async () => {
    const { client, startWorker } = await open(transport)
    const byPath = createProjection({
      name: "by-path",
      events: ["order.placed"],
      initialState: () => ({ amounts: [] as Array<number> }),
      handler: ({ amounts }, event) => ({ amounts: [...amounts, event.data.amount] }),
      partitionKey: "$.data.customer"
    })
    const byFunction = createProjection({
      name: "by-function",
      events: ["order.placed"],
      batchSize: 2,
      initialState: () => 0,
      handler: (count) => count + 1,
      partitionKey: (event) => (event.data.amount > 2 ? "large" : "small")
    })
    await startWorker([byPath, byFunction])

    const after = await emitAll(client, 1, 2, 3, 4, 5)
    const stateOf = async (name: string, partition: string) =>
      (await client.projections.get(name, { partition, after })).state

    assert.deepStrictEqual(await stateOf("by-path", "c-1"), { amounts: [1, 3, 5] })
    assert.deepStrictEqual(await stateOf("by-path", "c-0"), { amounts: [2, 4] })
    assert.deepStrictEqual(
      [await stateOf("by-function", "large"), await stateOf("by-function", "small")],
      [3, 2]
    )
    assert.deepStrictEqual(await stateOf("by-path", "nobody"), {})
    const getFromNothing = async (partition: string) =>
      await client.projections.get("by-path", { partition, initialState: () => ({ amounts: [0] }) })
    assert.deepInclude(await getFromNothing("nobody"), { state: { amounts: [0] }, version: 0 })
    assert.deepStrictEqual((await getFromNothing("c-0")).state.amounts, [2, 4])
  })

  it("call external handlers in order, with the facts about the event", async () => {
    const { client, startWorker } = await open(transport)
    const seen: Array<unknown> = []
    await startWorker([
      createProjection({
        name: "mails",
        events: ["order.*"],
        handler: async (event, ctx) => {
          await Promise.resolve()
          seen.push([
            event.data.amount,
            ctx.event.seq === event.seq,
            ctx.event.timestamp instanceof Date,
            ctx.projection
          ])
        }
      })
    ])

    await client.projections.waitForCatchup("mails", { after: await emitAll(client, 1, 2) })

    const projection = { name: "mails", version: 1 }
    assert.deepStrictEqual(seen, [
      [1, true, true, projection],
      [2, true, true, projection]
    ])
  })

  it("receive events in the latest version", async () => {
    const { client, startWorker } = await open(transport)
    const eventDefinitions = createEventDefinitionRegistry()
    eventDefinitions.register(
      defineEvent({ name: "order.placed", version: 2, upcast: (data: any) => ({ amount: data.cents / 100 }) })
    )
    await startWorker([totals], { eventDefinitions })

    await client.emit("order.placed", { cents: 150 })
    const { position } = await client.emit("order.placed", { amount: 2 }, { version: 2 })

    assert.deepStrictEqual((await client.projections.get("order-totals", { after: position })).state, {
      total: 3.5,
      count: 2
    })
  })

  it("give up on an event that fails, continue after it, and retry it on request", async () => {
    const { client, startWorker } = await open(transport)
    let isDown = true
    const seen: Array<number> = []
    await startWorker([
      createProjection({
        name: "mails",
        events: ["order.placed"],
        maxRetries: 0,
        handler: async (event) => {
          if (isDown && event.data.amount === 2) throw new Error("mail server is down")
          seen.push(event.data.amount)
        }
      })
    ])

    const after = await emitAll(client, 1, 2, 3)
    await client.projections.waitForCatchup("mails", { after })
    const [letter] = await client.projections.deadLetters("mails")
    const status = await client.projections.status("mails")
    isDown = false
    await client.projections.retryDeadLetter("mails", letter?.position ?? 0)
    await vi.waitFor(async () => assert.deepStrictEqual(await client.projections.deadLetters("mails"), []))

    assert.deepInclude(letter, { attempts: 1, retrying: false })
    assert.deepInclude(letter?.event, { name: "order.placed", data: { amount: 2, customer: "c-0" } })
    assert.strictEqual(letter?.error.message, "mail server is down")
    assert.deepInclude(status, {
      deadLetters: 1,
      errorMessage: "mail server is down",
      lag: 0,
      status: "active"
    })
    assert.deepStrictEqual(seen, [1, 3, 2])
    assert.strictEqual(
      (await rejection(client.projections.retryDeadLetter("mails", letter?.position ?? 0))).code,
      "INVALID_STATE"
    )
  })

  it("retry an event as often as configured", async () => {
    const { client, startWorker } = await open(transport)
    const attempts: Array<number> = []
    await startWorker([
      createProjection({
        name: "mails",
        events: ["order.placed"],
        maxRetries: 1,
        handler: (_event, { attempt }) => {
          attempts.push(attempt)
          throw new Error("down")
        }
      })
    ])

    const after = await emitAll(client, 1)
    await vi.waitFor(async () =>
      assert.strictEqual((await client.projections.status("mails")).status, "error")
    )
    const failing = await client.projections.status("mails")
    await client.projections.waitForCatchup("mails", { after })

    assert.deepStrictEqual(failing.failing, { position: after, failures: 1 })
    assert.include(failing.message, "has failed once and is tried again: down")
    assert.deepStrictEqual(attempts, [1, 2])
    assert.strictEqual((await client.projections.deadLetters("mails"))[0]?.attempts, 2)
  })

  it("skip events that cannot be folded, and keep the reason", async () => {
    const { client, startWorker } = await open(transport)
    const cyclic: any = {}
    cyclic.self = cyclic
    const bad: ReadonlyArray<unknown> = [
      undefined,
      Promise.resolve({}),
      { n: 1n },
      cyclic,
      { text: "x".repeat(4 * 1024 * 1024) }
    ]
    await startWorker([
      createProjection({
        name: "fragile",
        events: ["order.placed"],
        maxRetries: 0,
        initialState: () => ({ good: 0 }) as any,
        handler: (state, event) => {
          const { amount } = event.data
          if (amount >= bad.length) return { good: state.good + 1 }
          // a change that a handler makes before it fails must not count
          state.good = -1
          return bad[amount]
        }
      })
    ])

    const after = await emitAll(client, 9, 0, 1, 9, 2, 3, 4, 9)
    const { state } = await client.projections.get("fragile", { after })
    const letters = await client.projections.deadLetters("fragile")

    assert.deepStrictEqual(state, { good: 3 })
    assert.deepStrictEqual(
      letters.map(({ error }) => error.code),
      ["VALIDATION_ERROR", "VALIDATION_ERROR", "VALIDATION_ERROR", "VALIDATION_ERROR", "LIMIT_EXCEEDED"]
    )
    assert.match(letters[1]?.error.message ?? "", /returned a promise/)
  })

  it("pass states to handlers as JSON returns them, at any batch size", async () => {
    const { client, startWorker } = await open(transport)
    const types = (name: string, batchSize: number) =>
      createProjection({
        name,
        events: ["order.placed"],
        batchSize,
        initialState: () => ({ at: new Date(0) as unknown, types: [] as Array<string> }),
        handler: (state, event) => ({
          at: new Date(event.data.amount),
          types: [...state.types, typeof state.at]
        })
      })
    await startWorker([types("one", 1), types("many", 100)])

    const after = await emitAll(client, 1, 2, 3)
    const one = await client.projections.get("one", { after })
    const many = await client.projections.get("many", { after })

    assert.deepStrictEqual(one.state.types, ["string", "string", "string"])
    assert.deepStrictEqual(many.state, one.state)
  })

  it("affect neither other projections nor functions when they cannot run", async () => {
    const { client, startWorker } = await open(transport)
    const broken = createProjection({
      name: "broken",
      events: ["order.placed"],
      initialState: () => {
        throw new Error("no state")
      },
      handler: (state: number) => state
    })
    const alwaysFails = createProjection({
      name: "hopeless",
      events: ["order.placed"],
      handler: () => {
        throw new NonRetryableError("never")
      }
    })
    const ship = createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, async () => "shipped")
    await startWorker([broken, alwaysFails, totals], { functions: [ship] } as Partial<WorkerConfig>)

    const { position, runIds } = await client.emit("order.placed", { amount: 1 })

    assert.deepStrictEqual((await client.projections.get("order-totals", { after: position })).state, {
      total: 1,
      count: 1
    })
    assert.strictEqual((await client.waitForRun(runIds[0] ?? "")).output, "shipped")
    await client.projections.waitForCatchup("hopeless", { after: position })
    assert.lengthOf(await client.projections.deadLetters("hopeless"), 1)
    assert.instanceOf(await rejection(client.projections.status("broken")), ProjectionNotFoundError)
  })

  it("keep their position while they are paused, and say who paused them", async () => {
    const { client, startWorker } = await open(transport)
    await startWorker([totals])
    await client.projections.waitForCatchup("order-totals", { after: await emitAll(client, 1) })

    const paused = await client.projections.pause("order-totals", { by: "ada", reason: "deploy" })
    const after = await emitAll(client, 2)
    const behind = await rejection(client.projections.get("order-totals", { after, timeout: 50 }))
    const resumed = await client.projections.resume("order-totals")
    const { state } = await client.projections.get("order-totals", { after })

    assert.deepInclude(paused, { status: "paused", pausedBy: "ada", pauseReason: "deploy" })
    assert.instanceOf(behind, ProjectionBehindError)
    assert.deepInclude(behind, { code: "PROJECTION_BEHIND", projection: "order-totals", target: after })
    assert.include(behind.message, "Paused by ada")
    assert.strictEqual(resumed.status, "active")
    assert.deepStrictEqual(state, { total: 3, count: 2 })
  })

  it("are rebuilt from the log while new events arrive", async () => {
    const { client, startWorker } = await open(transport)
    await startWorker([totals])
    await client.projections.waitForCatchup("order-totals", { after: await emitAll(client, 1, 2, 3) })

    const [info] = await Promise.all([client.projections.rebuild("order-totals"), emitAll(client, 4, 5)])
    const after = await emitAll(client, 6)
    const { state } = await client.projections.get("order-totals", { after })

    assert.isAbove(info.generation, 1)
    assert.deepStrictEqual(state, { total: 21, count: 6 })
  })

  it("belong to one of two workers, and move to the other when it leaves", async () => {
    const { client, startWorker } = await open(transport)
    const first = await startWorker([totals], { workerId: "first" })
    await client.projections.waitForCatchup("order-totals", { after: await emitAll(client, 1) })
    await startWorker([totals], { workerId: "second" })
    const before = await client.projections.status("order-totals")
    await first.drain()

    const { state } = await client.projections.get("order-totals", { after: await emitAll(client, 2) })
    const afterwards = await client.projections.status("order-totals")

    assert.deepStrictEqual([before.owner, afterwards.owner], ["first", "second"])
    assert.isAbove(afterwards.generation, before.generation)
    assert.deepStrictEqual(state, { total: 3, count: 2 })
    assert.strictEqual(afterwards.refusedSaves, 0)
  })

  it("save in parts when one save would be too large", { timeout: 20_000 }, async () => {
    const { client, startWorker } = await open(transport)
    await startWorker([
      createProjection({
        name: "documents",
        events: ["order.placed"],
        initialState: () => ({ text: "" }),
        handler: (_state, event) => ({ text: String(event.data.amount).repeat(1024 * 1024) }),
        partitionKey: "data.amount"
      })
    ])
    await client.projections.pause("documents").catch(() => undefined)
    const after = await emitAll(client, 1, 2, 3, 4, 5, 6)
    await client.projections.resume("documents")

    for (const partition of ["1", "6"]) {
      const { state } = await client.projections.get("documents", { after, partition })
      assert.strictEqual(state.text, partition.repeat(1024 * 1024))
    }
  })

  it("are reported as missing when no worker has registered them, and invalid calls are refused", async () => {
    const { client, startWorker } = await open(transport)
    await startWorker([totals])
    const { projections } = client

    assert.instanceOf(await rejection(projections.get("nope")), ProjectionNotFoundError)
    assert.instanceOf(await rejection(projections.rebuild("nope")), ProjectionNotFoundError)
    assert.instanceOf(await rejection(projections.get("order totals")), ValidationError)
    assert.instanceOf(await rejection(projections.get("order-totals", { after: -1 })), ValidationError)
    assert.instanceOf(
      await rejection(projections.get("order-totals", { after: 0, timeout: -1 })),
      ValidationError
    )
    assert.instanceOf(await rejection(projections.deadLetters("order-totals", { limit: 0 })), ValidationError)
    assert.instanceOf(
      await rejection(projections.waitForCatchup("order-totals", { after: 10_000, timeout: 20 })),
      ProjectionBehindError
    )
    const aborted = AbortSignal.abort(new Error("enough"))
    assert.strictEqual(
      (await rejection(projections.waitForCatchup("order-totals", { after: 10_000, signal: aborted })))
        .message,
      "enough"
    )
  })
})
