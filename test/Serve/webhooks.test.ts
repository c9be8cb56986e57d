/** Webhooks: the answers to the sender, and that no event is lost. */
import { createHmac } from "node:crypto"
import { gzipSync } from "node:zlib"
import {
  createSubscriptionClient,
  createWebhook,
  serve,
  type ServeHandler,
  ValidationError,
  type WebhookConfig
} from "@ironflow/node"
import { Serve, Webhook } from "@ironflow/node/effect"
import { startEngine } from "@ironflow/node/engine"
import * as Effect from "effect/Effect"
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

/** A server that records its requests, and answers them with a status. */
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
  body: string | Uint8Array<ArrayBuffer>,
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
      body: { status: "accepted", event: { name: "guest.arrived", idempotencyKey: "visit-1" } }
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

  it("gives `verify` and `transform` the body as it arrived, the query, and headers by lower-case name", async () => {
    await using server = await recording()
    const verify = vi.fn()
    const transform = vi.fn()
    const handler = handlerOf({ verify, transform }, server.url)
    const body = '{ "id": "visit-1",\n  "name": "Zoë" }'

    await post(handler, body, "/webhooks/shop?from=far%20away&from=near&x", {
      "X-Shop": "a",
      "Content-Type": "application/json"
    })

    const request = {
      method: "POST",
      query: { from: "far away", x: "" },
      headers: expect.objectContaining({ "x-shop": "a", "content-type": "application/json" }),
      body,
      bytes: Buffer.from(body)
    }
    expect(verify).toHaveBeenCalledExactlyOnceWith(request)
    expect(transform).toHaveBeenCalledExactlyOnceWith({ id: "visit-1", name: "Zoë" }, request)
  })

  it("that is refused is a warning in the app's log, and a second one for the same reason at once is not", async () => {
    const lines: Array<readonly [level: string, message: string, data?: unknown]> = []
    const logger = {
      debug: (message: string) => void lines.push(["debug", message]),
      info: () => undefined,
      warn: (message: string, data?: unknown) =>
        void lines.push(data === undefined ? ["warn", message] : ["warn", message, data]),
      error: () => undefined
    }
    const thrown = new TypeError("Cannot read properties of undefined (reading 'map')")
    const transform = () => {
      throw thrown
    }
    const handler = handlerOf({ transform }, "http://127.0.0.1:9", { logger })
    const transformed = `A request to webhook "shop" was refused with 400 (TRANSFORM_FAILED): ${thrown.message}`
    const verified = 'A request to webhook "shop" was refused with 401 (VERIFY_FAILED): Not from the shop'

    await post(handler, "{}")
    await post(handler, "{}")
    await post(handler, "{}", undefined, {})
    await post(handler, "{}", undefined, {})
    await post(handler, "{}", "/webhooks/shopp")

    expect(lines).toEqual([
      ["warn", transformed, thrown],
      ["warn", transformed, thrown],
      ["warn", verified],
      ["debug", verified],
      [
        "warn",
        'A webhook request was refused with 404 (WEBHOOK_NOT_FOUND): This handler has no webhook "shopp"'
      ]
    ])
  })

  it("is never shown in the answer", async () => {
    await using server = await recording()
    const body = '{"id":"visit-1","card":"4242"}'

    const one = await post(handlerOf({}, server.url), body)
    const transform = (data: unknown) => [
      { name: "a", data },
      { name: "b", data, idempotencyKey: "k" }
    ]
    const several = await post(handlerOf({ transform }, server.url), body)

    expect(one.body).toEqual({
      status: "accepted",
      event: { name: "guest.arrived", idempotencyKey: "visit-1" }
    })
    expect(several.body).toEqual({
      status: "accepted",
      events: [{ name: "a" }, { name: "b", idempotencyKey: "k" }]
    })
  })

  it.each<readonly [string, Partial<WebhookConfig>, string, number, string]>([
    ["is not verified", { verify: () => Promise.reject(new Error("no")) }, "{}", 401, "VERIFY_FAILED"],
    [
      "is refused by a thrown string",
      {
        verify: () => {
          throw "no"
        }
      },
      "{}",
      401,
      "VERIFY_FAILED"
    ],
    ["is not JSON", {}, "{", 400, "TRANSFORM_FAILED"],
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
    [
      "becomes something other than an event",
      { transform: () => "ok" as never },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "becomes an event and something else",
      { transform: () => [{ name: "a", data: 1 }, undefined as never] },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "becomes more events than are allowed for one request",
      { transform: () => Array.from({ length: 1001 }, () => ({ name: "a", data: 1 })) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "becomes two different events with the same idempotency key",
      {
        transform: () => [
          { name: "a", data: 1, idempotencyKey: "k" },
          { name: "a", data: 2, idempotencyKey: "k" }
        ]
      },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "becomes an event with a key that no server accepts",
      {
        transform: () => [
          { name: "a", data: 1 },
          { name: "a", data: 1, idempotencyKey: "k".repeat(1025) }
        ]
      },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "becomes an event without a name",
      { transform: () => ({ name: "", data: 1 }) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "becomes an event with a pattern as its name",
      { transform: () => ({ name: "a.*", data: 1 }) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "becomes an event that cannot be stored as JSON",
      { transform: () => ({ name: "a", data: 1n }) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ],
    [
      "becomes an event with a key that is not a string",
      { transform: () => ({ name: "a", data: 1, idempotencyKey: 7 as never }) },
      "{}",
      400,
      "TRANSFORM_FAILED"
    ]
  ])("that %s is refused, and no event is sent", async (_what, config, body, status, code) => {
    await using server = await recording()

    expect(await post(handlerOf(config, server.url), body)).toMatchObject({
      status,
      body: { error: { code } }
    })
    expect(server.received).toEqual([])
  })

  it("for an unknown webhook is answered 404, whatever the query", async () => {
    await using server = await recording()
    const handler = handlerOf({}, server.url)

    expect(await post(handler, "{}", "/api/ironflow/webhooks/store")).toMatchObject({
      status: 404,
      body: { error: { code: "WEBHOOK_NOT_FOUND" } }
    })
    expect(await post(handler, "{}", "/deep/webhooks/shop/more?x=1")).toMatchObject({ status: 200 })
    // without a webhook in the path, the request is for functions
    expect(await post(handler, "{}", "/api/ironflow")).toMatchObject({ status: 401 })
  })

  it("gets an answer that asks for another delivery while the server does not accept the event", async () => {
    await using server = await recording(503)
    const refused = await post(handlerOf({}, server.url), "{}")
    expect(refused).toMatchObject({ status: 502, body: { error: { code: "EMIT_FAILED" } } })
    expect(refused.headers.get("retry-after")).toBe("10")

    const gone = await listen(() => undefined)
    await gone.close()
    const down = await post(handlerOf({}, gone.url), "{}")
    expect(down).toMatchObject({ status: 502, body: { error: { code: "EMIT_FAILED" } } })
    // strangers must not learn the address of the server
    expect(JSON.stringify(down.body)).not.toContain(new URL(gone.url).port)
  })

  it.each(["challenge", "verify", "parse", "transform"])(
    "gets an answer that asks for another delivery and names `%s` when that hangs",
    async (name) => {
      await using server = await recording()
      const handler = handlerOf({ [name]: () => new Promise(() => undefined) }, server.url, {
        webhookTimeout: "50ms"
      })

      expect(await post(handler, "{}")).toMatchObject({
        status: 503,
        body: {
          error: {
            code: "WEBHOOK_TIMEOUT",
            message: `Webhook "shop": its \`${name}\` did not end within 50ms of the request. Send the request again`
          }
        }
      })
      expect(server.received).toEqual([])
    }
  )

  it.each(["PUT", "PATCH", "DELETE", "OPTIONS"])(
    "by %s is refused before any function of the webhook is called, over Fetch and over Node.js",
    async (method) => {
      await using server = await recording()
      const never = vi.fn()
      const handler = handlerOf({ challenge: never, verify: never, transform: never }, server.url)
      const node = await listen(handler)

      for (const ask of [handler, fetch]) {
        const post = new Request(`${node.url}/webhooks/shop`, { method: "POST", body: "{}" })
        const response: Response = await ask(new Request(post, { method }))
        expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"])
        expect(await response.json()).toMatchObject({ error: { code: "METHOD_NOT_ALLOWED" } })
      }

      await node.close()
      expect(never).not.toHaveBeenCalled()
      expect(server.received).toEqual([])
    }
  )

  it("is refused when it is larger than the limit of an event", async () => {
    await using server = await recording()

    expect(await post(handlerOf({}, server.url), JSON.stringify("x".repeat(1024 * 1024)))).toMatchObject({
      status: 413,
      body: { error: { code: "BODY_TOO_LARGE" } }
    })
  })
})

/** The data of the events that were made of a body, or the refusal. */
const dataOf = async (
  body: string | Uint8Array<ArrayBuffer>,
  contentType: string,
  config: Partial<WebhookConfig> = {}
) => {
  await using server = await recording()
  const transform = (data: unknown) => ({ name: "guest.arrived", data })
  const handler = handlerOf({ transform, ...config }, server.url)
  const answer = await post(handler, body, undefined, { "x-shop": "genuine", "content-type": contentType })
  return answer.status === 200
    ? server.received.map(({ body }) => (body as { readonly data: unknown }).data)
    : `${answer.status} ${JSON.stringify(answer.body)}`
}

describe("the body of a webhook's request", () => {
  const form = "application/x-www-form-urlencoded"

  it.each<readonly [string, string | Uint8Array<ArrayBuffer>, string, unknown]>([
    ["JSON", '{"name":"Zoë"}', "application/json", { name: "Zoë" }],
    ["JSON without a type", '{"name":"Zoë"}', "", { name: "Zoë" }],
    ["JSON that begins with a byte order mark", '\uFEFF{"name":"Zoë"}', "application/json", { name: "Zoë" }],
    [
      "a form",
      "name=Zo%C3%AB+B&tag=a&tag=b&tag=&lone&=x&a=b=c",
      form,
      {
        name: "Zoë B",
        tag: ["a", "b", ""],
        lone: "",
        "": "x",
        a: "b=c"
      }
    ],
    ["a form with a charset", "name=Zo%c3%ab", `${form}; charset=UTF-8`, { name: "Zoë" }],
    [
      "a form with characters that are not escaped",
      "name=Zoë&part=100%&next=%zz",
      form,
      {
        name: "Zoë",
        part: "100%",
        next: "%zz"
      }
    ],
    ["a form that begins with a byte order mark", "\uFEFFname=Zoë", form, { name: "Zoë" }],
    [
      "a form with the names of built-in properties",
      "__proto__=a&constructor=b",
      form,
      {
        ["__proto__"]: "a",
        constructor: "b"
      }
    ],
    ["an empty form", "", form, {}],
    ["JSON with the type of a form", '{"name":"Zoë"}', form, { name: "Zoë" }]
  ])("may be %s", async (_what, body, contentType, data) => {
    expect(await dataOf(body, contentType)).toEqual([data])
  })

  const latin1 = Uint8Array.from(Buffer.from('{"name":"Zoë"}', "latin1"))

  it.each<readonly [string, string | Uint8Array<ArrayBuffer>, string, RegExp]>([
    ["JSON in another encoding", latin1, "application/json; charset=iso-8859-1", /400 .*not UTF-8.*`parse`/],
    ["a form in another encoding", "name=Zo%EB", form, /400 .*not UTF-8.*`parse`/],
    [
      "a form of several parts",
      "--x--",
      "multipart/form-data; boundary=x",
      /400 .*multipart\/form-data.*`parse`/
    ],
    ["empty", "", "application/json", /400 .*empty/],
    ["XML", "<visit/>", "text/xml", /400 .*not JSON/]
  ])("that is %s is refused with advice", async (_what, body, contentType, message) => {
    expect(await dataOf(body, contentType)).toMatch(message)
  })

  it("is the result of `parse`, if there is one", async () => {
    const parse: WebhookConfig["parse"] = ({ bytes }) => new TextDecoder("latin1").decode(bytes)
    expect(await dataOf(latin1, "application/json", { parse })).toEqual(['{"name":"Zoë"}'])

    const boundary = "multipart/form-data; boundary=x"
    const parts = '--x\r\ncontent-disposition: form-data; name="guest"\r\n\r\nZoë\r\n--x--\r\n'
    const read: WebhookConfig["parse"] = async ({ bytes, headers }) =>
      Object.fromEntries(
        await new Response(Uint8Array.from(bytes), {
          headers: { "content-type": headers["content-type"] ?? "" }
        }).formData()
      )
    expect(await dataOf(parts, boundary, { parse: read })).toEqual([{ guest: "Zoë" }])
  })

  it.each([
    ["JSON with a byte order mark", Uint8Array.from(Buffer.from('\uFEFF{"a":1}')), "application/json"],
    ["JSON with odd spaces", Uint8Array.from(Buffer.from('{ "a" :\r\n1 }')), "application/json"],
    ["a form", Uint8Array.from(Buffer.from("a=%7e+1&a")), form],
    ["text in another encoding", latin1, "text/plain; charset=iso-8859-1"],
    ["all bytes", Uint8Array.from({ length: 256 }, (_, byte) => byte), "application/octet-stream"]
  ])("is verified by its bytes: %s", async (_what, body, contentType) => {
    const signatureOf = (bytes: Uint8Array) => createHmac("sha256", "secret").update(bytes).digest("hex")
    const verified: Array<unknown> = []
    const verify: WebhookConfig["verify"] = ({ bytes }) => verified.push(signatureOf(bytes))

    await dataOf(body, contentType, { verify, parse: () => null })

    expect(verified).toEqual([signatureOf(body)])
  })
})

describe("a request from which `transform` makes", () => {
  it.each([
    ["nothing", () => undefined],
    ["null", () => null],
    ["an empty list", async () => []]
  ])("%s is answered with 200 and stored nowhere", async (_what, transform) => {
    await using server = await recording()

    expect(await post(handlerOf({ transform }, server.url), "{}")).toMatchObject({
      status: 200,
      body: { status: "ignored" }
    })
    expect(server.received).toEqual([])
  })

  it("several events starts the runs of each, in their order, and once", async () => {
    await using engine = await startEngine({ filename: ":memory:", logger: false, listen: { port: 0 } })
    const heard: Array<unknown> = []
    await using subscriptions = createSubscriptionClient({ serverUrl: engine.url ?? "" })
    await subscriptions.connect()
    await subscriptions.subscribe("events:>", { onEvent: ({ data, topic }) => heard.push([topic, data]) })
    const transform = ({ id, lines }: { readonly id: string; readonly lines: ReadonlyArray<string> }) => [
      { name: "order.placed", data: id, idempotencyKey: id },
      ...lines.map((line, n) => ({ name: "line.added", data: line, idempotencyKey: `${id}/${n}` }))
    ]
    const handler = handlerOf({ transform }, engine.url ?? "")

    for (let delivery = 0; delivery < 2; delivery++) {
      expect(await post(handler, '{"id":"o-1","lines":["cup","spoon"]}')).toMatchObject({ status: 200 })
    }
    await engine.client.emit("the.end", 0)

    await vi.waitFor(() => expect(heard).toHaveLength(4))
    expect(heard).toEqual([
      ["order.placed", "o-1"],
      ["line.added", "cup"],
      ["line.added", "spoon"],
      ["the.end", 0]
    ])
  })

  it("several events gets an answer that asks for another delivery when not all could be stored", async () => {
    let left = 1
    const server = await listen((request, response) => {
      request.resume()
      response.writeHead(left-- > 0 ? 200 : 503).end("{}")
    })
    const transform = () => [
      { name: "a", data: 1 },
      { name: "b", data: 2 }
    ]

    expect(await post(handlerOf({ transform }, server.url), "{}")).toMatchObject({
      status: 502,
      body: { error: { code: "EMIT_FAILED", message: expect.stringContaining('"b"') } }
    })
    await server.close()
  })

  it("a response gets that response, and nothing is stored", async () => {
    await using server = await recording()
    const transform = (payload: { readonly type: string; readonly challenge: string }) =>
      payload.type === "url_verification"
        ? new Response(payload.challenge, { status: 202, headers: { "x-said": "yes" } })
        : undefined
    const handler = handlerOf({ transform }, server.url)
    const ask = (headers: Record<string, string>): Promise<Response> =>
      handler(
        new Request("http://app/webhooks/shop", {
          method: "POST",
          body: '{"type":"url_verification","challenge":"3eZbrw1a"}',
          headers
        })
      )

    const response = await ask({ "x-shop": "genuine" })

    expect([response.status, await response.text(), response.headers.get("x-said")]).toEqual([
      202,
      "3eZbrw1a",
      "yes"
    ])
    expect(response.headers.get("content-type")).toMatch(/^text\/plain/)
    expect(response.headers.get("x-ironflow-environment")).toBe("default")
    expect((await ask({})).status).toBe(401)
    expect(server.received).toEqual([])
  })
})

it("a response that `transform` has fetched from elsewhere arrives complete", async () => {
  const elsewhere = await listen((_request, response) => {
    response.writeHead(200, { "content-type": "text/xml", "content-encoding": "gzip" })
    response.end(gzipSync("<confirmed/>"))
  })
  const handler = handlerOf({ transform: () => fetch(elsewhere.url) }, "http://127.0.0.1:1")
  const app = await listen(handler)

  const response = await fetch(`${app.url}/webhooks/shop`, {
    method: "POST",
    body: "{}",
    headers: { "x-shop": "genuine" }
  })

  expect([response.headers.get("content-type"), await response.text()]).toEqual(["text/xml", "<confirmed/>"])
  await app.close()
  await elsewhere.close()
})

describe("a challenge", () => {
  const verify = () => {
    throw new Error("There is no signature")
  }
  const meta: WebhookConfig["challenge"] = ({ method, query }) => {
    if (method !== "GET") return
    if (query["hub.verify_token"] !== "token-1") throw new Error("The token is another one")
    return new Response(query["hub.challenge"])
  }
  const get = (handler: ServeHandler, query: string, method = "GET"): Promise<Response> =>
    handler(new Request(`http://app/webhooks/shop?${query}`, { method }))

  it("by GET is answered before anything is verified", async () => {
    await using server = await recording()
    const handler = handlerOf({ challenge: meta, verify }, server.url)

    const right = await get(handler, "hub.mode=subscribe&hub.verify_token=token-1&hub.challenge=1158201444")
    const wrong = await get(handler, "hub.mode=subscribe&hub.verify_token=token-2&hub.challenge=1158201444")

    expect([right.status, await right.text()]).toEqual([200, "1158201444"])
    expect(wrong.status).toBe(401)
    expect(await wrong.json()).toMatchObject({ error: { code: "VERIFY_FAILED" } })
    expect(await post(handler, "{}")).toMatchObject({ status: 401 })
    expect(server.received).toEqual([])
  })

  it("by an unsigned POST without a body is answered too, also with 204", async () => {
    const challenge: WebhookConfig["challenge"] = async ({ query }) => {
      if (query.validationToken === "none") return new Response(null, { status: 204 })
      return query.validationToken === undefined ? undefined : new Response(query.validationToken)
    }
    const handler = handlerOf({ challenge, verify }, "http://127.0.0.1:1")

    expect(await (await get(handler, "validationToken=a%20b", "POST")).text()).toBe("a b")
    expect((await get(handler, "validationToken=none", "POST")).status).toBe(204)
    expect((await get(handler, "", "POST")).status).toBe(401)
  })

  it.each([
    ["that has no `challenge`", undefined],
    ["that `challenge` does not answer", () => undefined]
  ])("by GET %s is answered with the hint to use POST", async (_what, challenge) => {
    const never = vi.fn()
    const response = await get(
      handlerOf({ verify: never, transform: never, ...(challenge && { challenge }) }, "http://127.0.0.1:1"),
      "x=1"
    )

    expect([response.status, response.headers.get("allow")]).toEqual([405, "POST"])
    expect(await response.json()).toMatchObject({ error: { code: "METHOD_NOT_ALLOWED" } })
    expect(never).not.toHaveBeenCalled()
  })

  it("that returns something other than a response is an error", async () => {
    const handler = handlerOf({ challenge: () => "1158201444" as never }, "http://127.0.0.1:1")
    expect(await (await get(handler, "")).json()).toMatchObject({ error: { code: "VERIFY_FAILED" } })
  })
})

it("a webhook does the same in a handler of the Effect API", async () => {
  await using server = await recording()
  const webhook = Webhook.createWebhook({
    ...shop,
    transform: (payload) =>
      payload.kind === "challenge" ? new Response("yes") : [{ name: "a", data: payload }]
  })
  const ask = (body: string) =>
    Effect.runPromise(
      Effect.flatMap(
        Serve.make({ functions: [], webhooks: [webhook], serverUrl: server.url, logger: false }),
        (it) =>
          it.fetch(
            new Request("http://app/webhooks/shop", {
              method: "POST",
              body,
              headers: { "x-shop": "genuine", "content-type": "application/x-www-form-urlencoded" }
            })
          )
      )
    )

  expect(await (await ask("kind=challenge")).text()).toBe("yes")
  expect(await (await ask("kind=visit")).json()).toEqual({ status: "accepted", event: { name: "a" } })
  expect(server.received).toMatchObject([{ body: { name: "a", data: { kind: "visit" } } }])
})

describe("createWebhook", () => {
  it.each([
    ["no id", { ...shop, id: undefined }],
    ["an id with a slash", { ...shop, id: "a/b" }],
    ["an id with white space", { ...shop, id: "a b" }],
    ["no verify", { ...shop, verify: undefined }],
    ["no transform", { ...shop, transform: "data" }],
    ["a challenge that is not a function", { ...shop, challenge: "token" }],
    ["a parse that is not a function", { ...shop, parse: {} }],
    ["nothing", undefined]
  ])("with %s is refused", (_what, config) => {
    expect(() => createWebhook(config as WebhookConfig)).toThrow(ValidationError)
  })

  it("is refused for two webhooks with one id", () => {
    const webhook = createWebhook(shop)
    expect(() => serve({ functions: [], webhooks: [webhook, webhook], logger: false })).toThrow(
      /two webhooks/
    )
  })
})

it("no event is lost while the server is down and the sender repeats its request", async () => {
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

it("deliveries of several senders with the same id do not collide", async () => {
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

it("signatures of Stripe's own library are verified", async () => {
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
