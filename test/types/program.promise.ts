/**
 * A shop in the Promise API that makes each documented call, without a cast and without an `any`.
 *
 * It is compiled and never run: `programs.test.ts` checks it with the compiler.
 */
import {
  type AckableSubscription,
  createClient,
  createFunction,
  createHandler,
  createProjection,
  createSubscriptionClient,
  createWebhook,
  createWorker,
  defineEntity,
  type EventMap,
  ironflow,
  type IronflowClient,
  isErased,
  isIronflowError,
  isRetryable,
  KeyNotFoundError,
  NonRetryableError,
  patterns,
  RevisionConflictError,
  serve,
  StepError,
  type Subscription,
  VersionConflictError,
  WaitTimeoutError,
  verifyHook
} from "@ironflow/node"
import {
  createEventDefinitionRegistry,
  createUpcasterRegistry,
  defineEvent,
  parseDuration
} from "@ironflow/node/core"
import { type DoctorCheck, type IronflowEngine, startEngine } from "@ironflow/node/engine"
import { createTestClient, createTestEngine, verify } from "@ironflow/node/test"
import { createStreamingWorker } from "@ironflow/node/worker-streaming"
import { z } from "zod"

// -- definitions of the shop -------------------------------------------------------------------------------------------------

const Order = z.object({ orderId: z.string(), amount: z.number(), customerId: z.string() })
const Receipt = z.object({ id: z.string(), paidAt: z.string() })
const Session = z.object({ token: z.string(), role: z.enum(["admin", "customer"]) })
const Settings = z.object({ theme: z.string(), locale: z.string() })
const Totals = z.object({ total: z.number(), count: z.number() })
const Charge = z.object({ id: z.string(), type: z.string(), data: z.object({ amount: z.number() }) })

type Totals = z.infer<typeof Totals>

const OrderPlaced = defineEvent({ name: "order.placed", schema: Order })
const OrderCancelled = defineEvent({ name: "order.cancelled", schema: z.object({ reason: z.string() }) })
const OrderApproved = defineEvent({
  name: "order.approved",
  schema: z.object({ orderId: z.string(), approved: z.boolean(), by: z.string() })
})
const ItemAdded = defineEvent({
  name: "item.added",
  version: 2,
  schema: z.object({ sku: z.string(), qty: z.number(), at: z.iso.datetime().optional() }),
  upcast: (data) => data
})
type Events = EventMap<typeof OrderPlaced | typeof OrderCancelled>

const Cart = defineEntity({
  type: "cart",
  events: [ItemAdded, OrderCancelled],
  initialState: () => ({ qty: 0 }),
  evolve: (cart, event) => (event.name === "item.added" ? { qty: cart.qty + event.data.qty } : { qty: 0 }),
  snapshot: z.object({ qty: z.number() })
})

const charge = async (customerId: string, amount: number): Promise<z.infer<typeof Receipt>> => ({
  id: `${customerId}-${amount}`,
  paidAt: new Date(0).toISOString()
})
const refund = async (receiptId: string): Promise<void> => console.log(receiptId)

// -- events and their versions -------------------------------------------------------------------------------------------

export const makeDefinitions = () => {
  const eventDefinitions = createEventDefinitionRegistry()
  eventDefinitions.register(defineEvent({ name: "order.placed", version: 1 }))
  eventDefinitions.register(
    defineEvent({
      name: "order.placed",
      version: 2,
      upcast: (data) => ({ currency: "EUR", ...z.object({ orderId: z.string() }).parse(data) })
    })
  )
  const newest = Order.parse(eventDefinitions.upcastEvent("order.placed", { orderId: "o-1" }, 1))

  const upcasters = createUpcasterRegistry()
  upcasters.register("order.placed", 1, 2, (data) => ({ ...z.record(z.string(), z.unknown()).parse(data) }))
  const upcast = Order.parse(upcasters.upcast("order.placed", { orderId: "o-1" }, 1, 2))
  const versions = [
    eventDefinitions.getLatestVersion("order.placed"),
    upcasters.getLatestVersion("order.placed")
  ]
  return { eventDefinitions, newest, upcast, versions }
}

