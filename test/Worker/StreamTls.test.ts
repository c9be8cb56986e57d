import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it, vi } from "vitest"
import { startEngine } from "../../src/engine.ts"
import { createFunction } from "../../src/Function.ts"
import { createStreamingWorker } from "../../src/worker-streaming.ts"
import { createWorker } from "../../src/worker.ts"

const folder = mkdtempSync(join(tmpdir(), "ironflow-tls-"))
const file = (name: string): string => join(folder, name)

beforeAll(() => {
  const key = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:prime256v1",
    "-nodes",
    "-keyout",
    file("key.pem")
  ]
  const certificate = ["-out", file("cert.pem"), "-days", "2", "-subj", "/CN=localhost"]
  execFileSync(
    "openssl",
    ["req", "-x509", ...key, ...certificate, "-addext", "subjectAltName=IP:127.0.0.1"],
    {
      stdio: "ignore"
    }
  )
  // in a process of its own, NODE_EXTRA_CA_CERTS would do this
  vi.stubEnv("NODE_TLS_REJECT_UNAUTHORIZED", "0")
})
afterAll(() => {
  vi.unstubAllEnvs()
  rmSync(folder, { recursive: true, force: true })
})

const fn = createFunction({ id: "ship", triggers: [{ event: "order.placed" }] }, async ({ step }) =>
  step.run("ship", async () => "shipped")
)

describe("over TLS", () => {
  it.each([
    [
      "rpc",
      (serverUrl: string) =>
        createWorker({ serverUrl, functions: [fn], transport: "streaming", logger: false })
    ],
    ["connect", (serverUrl: string) => createStreamingWorker({ serverUrl, functions: [fn], logger: false })],
    ["polling", (serverUrl: string) => createWorker({ serverUrl, functions: [fn], logger: false })]
  ] as const)("a worker works over %s", async (transport, create) => {
    await using engine = await startEngine({
      filename: ":memory:",
      logger: false,
      listen: { port: 0, tls: { key: readFileSync(file("key.pem")), cert: readFileSync(file("cert.pem")) } }
    })
    const worker = create(engine.url!)
    const stopped = worker.start()
    await worker.ready()

    const [listed] = await engine.client.listWorkers()
    const { runIds } = await engine.client.emit("order.placed", {})
    const run = await engine.client.waitForRun(runIds[0]!)

    assert.match(engine.url!, /^https:/)
    assert.strictEqual(listed?.transport, transport)
    assert.strictEqual(run.output, "shipped")
    await worker.stop()
    await stopped
  })
})
