/** One handler in every framework: turns of an engine, webhooks, and bodies that a parser has already read. */
import { createHmac } from "node:crypto"
import type { AddressInfo } from "node:net"
import { createAdaptorServer } from "@hono/node-server"
import { createFunction, createWebhook, serve, type ServeHandler } from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import express from "express"
import fastify from "fastify"
import { Hono } from "hono"
import { afterEach, describe, expect, it } from "vitest"
import { listen, registerEndpoint, SIGNING_KEY } from "./Hosts.ts"

const cleanups: Array<() => unknown> = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const greet = createFunction(
  { id: "greet", triggers: [{ event: "guest.arrived" }] },
  async ({ event, step }) => {
    const name = await step.run("name", async () => String(event.data.name).toUpperCase())
    await step.sleep("breathe", "20ms")
    return `hello ${name}`
  }
)

const shop = createWebhook({
  id: "shop",
  verify: ({ headers }) => {
    if (headers["x-shop"] !== "genuine") throw new Error("not from the shop")
  },
  transform: (payload) => ({
    name: "guest.arrived",
    data: { name: payload.guest },
    idempotencyKey: payload.id
  })
})

/** A webhook that tells its sender what it sees of a request. */
const mirror = createWebhook({
  id: "mirror",
  challenge: ({ method, query }) => (method === "GET" ? new Response(query.challenge) : undefined),
  verify: () => undefined,
  parse: ({ bytes }) => Buffer.from(bytes).toString("hex"),
  transform: (hex: string, { headers }) => Response.json([hex, headers["content-type"]])
})

const handlerFor = (serverUrl: string | undefined): ServeHandler =>
  serve({ functions: [greet], webhooks: [shop, mirror], signingKey: SIGNING_KEY, logger: false, serverUrl })

/** Mounts a handler at `/api/ironflow` and the paths below. Resolves to the URL of the server. */
type Mount = (handler: ServeHandler) => Promise<string>

const port = (address: string | AddressInfo | null): string =>
  `http://127.0.0.1:${(address as AddressInfo).port}`

const mounts: { readonly [name: string]: Mount } = {
  "node:http": async (handler) => {
    const server = await listen(handler)
    cleanups.push(server.close)
    return server.url
  },
  Express: async (handler) => {
    const app = express()
    app.all("/api/ironflow{/*below}", handler)
    // a parser after the handler does no harm
    app.use(express.json())
    const server = app.listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    cleanups.push(() => new Promise((resolve) => server.close(resolve)))
    return port(server.address())
  },
  "Express, mounted with use()": async (handler) => {
    const app = express()
    app.use("/api/ironflow", handler)
    const server = app.listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    cleanups.push(() => new Promise((resolve) => server.close(resolve)))
    return port(server.address())
  },
  "Express with express.raw()": async (handler) => {
    const app = express()
    app.use(express.raw({ type: "*/*", limit: "4mb" }))
    app.all("/api/ironflow{/*below}", handler)
    const server = app.listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    cleanups.push(() => new Promise((resolve) => server.close(resolve)))
    return port(server.address())
  },
  Hono: async (handler) => {
    const app = new Hono()
    app.all("/api/ironflow", handler)
    app.all("/api/ironflow/*", handler)
    const server = createAdaptorServer({ fetch: app.fetch })
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve))
    cleanups.push(() => new Promise((resolve) => server.close(resolve)))
    return port(server.address())
  },
  Fastify: async (handler) => {
    const app = fastify()
    app.addContentTypeParser(["application/json", "*"], { parseAs: "buffer" }, (_request, body, done) =>
      done(null, body)
    )
    app.all("/api/ironflow", handler)
    app.all("/api/ironflow/*", handler)
    const url = await app.listen({ port: 0, host: "127.0.0.1" })
    cleanups.push(() => app.close())
    return url
  },
  // Next.js passes a Request of a subclass, and a context whose parameters are a promise
  "a Next.js route handler": async (handler) => {
    class NextRequest extends Request {
      readonly nextUrl = new URL(this.url)
    }
    const POST: (
      request: NextRequest,
      context: { params: Promise<{ readonly path?: ReadonlyArray<string> }> }
    ) => Promise<Response> | Response = handler
    return fetchServer((request) => POST(new NextRequest(request), { params: Promise.resolve({}) }))
  },
  // a function on demand takes one Request and returns one Response
  "a Lambda-style Fetch call": async (handler) => fetchServer((request) => handler(request))
}

/** A server that passes its requests to a function of a Request. */
const fetchServer = async (answer: (request: Request) => Promise<Response> | Response): Promise<string> => {
  const server = await listen(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const answered = await answer(
      new Request(`http://app${request.url ?? "/"}`, {
        method: request.method ?? "POST",
        ...(request.method === "GET" ? {} : { body: Buffer.concat(chunks) }),
        headers: request.headers as Record<string, string>
      })
    )
    response.writeHead(answered.status, Object.fromEntries(answered.headers)).end(await answered.text())
  })
  cleanups.push(server.close)
  return server.url
}

const startOne = async () => {
  const engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    push: { allowPrivateNetworks: true, signingKey: SIGNING_KEY }
  })
  cleanups.push(() => engine.close())
  return engine
}

const json = { "content-type": "application/json" }

