/**
 * The documented examples of push mode and webhooks, unchanged, with a server. Only the module of the reader's function and
 * the port are replaced.
 */
import type { Server } from "node:http"
import type { AddressInfo } from "node:net"
import { pathToFileURL } from "node:url"
import { createAdaptorServer } from "@hono/node-server"
import { type IronflowEngine, startEngine } from "@ironflow/node/engine"
import type { Hono } from "hono"
import Stripe from "stripe"
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest"
import { texts, textOf } from "./Documented.ts"
import { makeExamples } from "./Examples.ts"
import { listen, registerEndpoint, SIGNING_KEY } from "./Serve/Hosts.ts"

type Handler = (request: Request) => Promise<Response>

let engine: IronflowEngine
const cleanups: Array<() => unknown> = []

beforeEach(async () => {
  vi.stubEnv("IRONFLOW_SIGNING_KEY", SIGNING_KEY)
  engine = await startEngine({
    filename: ":memory:",
    logger: false,
    listen: { port: 0 },
    push: { allowPrivateNetworks: true }
  })
  cleanups.push(() => engine.close())
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
  vi.unstubAllEnvs()
  vi.unstubAllGlobals()
})

/** Loads an example. Every replaced text must be there. */
const load = async <T>(name: string, replacements: Record<string, string>): Promise<T> => {
  const text = Object.entries(replacements).reduce(
    (text, [from, to]) => (expect(text).toContain(from), text.replaceAll(from, to)),
    textOf(name)
  )
  const examples = makeExamples({ "example.ts": text, "functions.js": texts["functions.ts"] ?? "" })
  cleanups.push(() => examples[Symbol.dispose]())
  return (await import(/* @vite-ignore */ pathToFileURL(examples.pathOf("example.ts")).href)) as T
}

/** Registers the endpoint, and checks that a run of the example's function completes there. */
const checkRunAt = async (url: string): Promise<void> => {
  expect((await registerEndpoint(engine, url)).status).toBe(200)

  const { runIds } = await engine.client.emit("order.placed", { orderId: "o-1" })

  expect(await engine.client.waitForRun(runIds[0] ?? "", { timeout: 10_000 })).toMatchObject({
    functionId: "process-order",
    status: "completed",
    output: "o-1"
  })
}

const urlOf = (server: { address(): AddressInfo | string | null }): string =>
  `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/ironflow`

/** Serves a Fetch handler, like the runtime of a framework. */
const serveFetch = async (handler: Handler): Promise<string> => {
  const server = await listen(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const answer = await handler(
      new Request(`http://app${request.url ?? "/"}`, {
        method: "POST",
        body: Buffer.concat(chunks),
        headers: request.headers as Record<string, string>
      })
    )
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(await answer.text())
  })
  cleanups.push(server.close)
  return `${server.url}/api/ironflow`
}

describe("push mode", () => {
  test("Next.js App Router", async () => {
    const { POST } = await load<{ readonly POST: Handler }>("push-mode.01", {
      "@/functions/process-order": "./functions.js"
    })

    await checkRunAt(await serveFetch(POST))
  })

  test("Express", async () => {
    const { server } = await load<{ readonly server: Server }>("push-mode.02", {
      "./functions/process-order.js": "./functions.js",
      "app.listen(3000)": "export const server = app.listen(0)"
    })
    cleanups.push(() => server.close())

    await checkRunAt(urlOf(server))
  })

  test("Hono", async () => {
    const { default: app } = await load<{ readonly default: Hono }>("push-mode.03", {
      "./functions/process-order.js": "./functions.js"
    })
    const server = createAdaptorServer({ fetch: app.fetch })
    await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve))
    cleanups.push(() => server.close())

    await checkRunAt(urlOf(server))
  })
})

test("the Stripe webhook", async () => {
  vi.stubEnv("STRIPE_SECRET_KEY", "sk_test_1")
  vi.stubEnv("STRIPE_WEBHOOK_SECRET", "whsec_1")
  vi.stubEnv("IRONFLOW_SERVER_URL", engine.url)
  const functions = makeExamples({ "functions.ts": texts["functions.ts"] ?? "" })
  cleanups.push(() => functions[Symbol.dispose]())
  const { processOrder } = (await import(
    /* @vite-ignore */ pathToFileURL(functions.pathOf("functions.ts")).href
  )) as { readonly processOrder: unknown }
  vi.stubGlobal("processOrder", processOrder)
  const { POST } = await load<{ readonly POST: Handler }>("webhooks.01", {})
  const payload = JSON.stringify({
    id: "evt_1",
    object: "event",
    type: "charge.succeeded",
    data: { object: { id: "ch_1", amount: 250 } }
  })
  const send = (signature: string | undefined) =>
    POST(
      new Request("http://app/api/ironflow/webhooks/stripe", {
        method: "POST",
        body: payload,
        headers: signature === undefined ? {} : { "Stripe-Signature": signature }
      })
    )
  const signature = new Stripe("sk_test_1").webhooks.generateTestHeaderString({ payload, secret: "whsec_1" })

  expect((await send(undefined)).status).toBe(401)
  expect((await send(signature.replace(/.$/, (digit) => (digit === "0" ? "1" : "0")))).status).toBe(401)
  const accepted = await send(signature)

  expect(accepted.status).toBe(200)
  expect(await accepted.json()).toEqual({
    status: "accepted",
    event: { name: "stripe.charge.succeeded", idempotencyKey: "evt_1" }
  })
})