// -- functions -----------------------------------------------------------------------------------------------------------

const sendNewsletter = createFunction(
  { id: "send-newsletter", triggers: [], schema: z.object({ email: z.string() }) },
  async ({ event, step }) => step.run("send", () => ({ sentTo: event.data.email }))
)

const makeInvoice = createFunction(
  { id: "make-invoice", triggers: [], schema: z.object({ orderId: z.string() }) },
  async ({ event, step }) => {
    const number = await step.run("number", async () => `2026-${event.data.orderId}`)
    return { number }
  }
)

const processOrder = createFunction(
  {
    id: "process-order",
    name: "Process order",
    description: "Charges and ships",
    triggers: [OrderPlaced, { event: "order.retried", expression: "event.data.amount > 5" }],
    retry: { maxAttempts: 5, initialDelayMs: 2000, backoffFactor: 3, maxDelayMs: 60_000 },
    timeout: 300_000,
    concurrency: { limit: 10, key: "event.data.customerId" },
    searchBy: ["event.data.orderId"],
    mode: "pull",
    actorKey: "event.data.customerId",
    schema: Order,
    secrets: ["STRIPE_SECRET_KEY"],
    stepTimeout: "30s",
    recording: true,
    recordingRetention: "30d",
    metadata: { team: "payments" }
  },
  async ({ event, step, run, logger, secrets, signal, onTurnEnd }) => {
    const { amount, customerId, orderId } = event.data
    const key = secrets.has("STRIPE_SECRET_KEY") ? secrets.get("STRIPE_SECRET_KEY") : undefined
    onTurnEnd(() => logger.info("the turn is over", { attempt: run.attempt, aborted: signal.aborted, key }))

    const receipt = await step.run(
      "charge",
      ({ attempt, idempotencyKey, signal: aborted }) => {
        logger.debug("charging", { attempt, idempotencyKey, aborted: aborted.aborted })
        return charge(customerId, amount)
      },
      { timeout: "20s", retry: { maxAttempts: 5, initialDelayMs: 500, jitter: 0.2 } }
    )
    step.compensate("charge", ({ attempt }) => (attempt < 3 ? refund(receipt.id) : undefined))

    await step.sleep("cool off", "5m")
    await step.sleepUntil("new year", new Date(Date.UTC(2027, 0, 1)))

    const invoice = await step.invoke(makeInvoice, { orderId }, { timeout: "5m" })
    const { runId } = await step.invokeAsync(sendNewsletter, { email: `${customerId}@example.com` })

    const [stock, credit] = await step.parallel(
      "checks",
      [(branch) => branch.run("stock", async () => 3), (branch) => branch.run("credit", async () => true)],
      { concurrency: 2 }
    )
    const labels = await step.map(
      "labels",
      ["small", "large"],
      (size, branch, index) => branch.run("print", async () => `${index}: ${size}`),
      { onError: "allSettled" }
    )
    const failed = labels.filter((label) => label instanceof Error).length

    const { eventId, sequence } = await step.publish("shipments", { orderId, status: "on its way" })
    const { value, writes } = await step.tx("book", (tx) => {
      tx.streams.append(
        orderId,
        { name: "order.paid", data: { amount }, entityType: "order" },
        { expectedVersion: 1 }
      )
      tx.streams
        .of(Cart)
        .append(`cart of ${customerId}`, { name: "order.cancelled", data: { reason: "paid" } })
      tx.streams.appendAll(orderId, { entityType: "order", events: [{ name: "order.booked", data: {} }] })
      tx.emit("order.done", { orderId }, { version: 2, metadata: { from: run.id } })
      const left = tx.kv("stock", { schema: z.object({ left: z.number() }) })
      left.put("pen", { left: stock })
      left.create("ink", { left: 1 })
      left.update("paper", { left: 2 }, 4)
      left.delete("chalk", { revision: 2 })
      return amount
    })
    if (!credit) throw new NonRetryableError(`${customerId} has no credit`)
    return {
      orderId,
      receiptId: receipt.id,
      invoice: invoice.number,
      runId,
      failed,
      eventId,
      sequence,
      value,
      writes: writes.length
    }
  }
)

