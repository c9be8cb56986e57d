/**
 * A shop in the Effect API that makes each documented call, without a cast and without an `any`.
 *
 * It is compiled and never run: `programs.test.ts` checks it with the compiler.
 */
import {
  ApiKeys,
  Client,
  ConsumerGroups,
  Engine,
  Entity,
  Errors,
  Event,
  Hooks,
  IronflowConfig,
  IronflowFunction,
  IronflowLogger,
  Kv,
  Orgs,
  Policies,
  Projection,
  Projections,
  Push,
  Roles,
  Secrets,
  Serve,
  Server,
  Step,
  Store,
  Streams,
  Subscriptions,
  Testing,
  Upcaster,
  Webhook,
  Worker,
  WorkerTransport,
  isErased
} from "@ironflow/node/effect"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { FetchHttpClient } from "effect/http"
import { TestClock } from "effect/testing"

// -- definitions of the shop -------------------------------------------------------------------------------------------------

class Declined extends Schema.TaggedError<Declined>()("Declined", { reason: Schema.String }) {}
const Receipt = Schema.Struct({ id: Schema.String, paidAt: Schema.DateFromString })
const Session = Schema.Struct({ token: Schema.String, role: Schema.Literals(["admin", "customer"]) })
const Settings = Schema.Struct({ theme: Schema.String, locale: Schema.String })
const Totals = Schema.Struct({ total: Schema.Number, count: Schema.Number })

class Payments extends Context.Service<
  Payments,
  {
    readonly charge: (amount: number) => Effect.Effect<typeof Receipt.Type, Declined>
    readonly refund: (receiptId: string) => Effect.Effect<void>
  }
>()("shop/Payments") {}

const OrderPlaced = Event.define("order.placed", {
  data: Schema.Struct({ orderId: Schema.String, amount: Schema.Number, customerId: Schema.String })
})
const OrderApproved = Event.define("order.approved", {
  data: Schema.Struct({ orderId: Schema.String, by: Schema.String })
})
const InvoiceWanted = Event.define("invoice.wanted", { data: Schema.Struct({ orderId: Schema.String }) })
const ItemAdded = Event.define("item.added", {
  data: Schema.Struct({ sku: Schema.String, qty: Schema.Number, at: Schema.DateFromString }),
  version: 2,
  upcast: (data) => data
})
const Cart = Entity.define({
  type: "cart",
  events: [ItemAdded, OrderApproved],
  initialState: () => ({ qty: 0 }),
  evolve: (cart, event) => (event.name === "item.added" ? { qty: cart.qty + event.data.qty } : cart),
  snapshot: Schema.Struct({ qty: Schema.Number })
})

export const definitions = Upcaster.createEventDefinitionRegistry()
definitions.register(Event.defineEvent({ name: "item.added", version: 1 }))
definitions.register(ItemAdded)

// -- functions and steps -------------------------------------------------------------------------------------------------

const makeInvoice = IronflowFunction.make(
  { id: "make-invoice", triggers: [InvoiceWanted] },
  Effect.fnUntraced(function* ({ event }) {
    return yield* Step.run("number", Effect.succeed({ invoice: `2026-${event.data.orderId}` }))
  })
)

