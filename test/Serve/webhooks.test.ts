/** Webhooks: what the sender is told, and that no event gets lost on the way. */
import {
  createSubscriptionClient,
  createWebhook,
  serve,
  type ServeHandler,
  ValidationError,
  type WebhookConfig
} from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import Stripe from "stripe"
import { describe, expect, it, vi } from "vitest"
import { listen } from "./Hosts.ts"

const shop: WebhookConfig = {
  id: "shop",
  verify: ({ headers }) => {
    if (headers["x-shop"] !== "genuine") throw new Error("Not from the shop")
  },
  transform: (payload) => ({ name: "guest.arrived", data: payload, idempotencyKey: payload.id })
}

/** A server that keeps what it is sent, and answers with a status. */
const recording = async (status = 200) => {
  const received: Array<{
    readonly path: string | undefined
    readonly body: unknown
    readonly headers: object
  }> = []
  const server = await listen(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    received.push({
      path: request.url,
      body: JSON.parse(Buffer.concat(chunks).toString()),
      headers: request.headers
    })
    response
      .writeHead(status, { "content-type": "application/json" })
      .end('{"error":"as you wish","code":"X"}')
  })
  return { ...server, received, [Symbol.asyncDispose]: server.close }
}

const handlerOf = (config: Partial<WebhookConfig>, serverUrl: string, more = {}): ServeHandler =>
  serve({
    functions: [],
    webhooks: [createWebhook({ ...shop, ...config })],
    signingKey: "unused here",
    serverUrl,
    logger: false,
    ...more
  })

const post = async (
  handler: ServeHandler,
  body: string,
  path = "/api/ironflow/webhooks/shop",
  headers: Record<string, string> = { "x-shop": "genuine" }
) => {
  const response: Response = await handler(
    new Request(`http://app${path}`, { method: "POST", body, headers })
  )
  return { status: response.status, headers: response.headers, body: await response.json() }
}