export const waits = createFunction(
  {
    id: "approval",
    triggers: [OrderPlaced, { event: OrderCancelled, expression: 'event.data.reason != ""' }]
  },
  async ({ event, step }) => {
    if (event.name === "order.cancelled") return { approvedBy: event.data.reason }
    try {
      const approval = await step.waitForEvent("approval", {
        event: OrderApproved,
        match: "data.orderId",
        timeout: "48h"
      })
      return { approvedBy: approval.data.by }
    } catch (error) {
      if (error instanceof WaitTimeoutError) return { approvedBy: undefined }
      if (error instanceof StepError) return { approvedBy: `${error.stepName} failed` }
      if (isIronflowError(error) && !isRetryable(error))
        throw new NonRetryableError(error.code, { cause: error })
      throw error
    }
  }
)

export const sweep = createFunction(
  {
    id: "sweep",
    triggers: [{ cron: "0 */6 * * *", event: "order.swept", timezone: "Europe/Berlin", overlap: "skip" }]
  },
  async ({ step }) => {
    const swept = await step.run("sweep", async () => ({ at: new Date() }), {
      schema: z.object({ at: z.coerce.date() })
    })
    return swept.at.getTime()
  }
)

export const sameAgain = ironflow.createFunction(
  { id: "same", triggers: [{ event: patterns.userEvent("order.placed") }] },
  async ({ run }) => run.functionId
)

// -- projections and webhooks --------------------------------------------------------------------------------------------

const orderTotals = createProjection({
  name: "order-totals",
  events: [OrderPlaced, OrderCancelled],
  initialState: () => ({ total: 0, count: 0 }),
  partitionKey: (event) => event.name,
  handler: (state, event, ctx) => ({
    total: state.total + (event.name === "order.placed" ? event.data.amount : event.data.reason.length),
    count: state.count + ctx.attempt
  }),
  maxRetries: 5,
  batchSize: 50
})

const notifier = createProjection({
  name: "notifier",
  events: [OrderApproved],
  handler: async (event, ctx) => ctx.logger.info(`to ${event.data.by}`, { id: ctx.event.id })
})

const stripe = createWebhook<z.infer<typeof Charge>>({
  id: "stripe",
  verify: (request) => {
    if (request.headers["stripe-signature"] === undefined) throw new Error("no signature")
  },
  parse: (request) => Charge.parse(Object.fromEntries(new URLSearchParams(request.body))),
  transform: (payload) => [
    { name: `stripe.${payload.type}`, data: payload.data, idempotencyKey: payload.id },
    { event: OrderCancelled, data: { reason: payload.type } }
  ]
})

export const routes = {
  POST: serve({
    functions: [processOrder],
    webhooks: [stripe],
    signingKey: "secret",
    skipVerification: false
  }),
  same: createHandler({ functions: [processOrder], logger: false, environment: "test" })
}

// -- workers -------------------------------------------------------------------------------------------------------------

export const work = async (): Promise<void> => {
  const { eventDefinitions } = makeDefinitions()
  const worker = createWorker({
    serverUrl: "http://localhost:9123",
    functions: [processOrder, makeInvoice, sendNewsletter],
    projections: [orderTotals, notifier],
    maxConcurrentJobs: 20,
    heartbeatInterval: 10_000,
    reconnectDelay: 1000,
    labels: { region: "eu" },
    transport: "polling",
    environment: "default",
    eventDefinitions,
    apiKey: "key"
  })
  const streaming = createStreamingWorker({ functions: [processOrder] })
  void worker.start()
  await worker.ready()
  console.log(worker.connection satisfies string)
  await streaming.drain()
  await worker.drain()
  await worker.stop()
}