const processOrder = IronflowFunction.make(
  {
    id: "process-order",
    triggers: [OrderPlaced],
    retry: { maxAttempts: 5 },
    timeout: 300_000,
    concurrency: { limit: 10, key: "event.data.customerId" },
    secrets: ["STRIPE_SECRET_KEY"],
    searchBy: ["event.data.orderId"],
    stepTimeout: "30s"
  },
  Effect.fnUntraced(function* ({ event, run, logger, secrets }) {
    const { amount, orderId } = event.data
    const payments = yield* Payments
    logger.info("charging", { attempt: run.attempt, key: secrets.has("STRIPE_SECRET_KEY") })

    const receipt = yield* Step.run("charge", payments.charge(amount), {
      success: Receipt,
      error: Declined,
      timeout: "20 seconds",
      retry: { maxAttempts: 2 }
    })
    yield* Step.compensate("charge", payments.refund(receipt.id))
    const attempt = yield* Step.run(
      "attempt",
      Effect.map(Step.StepAttempt, (it) => it.attempt)
    )

    yield* Step.sleep("cool off", "5 minutes")
    yield* Step.sleepUntil("new year", new Date(Date.UTC(2027, 0, 1)))
    const approval = yield* Step.waitForEvent("approval", {
      event: OrderApproved,
      match: "data.orderId",
      timeout: "2 days"
    })
    const { invoice } = yield* Step.invoke(makeInvoice, { orderId }, { timeout: "5 minutes" })
    const { runId } = yield* Step.invokeAsync(makeInvoice, { orderId })

    const [stock, credit] = yield* Step.parallel("checks", [
      Step.run("stock", Effect.succeed(3)),
      Step.run("credit", Effect.succeed(true))
    ])
    const labels = yield* Step.map(
      "labels",
      ["small", "large"],
      (size, index) => Step.run("print", Effect.succeed(`${index}: ${size}`)),
      { concurrency: 3, onError: "allSettled" }
    )

    const { sequence } = yield* Step.publish("shipments", { orderId, status: "on its way" })
    const { value, writes } = yield* Step.tx("book", (tx) =>
      Effect.gen(function* () {
        yield* tx.streams.append(orderId, { name: "order.paid", data: { amount }, entityType: "order" })
        yield* tx.streams.appendAll(orderId, {
          entityType: "order",
          events: [{ name: "order.booked", data: {} }]
        })
        yield* tx.emit(OrderApproved, { orderId, by: approval.data.by })
        yield* tx.streams.of(Cart).append("cart-1", { name: "order.approved", data: approval.data })
        const left = tx.kv("stock", { schema: Schema.Struct({ left: Schema.Number }) })
        yield* left.put("pen", { left: stock })
        yield* left.create("ink", { left: 1 })
        yield* left.update("paper", { left: 2 }, 4)
        yield* left.delete("chalk", { revision: 2 })
        return amount
      })
    )
    if (!credit) return yield* new Errors.NonRetryableError(`${orderId} has no credit`)
    return {
      orderId,
      attempt,
      paidAt: receipt.paidAt.toISOString(),
      by: approval.data.by,
      invoice,
      runId,
      labels: labels.filter((label) => typeof label === "string"),
      sequence,
      value,
      writes: writes.length
    }
  })
)

// -- projections and webhooks --------------------------------------------------------------------------------------------

const orderTotals = Projection.make({
  name: "order-totals",
  events: [OrderPlaced],
  initialState: () => ({ total: 0, count: 0 }),
  handler: (state, event) => ({ total: state.total + event.data.amount, count: state.count + 1 })
})

const notifier = Projection.make({
  name: "notifier",
  events: [OrderPlaced],
  handler: (event, ctx) => Effect.log(`an order of ${event.data.amount}, ${ctx.attempt}`)
})

const push = Webhook.createWebhook<Record<string, string>>({
  id: "bank",
  verify: (request) => request.headers["x-signature"],
  transform: (payload) => ({ name: `bank.${payload.type}`, data: payload })
})

export const served = Effect.gen(function* () {
  const { handle } = yield* Serve.make({ functions: [processOrder], webhooks: [push], signingKey: "secret" })
  return handle
})

// -- layers --------------------------------------------------------------------------------------------------------------

const Functions = Worker.layer({
  functions: [processOrder, makeInvoice],
  projections: [orderTotals, notifier],
  maxConcurrentJobs: 20
})

export const drained = Effect.gen(function* () {
  const worker = yield* Worker.make({ functions: [processOrder], projections: [orderTotals] })
  yield* worker.ready
  yield* Effect.log(worker.workerId, yield* worker.activeJobs, yield* worker.isConnected)
  yield* worker.drain
  yield* worker.stop
  yield* worker.awaitStopped
})

const EngineLive = Engine.layer.pipe(Layer.provide(Store.layerSqlite({ filename: "orders.db" })))

export const Main = Functions.pipe(
  Layer.provide(WorkerTransport.layerMemory),
  Layer.merge(Server.layer({ port: 9123 })),
  Layer.merge(Engine.layerClient),
  Layer.provide(EngineLive),
  Layer.provide(Layer.succeed(Push.PushSettings, Push.makeSettings({ maxConcurrent: 5 }))),
  Layer.provide(
    Layer.succeed(Hooks.EngineHooks, [{ url: "https://alarms.example.com/", secret: "s".repeat(32) }])
  ),
  Layer.provide(Layer.succeed(Hooks.Failing, { window: "10m" }))
)

