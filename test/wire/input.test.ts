/** Bad input gets a clear error, in bounded time and memory. */
import { connect as connectSocket, type Socket } from "node:net"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { type Ironflow, start } from "./Ironflow.ts"
import { rpc, send } from "./RawClient.ts"

let ironflow: Ironflow
beforeAll(async () => {
  ironflow = await start({ maxBodyBytes: 10_000, bodyTimeoutMs: 200 })
})
afterAll(() => ironflow.close())

const trigger = "/ironflow.v1.IronflowService/Trigger"

/** Sends text, and returns everything that comes back until the connection is closed. */
const exchange = (text: string, andThen: (socket: Socket) => void = () => undefined): Promise<string> =>
  new Promise((resolve, reject) => {
    const socket = connectSocket(ironflow.port, "127.0.0.1", () => {
      socket.write(text)
      andThen(socket)
    })
    let answer = ""
    socket.on("data", (chunk) => (answer += chunk.toString()))
    socket.on("close", () => resolve(answer))
    socket.on("error", reject)
  })

describe("a body", () => {
  it.each([
    ["{", /not valid JSON/],
    ["", /event/],
    ["[]", /^Trigger: /],
    ["5", /^Trigger: /],
    ["null", /^Trigger: /],
    ['{"event":5}', /event: Expected string/],
    ['{"event":["a"]}', /event: Expected string/],
    ['{"event":"a b"}', /must not contain white space/],
    ['{"event":""}', /must not be empty/],
    ['{"event":"a.*"}', /wildcards/],
    ['{"event":"a","version":"x"}', /version/],
    ['{"event":"a","version":1.5}', /version/],
    ['{"event":"a","version":-1}', /must be an integer, at least 1/],
    ['{"event":"a","metadata":[]}', /metadata/],
    ['{"event":"a","idempotencyKey":{}}', /idempotencyKey/],
    [`{"event":"${"a".repeat(300)}"}`, /is too large: 300 characters, and the limit is 256/],
    [`{"event":"a","data":${"[".repeat(200)}${"]".repeat(200)}}`, /levels/]
  ])("%s is refused by Trigger", async (body, message) => {
    const answer = await send(ironflow.url, "POST", trigger, body)

    assert.strictEqual(answer.status, 400)
    assert.strictEqual(answer.body.code, "invalid_argument")
    assert.match(answer.body.message, message)
  })

  it("that is not UTF-8 is refused", async () => {
    const response = await fetch(ironflow.url + trigger, {
      method: "POST",
      body: new Uint8Array([0x22, 0xff, 0x22])
    })

    assert.strictEqual(response.status, 400)
    assert.match(((await response.json()) as { message: string }).message, /not valid UTF-8/)
  })

  it("with members such as __proto__ is plain data", async () => {
    const { status } = await send(
      ironflow.url,
      "POST",
      trigger,
      '{"event":"order.seen","data":{"__proto__":{"polluted":true},"constructor":1},"__proto__":{"event":5}}'
    )

    assert.strictEqual(status, 200)
    assert.notProperty({}, "polluted")
  })

  it("that declares too large a size is refused before it is read", async () => {
    const answer = await exchange(
      `POST ${trigger} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n`
    )

    assert.match(answer, /^HTTP\/1\.1 413 /)
    assert.include(answer, "The body is too large: 99999999999 bytes, and the limit is 10000 bytes")
  })

  it("of unknown size is refused when it exceeds the limit", async () => {
    const chunk = `2710\r\n${"x".repeat(10_000)}\r\n`
    const answer = await exchange(
      `POST ${trigger} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}${chunk}`
    )

    assert.match(answer, /^HTTP\/1\.1 413 /)
    assert.include(answer, '"code":"resource_exhausted"')
  })

  it("of exactly the limit is accepted", async () => {
    const { status } = await rpc(ironflow.url, "Trigger", { event: "order.seen", data: "x".repeat(9900) })

    assert.strictEqual(status, 200)
  })

  it("that does not arrive in time is refused", async () => {
    const answer = await exchange(
      `POST ${trigger} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"event"`
    )

    assert.match(answer, /^HTTP\/1\.1 408 /)
    assert.include(answer, "The body did not arrive within 200ms")
  })

  it("that is compressed is refused", async () => {
    const { status, body } = await send(ironflow.url, "POST", trigger, "{}", { "content-encoding": "gzip" })

    assert.strictEqual(status, 415)
    assert.match(body.message, /content encoding "gzip"/)
  })

  it("of a worker may be larger than that of a client", async () => {
    const body = JSON.stringify({ status: "progress", steps: [], filler: "x".repeat(20_000) })

    const update = await send(ironflow.url, "PUT", "/api/v1/workers/w/jobs/job_1~run_1", body)
    const patch = await send(ironflow.url, "POST", "/api/v1/steps/patch", body)

    assert.strictEqual(update.status, 409)
    assert.strictEqual(patch.status, 413)
  })
})