describe.each(Object.entries(mounts))("serve() in %s", (_name, mount) => {
  it("runs a function for the engine, and reports with the response", async () => {
    const engine = await startOne()
    const url = await mount(handlerFor(undefined))
    const registered = await registerEndpoint(engine, `${url}/api/ironflow`)
    expect(await registered.json()).toMatchObject({ functions: [{ id: "greet" }] })

    const { runIds } = await engine.client.emit("guest.arrived", { name: "ada" })

    expect(await engine.client.waitForRun(runIds[0] ?? "", { timeout: 10_000 })).toMatchObject({
      status: "completed",
      output: "hello ADA"
    })
  })

  it("makes one event of a webhook's request", async () => {
    const engine = await startOne()
    const url = await mount(handlerFor(engine.url))
    await registerEndpoint(engine, `${url}/api/ironflow`)
    const send = () =>
      fetch(`${url}/api/ironflow/webhooks/shop?from=far`, {
        method: "POST",
        headers: { ...json, "X-Shop": "genuine" },
        body: '{"guest":"grace","id":"visit-1"}'
      })

    const answers = [await send(), await send()]

    expect(answers.map(({ status }) => status)).toEqual([200, 200])
    expect(await answers[0]?.json()).toEqual({
      status: "accepted",
      event: { name: "guest.arrived", idempotencyKey: "visit-1" }
    })
    const { runs } = await engine.client.listRuns()
    expect(runs).toHaveLength(1)
    expect(await engine.client.waitForRun(runs[0]?.id ?? "", { timeout: 10_000 })).toMatchObject({
      output: "hello GRACE"
    })
  })

  it("passes a webhook the raw bytes of any body, and answers its challenge", async () => {
    const url = `${await mount(handlerFor(undefined))}/api/ironflow/webhooks/mirror`
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte)

    const challenged = await fetch(`${url}?challenge=1158201444`)
    for (const type of [
      "application/x-www-form-urlencoded",
      "application/json",
      "application/octet-stream"
    ]) {
      const mirrored = await fetch(url, { method: "POST", body: bytes, headers: { "content-type": type } })
      expect(await mirrored.json()).toEqual([Buffer.from(bytes).toString("hex"), type])
    }

    expect([challenged.status, await challenged.text()]).toEqual([200, "1158201444"])
  })

  it("answers any request in JSON, and names the environment", async () => {
    const url = await mount(handlerFor(undefined))

    const response = await fetch(`${url}/api/ironflow`, { method: "POST", headers: json, body: "{}" })

    expect(response.status).toBe(401)
    expect(response.headers.get("content-type")).toMatch(/^application\/json/)
    expect(response.headers.get("x-ironflow-environment")).toBe("default")
    expect(await response.json()).toMatchObject({ error: { code: "SIGNATURE_MISSING" } })
  })
})

describe("a body that a parser has already read", () => {
  const body = '{"type":"describe","sent_at":0}'
  const signed = {
    ...json,
    "x-ironflow-signature": `sha256=${createHmac("sha256", SIGNING_KEY).update(body).digest("hex")}`
  }

  it("is reported with the name express.json()", async () => {
    const app = express()
    app.use(express.json())
    app.post("/api/ironflow", handlerFor(undefined))
    const server = app.listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    cleanups.push(() => new Promise((resolve) => server.close(resolve)))

    const response = await fetch(`${port(server.address())}/api/ironflow`, {
      method: "POST",
      headers: signed,
      body
    })

    expect(response.status).toBe(500)
    expect(await response.json()).toMatchObject({
      error: { code: "BODY_CONSUMED", message: expect.stringContaining("express.json()") }
    })
  })

  it("is reported with the name of Fastify's parser", async () => {
    const app = fastify()
    app.post("/api/ironflow", handlerFor(undefined))
    const url = await app.listen({ port: 0, host: "127.0.0.1" })
    cleanups.push(() => app.close())

    const response = await fetch(`${url}/api/ironflow`, { method: "POST", headers: signed, body })

    expect(response.status).toBe(500)
    expect(await response.json()).toMatchObject({
      error: { code: "BODY_CONSUMED", message: expect.stringContaining("addContentTypeParser") }
    })
  })

  it("is reported for a Fetch request too", async () => {
    const request = new Request("http://app/api/ironflow", { method: "POST", headers: signed, body })
    await request.json()

    const response: Response = await handlerFor(undefined)(request)

    expect(response.status).toBe(500)
    expect(await response.json()).toMatchObject({ error: { code: "BODY_CONSUMED" } })
  })

  it("does no harm where nothing is verified", async () => {
    const app = express()
    app.use(express.json())
    app.post("/api/ironflow", serve({ functions: [greet], skipVerification: true, logger: false }))
    const server = app.listen(0, "127.0.0.1")
    await new Promise((resolve) => server.once("listening", resolve))
    cleanups.push(() => new Promise((resolve) => server.close(resolve)))

    const response = await fetch(`${port(server.address())}/api/ironflow`, {
      method: "POST",
      headers: json,
      body
    })

    expect(await response.json()).toMatchObject({ type: "description", functions: [{ id: "greet" }] })
  })
})

it("a request of Node.js without a response gets a Response", async () => {
  const handler = serve({ functions: [greet], skipVerification: true, logger: false })

  const response: Response = await handler({ url: "/", headers: {}, body: '{"type":"describe"}' })

  expect(response.status).toBe(200)
  expect(await response.json()).toMatchObject({ functions: [{ id: "greet" }] })
})

it("something other than a request is refused with a message", async () => {
  const handler = serve({ functions: [greet], skipVerification: true, logger: false })

  await expect(handler("POST /")).rejects.toThrow(/not a request: it takes a Fetch Request/)
})