// -- the client ----------------------------------------------------------------------------------------------------------

export const useClient = async (): Promise<void> => {
  const client = createClient<Events>({ serverUrl: "http://localhost:9123", apiKey: "key", timeout: 10_000 })
  const emitted = await client.emit(
    OrderPlaced,
    { orderId: "o-1", amount: 1, customerId: "c-1" },
    { version: 2, idempotencyKey: "o-1", metadata: { source: "web" } }
  )
  const [runId = ""] = (await client.trigger("order.cancelled", { reason: "late" })).runIds
  const many = await client.emitMany([
    { event: OrderApproved, data: { orderId: "o-1", approved: true, by: "Ada" }, idempotencyKey: "o-1" },
    { event: "order.cancelled", data: { reason: "too late" } }
  ])
  const { durationMs, output } = await client.emitSync(
    "order.placed",
    { orderId: "o-3", amount: 3, customerId: "c-1" },
    { timeout: 1000, signal: AbortSignal.timeout(2000) }
  )
  const { runs, totalCount, nextCursor } = await client.listRuns({
    functionId: "process-order",
    status: "failed",
    limit: 25,
    cursor: "c"
  })
  const matching = await client.listRuns({
    functionId: ["process-order", "sweep"],
    status: ["failed", "cancelled"],
    createdFrom: new Date(0),
    createdTo: "2026-01-31T12:00:00Z",
    endedFrom: 0,
    eventName: "order.placed",
    entityId: "o-1",
    idempotencyKey: "o-1",
    error: "declined",
    attributes: { "event.data.orderId": "o-1", "event.data.amount": 3, "event.data.express": true },
    where: "event.data.amount > 100"
  })
  const run = await client.getRun(runId)
  const ended = await client.waitForRun(runId, { timeout: 10_000 })
  const [step] = await client.getRunSteps(runId)
  const [audited] = await client.getRunAudit(runId)
  const { groups, isExact } = await client.countRuns({
    by: "event.data.customerId",
    status: "failed",
    limit: 5
  })
  const [most] = groups
  console.log(most?.value, most?.count, most?.statuses["failed"], most?.durations?.p95, isExact)
  const [line] = await client.getRunLogs(runId)
  console.log(line?.level, line?.message, line?.step)
  const explanation = await client.explain(runId)
  console.log(
    emitted.eventId,
    emitted.position,
    many.length,
    matching.isTotalExact,
    matching.lookedBackTo?.slice(0, 10),
    matching.filledBackTo,
    durationMs,
    Receipt.parse(output),
    runs.length,
    totalCount,
    nextCursor,
    run.status,
    Receipt.parse(run.output),
    Order.parse(run.input),
    ended.error?.message,
    step?.name,
    Receipt.parse(step?.output),
    audited?.type,
    explanation.message
  )
  const counted = await client.bulk("retry", { status: "failed", error: "declined" }, { dryRun: true })
  const begun = await client.bulk("cancel", { ids: [runId] }, { reason: "no longer needed" })
  const erasing = await client.erase(
    {
      events: { where: 'event.data.email == "jane@example.com"' },
      keys: [{ bucket: "profiles", prefix: "jane" }]
    },
    { dryRun: true, cancel: false }
  )
  const erasedRuns: number | undefined = (await client.getBulk(erasing.id)).kinds?.runs
  void [erasedRuns, erasing.rebuild?.[0], erasing.note, isErased(output) && output.$erased]
  const bulkEnded = await client.waitForBulk(begun.id, { timeout: 60_000 })
  const skipped: number | undefined = bulkEnded.skipped.completed
  for (const { examples, lookedBackTo, status } of await client.listBulk()) {
    void [examples[0]?.why, lookedBackTo, status === "stopped", skipped]
  }
  await client.cancelBulk((await client.getBulk(counted.id)).id)
  await client.cancelRun(runId, "no longer needed")
  await client.retryRun(runId, "charge")
  await client.resumeRun(runId, "charge")
  await client.pauseRun(runId, "for a while")
  await client.patchStep(step?.id ?? "", { corrected: 42 }, "bad data")
  const fork = await client.forkRun(runId, {
    from: "charge",
    steps: { charge: { paid: true } },
    data: { a: 1 }
  })
  const moved = await client.moveRun(runId, { version: "2" })
  console.log(fork.forkedFrom, moved.codeVersion)
  const paused = await client.pauseFunction("process-order", { reason: "the bank is down", by: "me" })
  const resumed = await client.resumeFunction("process-order")
  const now = await client.runFunction("process-order", { orderId: "o-1" }, { idempotencyKey: "once" })
  console.log(paused.paused?.by, resumed.codeVersion, now.status)
  const [registered] = await client.functionHistory("process-order")
  const [left] = await client.liveVersions("process-order")
  console.log(registered?.changed, registered?.registration.timeoutMs, left?.liveRuns, left?.workerIds)
  await client.deleteFunction("old")
  const found = await client.listEvents({ name: "order.*", entityId: "o-1", since: new Date(0), limit: 10 })
  const event = await client.getEvent(found.events[0]?.id ?? "")
  const explained = await client.explainEvent(event.id)
  console.log(explained.functions.map(({ code, runs }) => [code === "STARTED", runs?.[0]?.status]))
  console.log(event.entity?.version, found.nextCursor, found.lookedTo?.position)
  const functions = await client.listFunctions()
  const workers = await client.listWorkers()
  const { features } = await client.getCapabilities()
  const health = await client.health()
  const { sequence } = await client.publish("news", { title: "Hello" }, { idempotencyKey: "n-1" })
  const topics = await client.listTopics()
  const { lag, messageCount } = await client.getTopicStats("news")
  console.log(
    functions[0]?.id,
    workers[0]?.labels,
    features,
    health,
    sequence,
    topics[0]?.name,
    lag,
    messageCount
  )
  await client.close()
}