export const fragile = IronflowFunction.make(
  {
    id: "fragile",
    triggers: [OrderPlaced],
    onFailure: ({ event }) => Step.run("tell", Effect.logError(event.data.error.message))
  },
  ({ event }) => Effect.succeed(event.data.orderId)
)

export const alarmed = (headers: Record<string, string>, body: string) =>
  Effect.map(
    Effect.catchTag(Hooks.verify({ headers, body }, "new"), "SignatureError", (error) => Effect.die(error)),
    ({ data }) => data.runId
  )

export const Remote = Layer.mergeAll(
  Client.layerHttp({ serverUrl: "http://localhost:9123" }),
  WorkerTransport.layerPolling({ serverUrl: "http://localhost:9123" })
).pipe(Layer.provide(Layer.merge(FetchHttpClient.layer, Client.layerChannel)))

export const otherTransports = [
  WorkerTransport.layerRpc({}),
  WorkerTransport.layerConnect({}),
  WorkerTransport.layerStreaming({})
]

// -- the client ----------------------------------------------------------------------------------------------------------

export const useClient = Effect.gen(function* () {
  const client = yield* Client.Client
  const logger = IronflowLogger.createLogger({ level: "info" })
  const { runIds } = yield* client.emit(
    OrderPlaced,
    { orderId: "o-1", amount: 1, customerId: "c-1" },
    { idempotencyKey: "o-1", metadata: { source: "web" } }
  )
  yield* client.emitMany([{ event: OrderApproved, data: { orderId: "o-1", by: "Ada" } }])
  const [runId = ""] = runIds
  yield* client.trigger("order.placed", { orderId: "o-2" })
  const { output } = yield* client.emitSync("order.placed", { orderId: "o-3" }, { timeout: 1000 })
  const { runs } = yield* client.listRuns({ functionId: "process-order", status: "failed", limit: 25 })
  const { lookedBackTo } = yield* client.listRuns({
    status: ["failed", "paused"],
    createdFrom: new Date(0),
    attributes: { "event.data.orderId": "o-1" },
    where: "error.code == 'DECLINED'"
  })
  const run = yield* client.getRun(runId)
  const ended = yield* client.waitForRun(runId, { timeout: 10_000 })
  const [step] = yield* client.getRunSteps(runId)
  const [audited] = yield* client.getRunAudit(runId)
  const { groupCount, groups } = yield* client.countRuns({
    by: "hour",
    functionId: "process-order",
    durations: true
  })
  yield* Effect.log(groupCount, groups[0]?.value, groups[0]?.durations?.p50)
  const [line] = yield* client.getRunLogs(runId)
  yield* Effect.log(line?.level, line?.message, line?.step)
  const { message } = yield* client.explain(runId)
  const receipts = yield* Effect.forEach([output, run.output, ended.output, step?.output], (it) =>
    Schema.decodeUnknownEffect(Receipt)(it)
  )
  const counted = yield* client.bulk("retry", { status: "failed", error: "declined" }, { dryRun: true })
  const begun = yield* client.bulk("cancel", { ids: [runId] }, { reason: "no longer needed" })
  const erasing = yield* client.erase(
    {
      events: { where: 'event.data.email == "jane@example.com"' },
      keys: [{ bucket: "profiles", prefix: "jane" }]
    },
    { dryRun: true, cancel: false }
  )
  const erasedRuns: number | undefined = (yield* client.getBulk(erasing.id)).kinds?.runs
  void [erasedRuns, erasing.rebuild?.[0], erasing.note, isErased(output) && output.$erased]
  const bulkEnded = yield* client.waitForBulk(begun.id, { timeout: 60_000 })
  const skipped: number | undefined = bulkEnded.skipped.completed
  for (const { examples, lookedBackTo, status } of yield* client.listBulk()) {
    void [examples[0]?.why, lookedBackTo, status === "stopped", skipped]
  }
  yield* client.cancelBulk((yield* client.getBulk(counted.id)).id)
  yield* client.cancelRun(runId, "no longer needed")
  yield* client.retryRun(runId, "charge")
  yield* client.resumeRun(runId, "charge")
  yield* client.pauseRun(runId, "for a while")
  yield* client.patchStep("step", { corrected: 42 }, "bad data")
  const fork = yield* client.forkRun(runId, { from: "charge", steps: { charge: 1 }, data: { a: 1 } })
  const moved = yield* client.moveRun(runId, { version: "2" })
  yield* Effect.log(fork.forkedFrom, moved.codeVersion)
  const paused = yield* client.pauseFunction("process-order", { reason: "the bank is down" })
  const resumed = yield* client.resumeFunction("process-order")
  const now = yield* client.runFunction("process-order", { orderId: "o-1" }, { idempotencyKey: "once" })
  yield* Effect.log(paused.paused?.by, resumed.codeVersion, now.status)
  const [registered] = yield* client.functionHistory("process-order")
  const [left] = yield* client.liveVersions()
  yield* Effect.log(registered?.changed, left?.liveRuns)
  yield* client.deleteFunction("old")
  const found = yield* client.listEvents({ name: "order.*", idempotencyKey: "o-1", order: "oldest" })
  const event = yield* client.getEvent(found.events[0]?.id ?? "")
  const explained = yield* client.explainEvent(event.id)
  console.log(explained.functions.map(({ code, runs }) => [code === "STARTED", runs?.[0]?.status]))
  const { sequence } = yield* client.publish("news", { title: "Hello" })
  logger.info(message, {
    runs: runs.length,
    lookedBackTo,
    receipts: receipts.map(({ paidAt }) => paidAt.getTime()),
    audited: audited?.type,
    placed: event.timestamp,
    functions: (yield* client.listFunctions()).length,
    workers: (yield* client.listWorkers()).length,
    features: (yield* client.getCapabilities()).features,
    health: yield* client.health(),
    topics: (yield* client.listTopics()).length,
    lag: (yield* client.getTopicStats("news")).lag,
    sequence
  })
}).pipe(
  Effect.catchTags({
    RunNotFoundError: (error) => Effect.log(error.runId),
    ValidationError: (error) => Effect.log(error.message),
    TimeoutError: (error) => Effect.log(error.message),
    ConnectionError: (error) => Effect.log(error.message)
  })
)

