import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { Client, Testing } from "@ironflow/node/effect"
import * as Effect from "effect/Effect"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Layer from "effect/Layer"
import { expect, test } from "vitest"
import { start } from "../wire/Ironflow.ts"

/** A tape as it would be read from a file. */
const fromFile = (tape: Testing.Tape): Testing.Tape => JSON.parse(JSON.stringify(tape))

const recording = (tape: Testing.Tape) =>
  Testing.layerRecordingHttpClient(tape).pipe(Layer.provide(FetchHttpClient.layer))

test("recorded requests of the client are replayed without the server", async () => {
  const program = Effect.gen(function* () {
    const client = yield* Client.Client
    const emitted = yield* client.emit("order.placed", { orderId: "o-1" })
    const missing = yield* Effect.flip(client.getRun("run_none"))
    return { emitted, functions: yield* client.listFunctions(), missing: missing.code }
  })
  const tape = Testing.makeTape()
  const server = await start()
  const { url } = server
  const over = (http: Layer.Layer<HttpClient.HttpClient, unknown>) =>
    Effect.runPromise(
      Effect.provide(
        program,
        Client.layerHttp({ serverUrl: url, apiKey: "key-of-mine" }).pipe(Layer.provide(http))
      )
    )
  const real = await over(recording(tape))
  await server[Symbol.asyncDispose]()

  expect(real.missing).toBe("RUN_NOT_FOUND")
  expect(tape.exchanges.map(({ response }) => response.status)).toEqual([expect.any(Number), 404, 200])
  expect(JSON.stringify(tape)).not.toContain("key-of-mine")
  expect(await over(Testing.layerPlayingHttpClient(fromFile(tape)))).toEqual(real)
})

const served = async (use: (url: string) => Promise<void>) => {
  let answers = 0
  const server = createServer((request, response) => {
    if (request.url === "/stream") {
      response.setHeader("content-type", "text/event-stream")
      return response.write("data: 1\n\n")
    }
    response.setHeader("set-cookie", "session=secret")
    response.setHeader("etag", `"${++answers}"`)
    response.statusCode = request.url === "/nothing" ? 204 : 200
    response.end(request.url === "/bytes" ? Buffer.from([255, 0, 254]) : `answer ${answers}`)
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  try {
    // a server on a TCP port has such an address
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

const over = <A, E>(
  layer: Layer.Layer<HttpClient.HttpClient, unknown>,
  use: (http: HttpClient.HttpClient) => Effect.Effect<A, E>
) => Effect.runPromise(Effect.provide(Effect.flatMap(HttpClient.HttpClient, use), layer))

test("text, bytes and empty bodies are replayed unchanged, equal requests in order, and no cookies", async () => {
  await served(async (url) => {
    const ask = (http: HttpClient.HttpClient) =>
      Effect.gen(function* () {
        const first = yield* http.get(`${url}/text`, { urlParams: { q: "a b" } })
        const second = yield* http.get(`${url}/text?q=a%20b`)
        const bytes = yield* http.execute(
          HttpClientRequest.bodyUint8Array(HttpClientRequest.post(`${url}/bytes`), new Uint8Array([1, 255]))
        )
        const nothing = yield* http.get(`${url}/nothing`)
        return {
          texts: [yield* first.text, yield* second.text, yield* nothing.text],
          bytes: [...new Uint8Array(yield* bytes.arrayBuffer)],
          etags: [first.headers.etag, second.headers.etag],
          cookie: first.headers["set-cookie"],
          status: nothing.status
        }
      })
    const tape = Testing.makeTape()
    const real = await over(recording(tape), ask)

    expect(real).toEqual({
      texts: ["answer 1", "answer 2", ""],
      bytes: [255, 0, 254],
      etags: ['"1"', '"2"'],
      cookie: undefined,
      status: 204
    })
    expect(await over(Testing.layerPlayingHttpClient(fromFile(tape)), ask)).toEqual(real)
  })
})

const exchange = (path: string, body?: string): Testing.TapeExchange => ({
  request: { method: "POST", path, ...(body === undefined ? {} : { body }) },
  response: { status: 200, headers: {}, body: "ok" }
})
const post = (path: string, body: string) => (http: HttpClient.HttpClient) =>
  http.execute(HttpClientRequest.bodyText(HttpClientRequest.post(`http://anywhere${path}`), body))

test("a request that is not on the tape is a defect that says why", async () => {
  const playing = Testing.layerPlayingHttpClient({ exchanges: [exchange("/charge", "1")] })
  const twice = (http: HttpClient.HttpClient) =>
    Effect.andThen(post("/charge", "1")(http), post("/charge", "1")(http))

  await expect(over(playing, post("/refund", "1"))).rejects.toThrow("POST /refund is not on the tape. ")
  await expect(over(playing, post("/charge", "2"))).rejects.toThrow(
    'another body only (once). The request has the body "2"'
  )
  await expect(over(playing, twice)).rejects.toThrow("on the tape once, and this exchange was played already")
  await expect(over(playing, post("/refund", "1"))).rejects.toMatchObject({ code: "NOT_ON_TAPE" })
})

test("the client does not retry a request that is not on the tape", async () => {
  const client = Client.layerHttp({ serverUrl: "http://anywhere" }).pipe(
    Layer.provide(Testing.layerPlayingHttpClient(Testing.makeTape()))
  )
  const ending = Effect.runPromise(
    Effect.provide(
      Effect.flatMap(Client.Client, (it) => it.listFunctions()),
      client
    )
  )

  await expect(ending).rejects.toMatchObject({ code: "NOT_ON_TAPE" })
})

test("a test may define which requests are equal", async () => {
  const playing = Testing.layerPlayingHttpClient(
    { exchanges: [exchange("/charge", '{"at":1}')] },
    { matches: (recorded, asked) => recorded.path === asked.path }
  )
  const answer = await over(playing, (http) =>
    Effect.flatMap(post("/charge", '{"at":2}')(http), ({ text }) => text)
  )

  expect(answer).toBe("ok")
})

test("a stream is refused, and so is a file that is not a tape", async () => {
  await served(async (url) => {
    const tape = Testing.makeTape()
    await expect(over(recording(tape), (http) => http.get(`${url}/stream`))).rejects.toThrow(
      "answered by a stream"
    )
    expect(tape.exchanges).toEqual([])
  })
  const wrong = JSON.parse('{"exchanges":[{"request":{"method":"GET"}}]}')
  await expect(over(Testing.layerPlayingHttpClient(wrong), () => Effect.void)).rejects.toThrow(
    "not a tape that"
  )
})