export const useStreams = async ({ streams }: IronflowClient): Promise<number> => {
  const carts = streams.of(Cart)
  await carts.append("cart-1", { name: "item.added", data: { sku: "ABC", qty: 2 } }, { expectedVersion: 0 })
  await carts.appendAll("cart-1", [{ name: "order.cancelled", data: { reason: "late" } }])
  const { state, entityVersion } = await carts.state("cart-1")
  await carts.createSnapshot("cart-1", { state, entityVersion })
  const kept = await carts.getSnapshot("cart-1")
  const [first] = (await carts.read("cart-1")).events
  if (first?.name === "item.added") console.log(first.data.sku, kept?.state.qty)
  for await (const event of carts.events("cart-1")) console.log(event.name)

  const info = await streams.getInfo("order-123")
  const found = await streams.findInfo("order-123")
  try {
    await streams.append(
      "order-123",
      { event: ItemAdded, data: { sku: "ABC", qty: 2 }, entityType: "order" },
      { expectedVersion: info.version, idempotencyKey: "k", metadata: {} }
    )
  } catch (error) {
    if (!(error instanceof VersionConflictError)) throw error
    console.log(error.actualVersion)
  }
  await streams.appendAll(
    "order-123",
    { entityType: "order", events: [{ event: ItemAdded, data: { sku: "ABC", qty: 2 } }] },
    { expectedVersion: "STREAM_EXISTS" }
  )
  const { events, totalCount } = await streams.read("order-123", { direction: "backward", limit: 10 })
  let qty = events.reduce((sum, event) => sum + event.entityVersion, totalCount)
  for await (const event of streams.events("order-123", { pageSize: 500 })) qty += event.entityVersion
  const page = await streams.listStreams({ entityType: "order", limit: 100, offset: 0 })
  await streams.createSnapshot("order-123", { entityType: "order", entityVersion: 3, state: { qty } })
  const snapshot = await streams.getSnapshot("order-123", { beforeVersion: 10 })
  return (
    z.object({ qty: z.number() }).parse(snapshot?.state).qty + page.streams.length + (found?.eventCount ?? 0)
  )
}