export const useStreams = Effect.gen(function* () {
  const streams = yield* Streams.Streams
  const carts = streams.of(Cart)
  yield* carts.append("cart-1", { name: "item.added", data: { sku: "ABC", qty: 2, at: new Date() } })
  yield* carts.appendAll("cart-1", [{ name: "order.approved", data: { orderId: "o-1", by: "Ada" } }])
  const { state, entityVersion } = yield* carts.state("cart-1")
  yield* carts.createSnapshot("cart-1", { state, entityVersion })
  const kept = yield* carts.getSnapshot("cart-1")
  const [addedFirst] = (yield* carts.read("cart-1")).events
  if (addedFirst?.name === "item.added") yield* Effect.log(addedFirst.data.at.getTime(), kept?.state.qty)
  yield* Stream.runDrain(carts.events("cart-1"))
  const info = yield* streams.getInfo("order-123")
  const found = yield* streams.findInfo("order-123")
  yield* streams.append(
    "order-123",
    { event: ItemAdded, data: { sku: "ABC", qty: 2, at: new Date() }, entityType: "order" },
    { expectedVersion: info.version, idempotencyKey: "k" }
  )
  yield* streams.appendAll(
    "order-123",
    { entityType: "order", events: [{ name: "item.added", data: { sku: "ABC", qty: 2 } }] },
    { expectedVersion: "STREAM_EXISTS" }
  )
  const { events } = yield* streams.read("order-123", { direction: "backward", limit: 10 })
  const versions = yield* Stream.runFold(
    streams.events("order-123", { pageSize: 500 }),
    () => 0,
    (sum, event) => sum + event.entityVersion
  )
  const page = yield* streams.listStreams({ entityType: "order", limit: 100 })
  yield* streams.createSnapshot("order-123", { entityType: "order", entityVersion: 3, state: { qty: 2 } })
  const snapshot = yield* streams.getSnapshot("order-123")
  return {
    versions,
    streams: page.streams.length,
    found: found?.eventCount,
    first: events[0]?.name,
    id: snapshot?.snapshotId
  }
}).pipe(
  Effect.catchTag("VersionConflictError", (error) => Effect.succeed(error.actualVersion)),
  Effect.catchTag("StreamNotFoundError", () => Effect.succeed(0))
)

