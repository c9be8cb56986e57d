/** Where the spans of a command go. */
import { once } from "node:events"
import http from "node:http"
import type { AddressInfo } from "node:net"
import * as Effect from "effect/Effect"
import { afterEach, expect, it, vi } from "vitest"
import { layerTraces } from "../../src/Cli/Traces.ts"

afterEach(() => vi.unstubAllEnvs())

const traced = Effect.scoped(Effect.provide(Effect.withSpan(Effect.void, "weigh"), layerTraces))

it.each([
  ["OTEL_EXPORTER_OTLP_ENDPOINT", ""],
  ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/v1/traces"]
])("goes to the receiver that %s names", async (variable, path) => {
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

it("nowhere when somebody says so", async () => {
  vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
  vi.stubEnv("OTEL_TRACES_EXPORTER", "none")

  await Effect.runPromise(traced)
})