export const useKeys = async (client: IronflowClient): Promise<void> => {
  const kv = client.kv()
  await kv.createBucket({
    name: "sessions",
    description: "who is here",
    ttlSeconds: 3600,
    maxValueSize: 1024,
    maxBytes: 1_000_000,
    history: 5
  })
  const buckets = await kv.listBuckets()
  const { values } = await kv.getBucketInfo("sessions")
  const sessions = kv.bucket("sessions", { schema: Session })
  const { revision } = await sessions.put("user-123", { token: "abc", role: "admin" })
  await sessions.create("user-456", { token: "def", role: "customer" })
  try {
    const entry = await sessions.get("user-123")
    await sessions.update("user-123", { ...entry.value, token: "xyz" }, entry.revision)
  } catch (error) {
    if (error instanceof RevisionConflictError) console.log(error.expected, error.actual)
    else if (!(error instanceof KeyNotFoundError)) throw error
  }
  await sessions.write([
    { op: "put", key: "a", value: { token: "a", role: "admin" } },
    { op: "delete", key: "b" }
  ])
  const [oldest] = await sessions.history("user-123")
  const keys = await sessions.listKeys("user-*")
  const watcher = sessions.watch("user-*", { fromRevision: revision })
  await watcher.ready
  for await (const change of watcher) {
    console.log(change.key, change.operation === "put" ? change.value.role : change.operation)
    break
  }
  await sessions.watch({ onUpdate: ({ key }) => console.log(key), onError: console.error }).stop()
  await sessions.delete("user-123", { revision })
  await sessions.purge("user-123")
  await kv.deleteBucket("sessions")
  console.log(buckets[0]?.name, values, oldest?.value?.token, keys)
  await sessions.close()
  await kv.close()
}

export const useConfigurations = async (client: IronflowClient): Promise<void> => {
  const config = client.config()
  await config.set("app", { theme: "dark", locale: "en" })
  const settings = Settings.parse((await config.get("app")).data)
  await config.patch("app", { locale: "fr" })
  for (const entry of await config.list()) console.log(entry.name, Settings.parse(entry.data))
  const watcher = config.watch("app")
  for await (const change of watcher) {
    console.log(settings.theme, Settings.parse(change.data))
    break
  }
  await config.delete("app")
  await config.close()
}

export const useAccess = async ({
  apiKeys,
  orgs,
  policies,
  roles,
  secrets
}: IronflowClient): Promise<void> => {
  const org = await orgs.create({ name: "Shop" })
  await orgs.update(org.id, { name: "Shops" })
  const role = await roles.create({ name: "deployer", org_id: org.id })
  await roles.update(role.id, { name: "senior deployer" })
  const policy = await policies.create({
    name: "allow-emit",
    effect: "allow",
    actions: "emit:*",
    resources: "*",
    org_id: org.id
  })
  await policies.update(policy.id, { name: "allow-all-emit" })
  await roles.assignPolicy(role.id, policy.id)
  const key = await apiKeys.create({
    name: "ci",
    envId: "env_default",
    role_ids: [role.id],
    expires_in: "90d"
  })
  const rotated = await apiKeys.rotate(key.id, { overlap: "24h" })
  console.log(rotated.secret)
  await secrets.set("STRIPE_SECRET_KEY", "sk_1")
  const found = [
    (await orgs.get(org.id)).name,
    (await orgs.list()).length,
    (await roles.get(role.id)).name,
    (await roles.list(org.id)).length,
    (await policies.get(policy.id)).name,
    (await policies.list(org.id)).length,
    (await apiKeys.get(key.id)).name,
    (await apiKeys.list()).length,
    (await secrets.get("STRIPE_SECRET_KEY")).name,
    (await secrets.list()).length
  ]
  console.log(found)
  await roles.removePolicy(role.id, policy.id)
  await apiKeys.delete(key.id)
  await policies.delete(policy.id)
  await roles.delete(role.id)
  await orgs.delete(org.id)
  await secrets.delete("STRIPE_SECRET_KEY")
}