describe("a webhook's request", () => {
  it("goes to the server as an event, with its key, its environment and the API key", async () => {
    await using server = await recording()
    const handler = handlerOf({}, server.url, { environment: "staging", apiKey: "secret-1" })

    expect(await post(handler, '{"id":"visit-1"}')).toMatchObject({
      status: 200,
      body: {
        status: "accepted",
        event: { name: "guest.arrived", data: { id: "visit-1" }, idempotencyKey: "visit-1" }
      }
    })
    expect(server.received).toEqual([
      {
        path: "/api/v1/events",
        body: {
          name: "guest.arrived",
          data: { id: "visit-1" },
          idempotencyKey: "visit-1",
          webhook: "shop"
        },
        headers: expect.objectContaining({
          "x-ironflow-environment": "staging",
          authorization: "Bearer secret-1"
        })
      }
    ])
  })

  it("shows `verify` the body as it came, and headers by lower-case name", async () => {
    await using server = await recording()
    const verify = vi.fn()
    const handler = handlerOf({ verify }, server.url)
    const body = '{ "id": "visit-1",\n  "name": "Zoë" }'

    await post(handler, body, undefined, { "X-Shop": "a", "Content-Type": "application/json" })

    expect(verify).toHaveBeenCalledWith({
      body,
      headers: expect.objectContaining({ "x-shop": "a", "content-type": "application/json" })
    })
  })

  it.each<readonly [string, Partial<WebhookConfig>, string, number, string]>([
    ["is not verified", { verify: () => Promise.reject(new Error("no")) }, "{}", 401, "VERIFY_FAILED"],
    [
      "is refused by something that is no error",
      {
        verify: () => {
          throw "no"
        }
      },
      "{}",
      401,
      "VERIFY_FAILED"
    ],
    ["is no JSON", {}, "{", 400, "TRANSFORM_FAILED"],
    ["is empty", {}, "", 400, "TRANSFORM_FAILED"],
    [
      "cannot be transformed",
      {
        transform: () => {
          throw new Error("what is this")
        }
      },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    ["makes no event", { transform: () => undefined as never }, "{}", 400, "TRANSFORM_FAILED"],
    [
      "makes an event without a name",
      { transform: () => ({ name: "", data: 1 }) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "makes an event with a pattern for a name",
      { transform: () => ({ name: "a.*", data: 1 }) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "makes an event that JSON cannot carry",
      { transform: () => ({ name: "a", data: 1n }) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "makes an event with a key that is no text",
      { transform: () => ({ name: "a", data: 1, idempotencyKey: 7 as never }) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ]
  ])("that %s is refused, and nothing is sent", async (_what, config, body, status, code) => {
    await using server = await recording()

    expect(await post(handlerOf(config, server.url), body)).toMatchObject({
      status,
      body: { error: { code } }
    })
    expect(server.received).toEqual([])
  })

  it("for a webhook that is not there is answered 404, the query aside", async () => {
    await using server = await recording()
    const handler = handlerOf({}, server.url)

    expect(await post(handler, "{}", "/api/ironflow/webhooks/store")).toMatchObject({
      status: 404,
      body: { error: { code: "WEBHOOK_NOT_FOUND" } }
    })
    expect(await post(handler, "{}", "/deep/webhooks/shop/more?x=1")).toMatchObject({ status: 200 })
    // no webhook at all in the path: it is for functions
    expect(await post(handler, "{}", "/api/ironflow")).toMatchObject({ status: 401 })
  })

  it("is to be sent again while the server does not take it", async () => {
    await using server = await recording(503)
    const refused = await post(handlerOf({}, server.url), "{}")
    expect(refused).toMatchObject({ status: 502, body: { error: { code: "EMIT_FAILED" } } })
    expect(refused.headers.get("retry-after")).toBe("10")

    const gone = await listen(() => undefined)
    await gone.close()
    const down = await post(handlerOf({}, gone.url), "{}")
    expect(down).toMatchObject({ status: 502, body: { error: { code: "EMIT_FAILED" } } })
    // where the server is, is nothing for strangers
    expect(JSON.stringify(down.body)).not.toContain(new URL(gone.url).port)
  })

  it("is to be sent again when its verification hangs", async () => {
    await using server = await recording()
    const handler = handlerOf({ verify: () => new Promise(() => undefined) }, server.url, {
      webhookTimeout: "50ms"
    })

    expect(await post(handler, "{}")).toMatchObject({
      status: 503,
      body: { error: { code: "WEBHOOK_TIMEOUT" } }
    })
    expect(server.received).toEqual([])
  })

  it("is refused when it is larger than an event may be", async () => {
    await using server = await recording()

    expect(await post(handlerOf({}, server.url), JSON.stringify("x".repeat(1024 * 1024)))).toMatchObject({
      status: 413,
      body: { error: { code: "BODY_TOO_LARGE" } }
    })
  })
})

describe("createWebhook", () => {
  it.each([
    ["no id", { ...shop, id: undefined }],
    ["an id with a slash", { ...shop, id: "a/b" }],
    ["an id with white space", { ...shop, id: "a b" }],
    ["no verify", { ...shop, verify: undefined }],
    ["no transform", { ...shop, transform: "data" }],
    ["nothing", undefined]
  ])("with %s is refused", (_what, config) => {
    expect(() => createWebhook(config as WebhookConfig)).toThrow(ValidationError)
  })

  it("is refused twice under one id", () => {
    const webhook = createWebhook(shop)
    expect(() => serve({ functions: [], webhooks: [webhook, webhook], logger: false })).toThrow(
      /two webhooks/
    )
  })
})

it("no request is lost while the server is down and the sender sends it again", async () => {
  const earlier = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  const port = Number(new URL(earlier.url ?? "").port)
  await earlier.close()
  const handler = handlerOf({}, `http://127.0.0.1:${port}`)
  const told: Array<number> = []
  const deliver = async () => {
    const { status } = await post(handler, '{"id":"visit-7"}')
    told.push(status)
    return status
  }
  expect(await deliver()).toBe(502)

  await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port } })
  const heard: Array<unknown> = []
  await using subscriptions = createSubscriptionClient({ serverUrl: engine.url ?? "" })
  await subscriptions.connect()
  await subscriptions.subscribe("events:guest.>", { onEvent: ({ data }) => heard.push(data) })
  expect([await deliver(), await deliver()]).toEqual([200, 200])
  await engine.client.emit("guest.left", "the end")
  await vi.waitFor(() => expect(heard).toEqual([{ id: "visit-7" }, "the end"]))
})

it("senders whose deliveries have the same id do not take each other's events", async () => {
  await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
  const heard: Array<unknown> = []
  await using subscriptions = createSubscriptionClient({ serverUrl: engine.url ?? "" })
  await subscriptions.connect()
  await subscriptions.subscribe("events:guest.>", { onEvent: ({ data }) => heard.push(data) })
  const webhookOf = (id: string, name = "guest.arrived") =>
    createWebhook({ ...shop, id, transform: () => ({ name, data: `${id} ${name}`, idempotencyKey: "1001" }) })
  const handler = serve({
    functions: [],
    webhooks: [webhookOf("shop"), webhookOf("hotel"), webhookOf("hotel-bar", "guest.paid")],
    signingKey: "unused here",
    serverUrl: engine.url,
    logger: false
  })

  for (const id of ["shop", "hotel", "hotel-bar", "shop"]) {
    expect(await post(handler, "{}", `/api/ironflow/webhooks/${id}`)).toMatchObject({ status: 200 })
  }
  await engine.client.emit("guest.arrived", "by a client", { idempotencyKey: "1001" })
  await engine.client.emit("guest.left", "the end")

  await vi.waitFor(() => expect(heard).toContain("the end"))
  expect(heard).toEqual([
    "shop guest.arrived",
    "hotel guest.arrived",
    "hotel-bar guest.paid",
    "by a client",
    "the end"
  ])
})

it("Stripe's own signatures are verified", async () => {
  await using server = await recording()
  const stripe = new Stripe("sk_test_1")
  const secret = "whsec_test"
  const handler = handlerOf(
    {
      verify: ({ body, headers }) =>
        stripe.webhooks.constructEvent(body, headers["stripe-signature"] ?? "", secret)
    },
    server.url
  )
  const body = JSON.stringify(
    { id: "evt_1", object: "event", type: "charge.succeeded", data: { object: {} } },
    null,
    2
  )
  const signature = stripe.webhooks.generateTestHeaderString({ payload: body, secret })

  expect(await post(handler, body, undefined, { "stripe-signature": signature })).toMatchObject({
    status: 200
  })
  expect(
    await post(handler, body.replace("evt_1", "evt_2"), undefined, { "stripe-signature": signature })
  ).toMatchObject({
    status: 401
  })
  expect(await post(handler, body, undefined, {})).toMatchObject({ status: 401 })
  expect(server.received).toHaveLength(1)
})