describe("a request", () => {
  it.each([
    ["POST", "/nothing", "ROUTE_NOT_FOUND"],
    ["GET", "/api/v1/runs/resume", "ROUTE_NOT_FOUND"],
    ["GET", "/", "ROUTE_NOT_FOUND"],
    ["DELETE", "/health", "ROUTE_NOT_FOUND"],
    ["GET", trigger, "unimplemented"],
    ["POST", "/ironflow.v1.IronflowService/Nothing", "unimplemented"],
    ["POST", "/ironflow.v1.ProjectionService/StreamProjectionEvents", "unimplemented"]
  ])("%s %s finds nothing", async (method, path, code) => {
    const { status, body } = await send(ironflow.url, method, path, method === "POST" ? {} : undefined)

    assert.strictEqual(status, 404)
    assert.strictEqual(body.code, code)
    assert.strictEqual(body.message, `There is nothing at ${method} ${path}`)
  })

  it.each([
    ["/api/v1/runs/nope/explain", 404, "RUN_NOT_FOUND"],
    ["/api/v1/runs/nope/wait", 404, "RUN_NOT_FOUND"],
    ["/api/v1/runs/nope/steps", 404, "RUN_NOT_FOUND"],
    ["/api/v1/runs/x/wait?timeout=soon", 400, "VALIDATION_ERROR"],
    ["/api/v1/runs/x/wait?timeout=-1", 400, "VALIDATION_ERROR"],
    ["/api/v1/runs/%zz/explain", 400, "VALIDATION_ERROR"]
  ])("GET %s is answered with %d", async (path, status, code) => {
    const answer = await send(ironflow.url, "GET", path)

    assert.strictEqual(answer.status, status)
    assert.strictEqual(answer.body.code, code)
    assert.strictEqual(answer.body.error, answer.body.message)
    assert.strictEqual(answer.body.details.error.code, code)
  })

  it.each([
    ["GetRun", {}, 400, /`id` must be the id of a run/],
    ["GetRun", { id: "nope" }, 404, /^Run not found: nope$/],
    ["ListRuns", { status: "lost" }, 400, /"lost" is not a run status/],
    ["ListRuns", { limit: 100_000 }, 400, /limit/],
    ["ListRuns", { cursor: "?" }, 400, /Cursor "\?"/],
    ["ListEvents", { limit: 0 }, 400, /limit of listEvents must be an integer from 1 to 1000/],
    ["ListEvents", { cursor: "?" }, 400, /Cursor "\?" is not one that listEvents returned/],
    ["ListEvents", { since: "soon" }, 400, /`since` must be a `Date` or a text with a time/],
    ["ListEvents", { nmae: "order.placed" }, 400, /listEvents has no filter "nmae": use name/],
    ["GetEvent", { id: "evt_1" }, 404, /There is no event evt_1/],
    ["PatchStep", { stepId: "x", output: {} }, 400, /"x" is not a step id/],
    ["PatchStep", { step_id: "run_1:a:0", output: {} }, 404, /^Run not found: run_1$/],
    ["TriggerBatch", { events: Array.from({ length: 1001 }, () => ({})) }, 400, /./],
    ["TriggerBatch", { events: [{ event: "a" }, { event: "b c" }] }, 400, /white space/],
    ["Publish", { topic: "" }, 404, /There is nothing/]
  ])("%s with %j is refused", async (method, request, status, message) => {
    const answer = await rpc(ironflow.url, method, request)

    assert.strictEqual(answer.status, status)
    assert.match(answer.body.message, message)
  })

  it("that is not HTTP is answered and closed", async () => {
    const answer = await exchange("this is not http\r\n\r\n")

    assert.match(answer, /^HTTP\/1\.1 400 /)
    assert.include(answer, "This is not a valid HTTP request")
  })

  it("with headers that are too large is answered and closed", async () => {
    const answer = await exchange(
      `GET /health HTTP/1.1\r\nHost: localhost\r\nX: ${"x".repeat(20_000)}\r\n\r\n`
    )

    assert.match(answer, /^HTTP\/1\.1 431 /)
    assert.include(answer, "The headers are too large")
  })

  it("for an invalid environment is refused", async () => {
    const { status, body } = await send(
      ironflow.url,
      "POST",
      trigger,
      { event: "a" },
      { "x-ironflow-environment": " ".repeat(3) + "x".repeat(300) }
    )

    assert.strictEqual(status, 400)
    assert.match(body.message, /environment/)
  })

  it.each([
    ["Host: evil.example\r\nSec-Fetch-Site: same-origin", 403],
    ["Host: evil.example\r\nUser-Agent: Mozilla/5.0", 403],
    ["Host: localhost:9123", 200],
    ["Host: [::1]:9123", 200],
    ["Host: 127.0.0.1\r\nOrigin: https://evil.example", 403],
    ["Host: 127.0.0.1\r\nOrigin: null", 403],
    ["Host: 127.0.0.1\r\nOrigin: http://localhost:3000", 200]
  ])("of a browser with %j is answered with %d", async (headers, status) => {
    const answer = await exchange(`GET /health HTTP/1.1\r\n${headers}\r\nConnection: close\r\n\r\n`)

    assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `))
  })
})

describe("another version of the protocol", () => {
  it("is accepted, and its unknown fields and headers are ignored", async () => {
    const { status } = await send(
      ironflow.url,
      "POST",
      trigger,
      { event: "order.seen", data: {}, priority: 5, routing: { shard: 1 } },
      { "content-type": "application/json", "connect-protocol-version": "7", "x-ironflow-run-id": "run_1" }
    )

    assert.strictEqual(status, 200)
  })

  it("of a worker's turns is answered with the version that the engine knows", async () => {
    const { body } = await send(ironflow.url, "POST", "/api/v1/workers/worker-9/register", {
      capabilities: { turns: 2 },
      instance: "i",
      registration: {
        workerId: "worker-9",
        environment: "default",
        hostname: "h",
        functions: [],
        maxConcurrentJobs: 1,
        labels: {},
        version: { sdk: "9", runtime: "node" }
      }
    })

    assert.deepStrictEqual(body.capabilities, { turns: 1, renewals: true })
  })
})

describe("a request for a WebSocket", () => {
  const upgrade = (path: string, headers = ""): Promise<string> =>
    exchange(
      `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${headers}` +
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

  it("to a wrong path is answered, and the connection closed", async () => {
    const answer = await upgrade("/nowhere")

    assert.match(answer, /^HTTP\/1\.1 404 Not Found\r\n/)
    assert.match(answer, /"code":"ROUTE_NOT_FOUND"/)
  })

  it("from a page of another site is refused", async () => {
    assert.match(await upgrade("/nowhere", "Origin: http://evil.example\r\n"), /^HTTP\/1\.1 403 /)
  })
})