export const useProjections = async ({ projections }: IronflowClient, position: number): Promise<void> => {
  const { state } = await projections.get<Totals>("order-totals", { after: position, partition: "true" })
  const all = await projections.list()
  const { lag } = await projections.status("order-totals")
  await projections.waitForCatchup("order-totals", { after: position, timeout: 5000 })
  const subscription = projections.subscribe<Totals>("order-totals", { includeCurrent: true })
  await subscription.ready
  for await (const update of subscription) {
    console.log(update.state.total, update.partition)
    break
  }
  await projections
    .subscribe<Totals>("order-totals", { onUpdate: async ({ state: totals }) => console.log(totals.count) })
    .stop()
  const [letter] = await projections.deadLetters("order-totals", { limit: 10 })
  if (letter !== undefined) await projections.retryDeadLetter("order-totals", letter.position)
  const retried = await projections.retryDeadLetters("order-totals")
  await projections.pause("order-totals", { reason: "repair" })
  await projections.resume("order-totals")
  await projections.rebuild("order-totals")
  await projections.delete("order-totals")
  console.log(state.total, all.length, lag, retried, letter?.error.message)
}

export const useOperations = async ({ consumerGroups, pushEndpoints }: IronflowClient): Promise<void> => {
  await consumerGroups.create({ name: "audit", pattern: "events:order.*" })
  const group = await consumerGroups.get("audit")
  const groups = await consumerGroups.list()
  await consumerGroups.update("audit", { filter: "event.data.amount > 5" })
  await consumerGroups.pause("audit", { reason: "repair" })
  await consumerGroups.resume("audit")
  const [letter] = await consumerGroups.deadLetters("audit", { limit: 10 })
  if (letter !== undefined) await consumerGroups.retryDeadLetter("audit", letter.position)
  const retried = await consumerGroups.retryDeadLetters("audit")
  await consumerGroups.delete("audit")
  const registered = await pushEndpoints.register("https://example.com/api/ironflow")
  const endpoints = await pushEndpoints.list()
  const wasThere = await pushEndpoints.remove("https://example.com/api/ironflow")
  console.log(group.message, groups.length, retried, registered, endpoints[0]?.url, wasThere)
}

// -- subscriptions -------------------------------------------------------------------------------------------------------

export const subscribe = async (engine: IronflowEngine): Promise<void> => {
  const elsewhere = createSubscriptionClient({
    serverUrl: "http://localhost:9123",
    apiKey: "key",
    environment: "default",
    autoReconnect: true,
    reconnectDelay: 1000,
    maxReconnectDelay: 30_000,
    reconnectBackoff: 1.5,
    connectionTimeout: 10_000
  })
  const client = createSubscriptionClient({ engine })
  await client.connect()
  const forget = client.onConnectionChange((state) => console.log(state, client.connectionState))
  const forgetErrors = client.onError((error) => console.error(error.code, error.message))

  const plain: Subscription = await client.subscribe(OrderPlaced, {
    onEvent: (event) => console.log(event.topic, event.data.amount),
    onError: (error) => console.error(error.message),
    replay: 100,
    includeMetadata: true
  })
  const acked: AckableSubscription = await client.subscribe("events:order.*", {
    consumerGroup: "order-processors",
    ackMode: "manual",
    onEvent: async (event) => {
      const eventId = event.eventId ?? ""
      await acked.inProgress(eventId)
      await acked.ack(eventId)
      await acked.nak(eventId, 5000)
      await acked.term(eventId)
    }
  })
  for await (const event of client.stream("topic:news", { replay: 1 })) {
    event.within(() => console.log(event.topic, event.eventId))
    break
  }
  console.log(plain.id, plain.pattern, plain.connectionState, plain.lastEvent?.topic, client.isConnected)
  plain.unsubscribe()
  forget()
  forgetErrors()
  client.close()
  elsewhere.close()
}