export const useKeys = Effect.gen(function* () {
  const kv = yield* Kv.Kv
  yield* kv.createBucket({ name: "sessions", ttlSeconds: 3600 })
  const sessions = kv.bucket("sessions", { schema: Session })
  const { revision } = yield* sessions.put("user-123", { token: "abc", role: "admin" })
  yield* sessions.create("user-456", { token: "def", role: "customer" })
  const entry = yield* sessions.get("user-123")
  yield* sessions.update("user-123", { ...entry.value, token: "xyz" }, entry.revision)
  yield* sessions.write([{ op: "delete", key: "user-456" }])
  const history = yield* sessions.history("user-123")
  const keys = yield* sessions.listKeys("user-*")
  const change = yield* Stream.runHead(sessions.watch({ key: "user-*", fromRevision: 0 }))
  yield* sessions.delete("user-123", { revision })
  yield* sessions.purge("user-123")
  const buckets = yield* kv.listBuckets()
  const { values } = yield* kv.getBucketInfo("sessions")
  yield* kv.deleteBucket("sessions")
  return { keys, values, change, buckets: buckets.length, history: history.length, name: sessions.name }
}).pipe(
  Effect.catchTag("KeyNotFoundError", () => Effect.succeed(undefined)),
  Effect.catchTag("RevisionConflictError", (error) => Effect.succeed(error.actual))
)

export const useConfigurations = Effect.gen(function* () {
  const config = yield* IronflowConfig.Config
  yield* config.set("app", { theme: "dark", locale: "en" })
  const { data } = yield* config.get("app")
  const settings = yield* Schema.decodeUnknownEffect(Settings)(data)
  yield* config.patch("app", { locale: "fr" })
  const all = yield* config.list()
  const change = yield* Stream.runHead(config.watch("app"))
  yield* config.delete("app")
  return { theme: settings.theme, all: all.length, change }
})

export const useAccess = Effect.gen(function* () {
  const { apiKeys, orgs, policies, roles, secrets } = {
    apiKeys: yield* ApiKeys.ApiKeys,
    orgs: yield* Orgs.Orgs,
    policies: yield* Policies.Policies,
    roles: yield* Roles.Roles,
    secrets: yield* Secrets.Secrets
  }
  const org = yield* orgs.create({ name: "Shop" })
  yield* orgs.update(org.id, { name: "Shops" })
  const role = yield* roles.create({ name: "deployer", org_id: org.id })
  yield* roles.update(role.id, { name: "senior deployer" })
  const policy = yield* policies.create({
    name: "allow-emit",
    effect: "allow",
    actions: "emit:*",
    resources: "*",
    org_id: org.id
  })
  yield* policies.update(policy.id, { name: "allow-all-emit" })
  yield* roles.assignPolicy(role.id, policy.id)
  const key = yield* apiKeys.create({ name: "ci", envId: "env_default" })
  const { secret } = yield* apiKeys.rotate(key.id, { overlap: "24h" })
  yield* secrets.set("STRIPE_SECRET_KEY", "sk_1")
  const found = {
    secret,
    org: (yield* orgs.get(org.id)).name,
    orgs: (yield* orgs.list()).length,
    role: (yield* roles.get(role.id)).name,
    roles: (yield* roles.list()).length,
    policy: (yield* policies.get(policy.id)).name,
    policies: (yield* policies.list()).length,
    key: (yield* apiKeys.get(key.id)).name,
    keys: (yield* apiKeys.list()).length,
    stored: (yield* secrets.get("STRIPE_SECRET_KEY")).name,
    secrets: (yield* secrets.list()).length
  }
  yield* roles.removePolicy(role.id, policy.id)
  yield* apiKeys.delete(key.id)
  yield* policies.delete(policy.id)
  yield* roles.delete(role.id)
  yield* orgs.delete(org.id)
  yield* secrets.delete("STRIPE_SECRET_KEY")
  return found
})

