/** Why an event has or has not started a function: embedded and over HTTP. */
import {
  createClient,
  createFunction,
  createWorker,
  EventNotFoundError,
  type IronflowClient
} from "@ironflow/node"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"

const one = (id: string, triggers: ReadonlyArray<object>) =>
  createFunction({ id, triggers: triggers as never }, async () => id)

let engine: IronflowEngine
let remote: IronflowClient
let eventId = ""
let runId = ""

/** Registers functions with a worker that then leaves. The functions stay. */
const register = async (...functions: ReadonlyArray<ReturnType<typeof one>>) => {
  const worker = createWorker({ serverUrl: engine.url ?? "", functions, logger: false })
  const working = worker.start()
  await worker.ready()
  await worker.stop()
  await working
}

beforeAll(async () => {
  engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    functions: [
      one("started", [{ event: "order.*" }]),
      one("large", [{ event: "order.placed", expression: "event.data.amount > 100" }]),
      one("broken", [{ event: "order.placed", expression: "event.data.customer.name == 'Ada'" }]),
      one("other", [{ event: "order.paid" }]),
      one("nightly", [{ cron: "0 3 * * *" }]),
      one("invoked", [])
    ]
  })
  remote = createClient({ serverUrl: engine.url ?? "" })
  await register(
    one("changed", [{ event: "order.paid" }]),
    one("deleted", [{ event: "order.placed" }]),
    one("deleted-other", [{ event: "order.paid" }])
  )
  await engine.client.deleteFunction("deleted")
  await engine.client.deleteFunction("deleted-other")
  const emitted = await engine.client.emit("order.placed", { amount: 5 })
  eventId = emitted.eventId
  runId = emitted.runIds[0]!
  await engine.client.waitForRun(runId)
  const { timestamp } = await engine.client.getEvent(eventId)
  // registrations from here on must be later than the event
  await vi.waitUntil(() => new Date().toISOString() > timestamp)
  await register(
    one("changed", [{ event: "order.placed" }]),
    one("late", [{ event: "order.placed" }]),
    one("late-other", [{ event: "order.paid" }]),
    one("late-invoked", []),
    one("late-large", [{ event: "order.placed", expression: "event.data.amount > 100" }])
  )
})
afterAll(async () => {
  await remote.close()
  await engine.close()
})

const connections: ReadonlyArray<readonly [string, () => IronflowClient]> = [
  ["embedded", () => engine.client],
  ["over HTTP", () => remote]
]
for (const [via, clientOf] of connections) {
  describe(`explainEvent ${via}`, () => {
    const verdicts: ReadonlyArray<readonly [functionId: string, code: string, message: RegExp]> = [
      ["started", "STARTED", /^The event has started the function$/],
      ["large", "EXPRESSION_FALSE", /event\.data\.amount > 100.* is false for the event$/],
      ["broken", "EXPRESSION_FAILED", /cannot be evaluated for the event: .*customer/],
      ["late", "REGISTERED_LATER", /was registered at .*, after the event/],
      // the event would not start these, even if it were emitted again
      ["late-other", "NO_TRIGGER", /^The function listens to "order\.paid"$/],
      ["late-invoked", "NO_TRIGGER", /^The function has no trigger: other runs invoke it$/],
      [
        "late-large",
        "EXPRESSION_FALSE",
        /is false for the event\. The function was registered at .*, after the event$/
      ],
      ["changed", "CHANGED_LATER", /^The event matches\. The function was changed at /],
      ["deleted", "DELETED", /was deleted at .*, before the event/],
      ["deleted-other", "NO_TRIGGER", /^The function listens to "order\.paid"$/],
      ["other", "NO_TRIGGER", /listens to "order\.paid"/],
      ["nightly", "NO_TRIGGER", /is started by its schedule "0 3 \* \* \*"/],
      ["invoked", "NO_TRIGGER", /has no trigger: other runs invoke it/]
    ]
    it("gives a reason for each function, and lists the started ones first", async () => {
      const { functions, name, ...rest } = await clientOf().explainEvent(eventId)
      assert.strictEqual(name, "order.placed")
      assert.strictEqual(rest.eventId, eventId)
      assert.strictEqual(functions[0]!.functionId, "started")
      assert.deepStrictEqual(functions[0]!.runs, [{ runId, status: "completed" }])
      assert.deepStrictEqual(
        functions.map(({ code, functionId }) => `${functionId} ${code}`).sort(),
        verdicts.map(([functionId, code]) => `${functionId} ${code}`).sort()
      )
      for (const [functionId, , message] of verdicts) {
        const verdict = functions.find((one) => one.functionId === functionId)
        assert.match(verdict!.message, message, functionId)
      }
    })

    it("refuses an unknown event", async () => {
      const error = await clientOf()
        .explainEvent("evt_none")
        .catch((error: unknown) => error)
      assert.instanceOf(error, EventNotFoundError)
    })
  })
}

it("a schedule does not start another function whose schedule has the same event name", async () => {
  await using engine = await startEngine({
    filename: ":memory:",
    logger: false,
    functions: [
      one("every-second", [{ cron: "* * * * * *", event: "tick" }]),
      one("yearly", [{ cron: "0 0 1 1 *", event: "tick" }]),
      one("listens", [{ event: "tick" }])
    ]
  })
  const { events } = await vi.waitUntil(
    async () => {
      const page = await engine.client.listEvents({ name: "tick", order: "oldest" })
      return page.events.length > 0 ? page : undefined
    },
    { timeout: 10_000 }
  )
  const { functions } = await engine.client.explainEvent(events[0]!.id)
  assert.deepStrictEqual(
    functions.map(({ code, functionId }) => [functionId, code]),
    [
      ["every-second", "STARTED"],
      ["listens", "STARTED"],
      ["yearly", "OTHER_SCHEDULE"]
    ]
  )
})

it("a deleted run is not mistaken for a run that never existed", async () => {
  const { eventId: id, runIds } = await engine.client.emit("order.shipped", {})
  for (const runId of runIds) await engine.client.waitForRun(runId)
  const { runIds: later } = await engine.client.emit("order.shipped", {})
  for (const runId of later) await engine.client.waitForRun(runId)
  const { id: bulkId } = await engine.client.bulk("delete", { ids: runIds })
  assert.strictEqual((await engine.client.waitForBulk(bulkId)).done, 1)
  const { functions } = await engine.client.explainEvent(id)
  assert.deepInclude(functions[0], { functionId: "started", code: "RUN_GONE" })
})

it("an event of a function's schedule still counts as its own when the run of the event was deleted", async () => {
  await using engine = await startEngine({
    filename: ":memory:",
    logger: false,
    functions: [one("every-second", [{ cron: "* * * * * *", event: "tick" }])]
  })
  const runs = await vi.waitUntil(
    async () => {
      const { runs } = await engine.client.listRuns({ status: "completed" })
      return runs.length > 1 ? runs : undefined
    },
    { timeout: 10_000 }
  )
  // the newest run is always kept
  const { eventId, id } = runs.at(-1)!
  const { id: bulkId } = await engine.client.bulk("delete", { ids: [id] })
  assert.strictEqual((await engine.client.waitForBulk(bulkId)).done, 1)

  const { functions } = await engine.client.explainEvent(eventId)

  assert.deepInclude(functions[0], { functionId: "every-second", code: "RUN_GONE" })
})

it("a message is no event", async () => {
  const { eventId: id } = await engine.client.publish("news", {})

  const error = await engine.client.explainEvent(id).catch((error: unknown) => error)

  assert.instanceOf(error, EventNotFoundError)
})