// -- after a failure -----------------------------------------------------------------------------------------------------

export const fragile = createFunction(
  {
    id: "fragile",
    triggers: [OrderPlaced],
    onFailure: {
      retry: { maxAttempts: 5 },
      handler: async ({ event, step }) => {
        const { error, event: order, steps } = event.data
        await step.run("tell", () => [error.code, order.name, steps.map(({ name }) => name)])
      }
    }
  },
  ({ event }) => event.data.orderId
)

export const alarmed = (headers: Record<string, string>, body: string): string => {
  const { data, id, type } = verifyHook({ headers, body }, ["old", "new"], { tolerance: "1m" })
  return [id, type, data.runId, data.error?.message].join()
}

// -- the engine, and tests -----------------------------------------------------------------------------------------------

export const runEngine = async (): Promise<void> => {
  await using engine = await startEngine({
    filename: ":memory:",
    functions: [processOrder],
    projections: [orderTotals],
    maxConcurrentJobs: 20,
    masterKey: "00".repeat(32),
    keepRuns: "30d",
    keepEvents: "90d",
    maxEventBytes: "10GiB",
    keepMessages: "forever",
    listen: { port: 0 },
    push: { timeout: "60s" },
    hooks: [
      { url: "https://alarms.example.com/", secret: "s".repeat(32), on: ["run.failed"], functionId: "pro*" }
    ],
    failing: { window: "10m", runs: 3, rate: 0.2 }
  })
  await engine.secrets.set("STRIPE_SECRET_KEY", "sk_1")
  const stored = await engine.secrets.list()
  const wasThere = await engine.secrets.delete("STRIPE_SECRET_KEY")
  const worker = engine.createWorker({ functions: [makeInvoice] })
  await worker.stop()
  await subscribe(engine)
  console.log(engine.url, stored[0]?.name, wasThere, await engine.client.health())
  const { bytes } = await engine.backup("orders.backup")
  const checks: ReadonlyArray<DoctorCheck> = await engine.doctor()
  console.log(
    checks.filter(({ status }) => status !== "ok").map(({ advice, message, name }) => [name, message, advice])
  )
  console.log(bytes)
  await engine.close()
}

export const testAlone = async (): Promise<void> => {
  const t = createTestClient({ functions: [processOrder] })
  t.mockStep("charge", () => ({ id: "r-1", paidAt: "now" }))
  t.mockTx("book", (tx) => tx.emit("order.done", {}))
  t.mockInvoke(makeInvoice, ({ orderId }) => ({ number: orderId }))
  t.setStream("o-1", { entityType: "order", version: 3 })
  t.setKey("stock", "item", 4)
  t.sendEvent(OrderApproved, { orderId: "o-1", approved: true, by: "Ada" })
  const run = await t.emit(OrderPlaced, { orderId: "o-1", amount: 3, customerId: "c-1" })
  console.log(
    run.status,
    Receipt.parse(run.output),
    run.error?.message,
    run.steps[0]?.name,
    run.compensationsRan,
    run.onFailure?.status,
    Receipt.parse(run.stepOutput("charge"))
  )
}

export const testInEngine = async (): Promise<void> => {
  const engine = await createTestEngine({ functions: [processOrder], startAt: "2030-01-01T00:00:00Z" })
  const { runIds } = await engine.client.emit("order.placed", { orderId: "o-1" })
  const [runId = ""] = runIds
  await engine.advance(parseDuration("6d"))
  await engine.settle()
  const run = await engine.runToEnd(runId, { within: "30d" })
  await engine.runUntilIdle()
  await engine.secrets.set("STRIPE_SECRET_KEY", "sk_1")
  const worker = await engine.startWorker({ functions: [makeInvoice] })
  await worker.stop()
  const history = await engine.history(runId)
  const divergence = await verify(history, [processOrder])
  console.log(run.status, await engine.now(), await engine.countStuckRuns(), divergence?.message)
  await engine.close()
}