export const useProjections = Effect.gen(function* () {
  const projections = yield* Projections.Projections
  const { state } = yield* projections.get<typeof Totals.Type>("order-totals", { after: 3 })
  const all = yield* projections.list()
  const { lag } = yield* projections.status("order-totals")
  yield* projections.waitForCatchup("order-totals", { after: 3, timeout: 5000 })
  const first = yield* Stream.runHead(projections.subscribe<typeof Totals.Type>("order-totals"))
  const [letter] = yield* projections.deadLetters("order-totals")
  if (letter !== undefined) yield* projections.retryDeadLetter("order-totals", letter.position)
  const retried = yield* projections.retryDeadLetters("order-totals")
  yield* projections.pause("order-totals")
  yield* projections.resume("order-totals")
  yield* projections.rebuild("order-totals")
  yield* projections.delete("order-totals")
  return { total: state.total, all: all.length, lag, first, retried }
}).pipe(Effect.catchTag("ProjectionNotFoundError", () => Effect.succeed(undefined)))

export const useOperations = Effect.gen(function* () {
  const groups = yield* ConsumerGroups.ConsumerGroups
  yield* groups.create({ name: "audit", pattern: "events:order.*" })
  const { message } = yield* groups.get("audit")
  const all = yield* groups.list()
  yield* groups.update("audit", { filter: null })
  yield* groups.pause("audit")
  yield* groups.resume("audit")
  const [letter] = yield* groups.deadLetters("audit")
  if (letter !== undefined) yield* groups.retryDeadLetter("audit", letter.position)
  const retried = yield* groups.retryDeadLetters("audit")
  yield* groups.delete("audit")

  const endpoints = yield* Client.PushEndpoints
  const registered = yield* endpoints.register("https://example.com/api/ironflow")
  const [endpoint] = yield* endpoints.list()
  const wasThere = yield* endpoints.remove("https://example.com/api/ironflow")
  return { message, all: all.length, retried, registered, url: endpoint?.url, wasThere }
}).pipe(Effect.catchTag("ConsumerGroupNotFoundError", () => Effect.succeed("Nobody has joined it yet.")))

export const subscribe = Effect.flatMap(Subscriptions.Subscriptions, ({ stream }) =>
  Stream.runForEach(stream(OrderPlaced, { consumerGroup: "audit", ackMode: "manual" }), (event) =>
    Effect.gen(function* () {
      yield* event.inProgress
      yield* event.nak(5000)
      yield* event.term
      yield* event.ack
      yield* event.within(Effect.log(event.topic, event.data.amount))
    })
  )
)

// -- tests ---------------------------------------------------------------------------------------------------------------

const PaymentsTest = Layer.succeed(Payments, {
  charge: () => Effect.succeed({ id: "r-1", paidAt: new Date(0) }),
  refund: () => Effect.void
})

export const inTest = Effect.gen(function* () {
  const client = yield* Client.Client
  const engine = yield* Testing.TestEngine
  const { runIds } = yield* client.emit(OrderPlaced, { orderId: "o-1", amount: 1, customerId: "c-1" })
  const [runId = ""] = runIds
  yield* TestClock.adjust("365 days")
  yield* engine.advance("7d")
  yield* engine.settle
  const run = yield* engine.runToEnd(runId)
  yield* engine.runUntilIdle({ within: "30d" })
  yield* engine.secrets.set("STRIPE_SECRET_KEY", "sk_1")
  const worker = yield* engine.startWorker({ functions: [makeInvoice] })
  const history = yield* engine.history(runId)
  const divergence = yield* Testing.verify(history, [processOrder])
  return { run, divergence, worker, stuck: yield* engine.countStuckRuns, now: yield* engine.now }
}).pipe(
  Effect.provide(Testing.layer({ functions: [processOrder, makeInvoice] })),
  Effect.provide(PaymentsTest)
)

const tape = Testing.makeTape()
export const Doubles = Layer.mergeAll(
  Testing.layerPlayingHttpClient(tape),
  Testing.layerRecordingHttpClient(tape),
  Testing.layerFaultyHttpClient({ every: 3 })
).pipe(Layer.provide(FetchHttpClient.layer))
export const FaultyTransport = Testing.layerFaultyWorkerTransport({ every: 3 }).pipe(
  Layer.provide(WorkerTransport.layerMemory),
  Layer.provide(EngineLive)
)
