/** The server itself: where it listens, and how it stops. */
import { execFileSync } from "node:child_process"
import { connect as connectSocket, createServer } from "node:net"
import { request as httpsRequest } from "node:https"
import { readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { assert, describe, it } from "vitest"
import { start, temporaryDatabase } from "./Ironflow.ts"
import { rpc, send } from "./RawClient.ts"
import { RawTurnWorker } from "./RawTurnWorker.ts"

const failureOf = async (promise: Promise<unknown>): Promise<any> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail("expected a rejection")
}

describe("listening", () => {
  it("on a port that is taken fails with an error that names the port and a remedy", async () => {
    await using first = await start()

    const error = await failureOf(start({ port: first.port }))

    assert.strictEqual(error.code, "PORT_IN_USE")
    assert.deepInclude(error.details, { host: "127.0.0.1", port: first.port })
    assert.match(
      error.message,
      new RegExp(`^Port ${first.port} on 127.0.0.1 is in use .* choose another port`)
    )
  })

  it.each(["0.0.0.0", "::", "192.168.1.5", "example.com", "127.0.0.1.example.com"])(
    "on %s is refused without API keys",
    async (host) => {
      const error = await failureOf(start({ host }))

      assert.strictEqual(error.code, "VALIDATION_ERROR")
      assert.match(error.message, /does not listen on ".*" without API keys/)
    }
  )

  it("on every host is possible with `insecure`, for programs but not for pages of other sites", async () => {
    await using ironflow = await start({ host: "0.0.0.0", insecure: true })
    const ask = async (headers: Record<string, string>) =>
      (await send(`http://127.0.0.1:${ironflow.port}`, "GET", "/health", undefined, headers)).status

    assert.deepStrictEqual([await ask({}), await ask({ origin: "https://shop.example" })], [200, 403])
  })

  it.each([
    { port: -1 },
    { port: 1.5 },
    { port: 70_000 },
    { maxBodyBytes: 0 },
    { bodyTimeoutMs: Number.NaN },
    // more than a timer can take
    { bodyTimeoutMs: 2 ** 31 }
  ])("with %j is refused", async (options) => {
    assert.strictEqual((await failureOf(start(options))).code, "VALIDATION_ERROR")
  })

  it("gives slow requests up to an hour, if configured", async () => {
    await using ironflow = await start({ bodyTimeoutMs: 3_600_000 })

    assert.strictEqual((await fetch(`http://127.0.0.1:${ironflow.port}/health`)).status, 200)
  })

  it("with a certificate uses HTTPS", async () => {
    using database = temporaryDatabase()
    const folder = dirname(database.filename)
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")]
    execFileSync(
      "openssl",
      [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        key
      ].concat([
        "-out",
        cert,
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=IP:127.0.0.1"
      ]),
      { stdio: "ignore" }
    )
    await using ironflow = await start({ tls: { key: readFileSync(key), cert: readFileSync(cert) } })

    const status = await new Promise((resolve, reject) => {
      httpsRequest(`${ironflow.url}/health`, { ca: readFileSync(cert) }, (response) => {
        response.resume()
        resolve(response.statusCode)
      })
        .on("error", reject)
        .end()
    })

    assert.match(ironflow.url, /^https:\/\/127\.0\.0\.1:\d+$/)
    assert.strictEqual(status, 200)
  })
})

describe("stopping", () => {
  it("answers open polls and waits, and frees the port", async () => {
    const ironflow = await start()
    const worker = new RawTurnWorker(ironflow.url)
    await worker.register()
    const { body } = await rpc(ironflow.url, "Trigger", { event: "order.placed", data: {} })
    const { deliveries } = (await worker.poll({ asked: 1 })).body
    assert.lengthOf(deliveries, 1)
    const poll = worker.poll({ asked: 1, seen: 1 })
    const wait = send(ironflow.url, "GET", `/api/v1/runs/${body.runIds[0]}/wait?timeout=30000`)
    while (!(await send(ironflow.url, "GET", "/metrics")).text.includes("ironflow_open_polls 1\n"));

    await ironflow.close()

    assert.deepStrictEqual((await poll).body, { deliveries: [], closing: true })
    assert.strictEqual((await wait).status, 204)
    await new Promise<void>((resolve, reject) => {
      const next = createServer()
      next.once("error", reject)
      next.listen(ironflow.port, "127.0.0.1", () => next.close(() => resolve()))
    })
  })

  it("does not wait for a client that never finishes", async () => {
    const ironflow = await start()
    const stalled = fetch(`${ironflow.url}/ironflow.v1.IronflowService/Trigger`, {
      method: "POST",
      // a body that never ends
      body: new ReadableStream({ start: (controller) => controller.enqueue(new TextEncoder().encode("{")) }),
      duplex: "half"
    } as RequestInit)
    await send(ironflow.url, "GET", "/health")

    await ironflow.close()

    assert.strictEqual((await stalled).status, 503)
  })
  it("does not wait for a client in the middle of its headers", async () => {
    const ironflow = await start()
    const socket = connectSocket(ironflow.port, "127.0.0.1")
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()))
    await new Promise<void>((resolve) => socket.write("GET /health HTTP/1.1\r\nHost: local", () => resolve()))
    await send(ironflow.url, "GET", "/health")

    await ironflow.close()

    await closed
  })
})
