/** To which receiver the spans of a command are sent. */
import { once } from "node:events"
import http from "node:http"
import type { AddressInfo } from "node:net"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { afterEach, expect, it, vi } from "vitest"
import { layerTraces } from "../../src/Cli/Tracing.ts"

afterEach(() => vi.unstubAllEnvs())

const traced = Effect.scoped(Effect.provide(Effect.withSpan(Effect.void, "weigh"), layerTraces))

it.each([
  ["OTEL_EXPORTER_OTLP_ENDPOINT", ""],
  ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/v1/traces"]
])("a span goes to the receiver that %s names", async (variable, path) => {
  const server = http.createServer()
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  using _ = { [Symbol.dispose]: () => server.close() }
  vi.stubEnv(variable, `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`)
  const received = new Promise<{ readonly url: string | undefined; readonly text: string }>((resolve) =>
    server.on("request", async (request, response) => {
      let text = ""
      for await (const chunk of request) text += chunk
      response.end("{}")
      resolve({ url: request.url, text })
    })
  )

  await Effect.runPromise(traced)

  const { text, url } = await received
  expect(url).toBe("/v1/traces")
  expect(text).toContain('"weigh"')
})

/** A server that accepts connections and requests, and answers none. */
const silent = async () => {
  const server = http.createServer(() => undefined)
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close }
}

it.each([
  ["accepts requests and never answers", silent, /has not answered for 5 s/],
  ["refuses connections", async () => ({ url: "http://127.0.0.1:1", close: () => undefined }), /./]
])(
  "sending spans to a receiver that %s delays nothing, needs little memory, and logs the problem once",
  async (_, start, why) => {
    const receiver = await start()
    vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    vi.stubEnv("OTEL_BSP_SCHEDULE_DELAY", "50")
    const logged: Array<string> = []
    const logger = Logger.make(
      ({ cause, message }) => void logged.push(`${String(message)} ${Cause.pretty(cause)}`)
    )
    const spans = (count: number) =>
      Effect.forEach(Array.from({ length: count }), () => Effect.withSpan(Effect.void, "weigh"), {
        discard: true
      })

    await Effect.gen(function* () {
      // spans are made until the command notices that the receiver is away
      while (logged.length === 0) {
        yield* spans(100)
        yield* Effect.sleep("5 millis")
      }
      const before = process.memoryUsage().heapUsed
      yield* spans(200_000)
      // each span is about a kilobyte
      expect(process.memoryUsage().heapUsed - before).toBeLessThan(128 * 1024 * 1024)
    }).pipe(
      Effect.provide(layerTraces),
      Effect.provide(Logger.layer([logger])),
      Effect.scoped,
      Effect.runPromise
    )

    expect(logged).toHaveLength(1)
    expect(logged[0]).toContain("Traces cannot be sent to")
    expect(logged[0]).toMatch(why)
    receiver.close()
  }
)

it("spans are not sent when that is turned off", async () => {
  vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
  vi.stubEnv("OTEL_TRACES_EXPORTER", "none")

  await Effect.runPromise(traced)
})
