/** What a handler answers to invalid requests. */
import { createProjection } from "../../src/Projection/Projection.ts"
import { createHmac, randomBytes } from "node:crypto"
import { connect } from "node:net"
import { Readable } from "node:stream"
import { createFunction, serve, type ServeConfig, type ServeHandler, ValidationError } from "@ironflow/node"
import { afterEach, describe, expect, it, vi } from "vitest"
import { listen, SIGNING_KEY } from "./Hosts.ts"

const greet = createFunction({ id: "greet", triggers: [] }, async ({ event, step }) =>
  step.run("name", async () => `hello ${event.data.name}`)
)

const handlerWith = (config: Partial<ServeConfig> = {}): ServeHandler =>
  serve({ functions: [greet], signingKey: SIGNING_KEY, logger: false, ...config })

const sign = (body: string | Uint8Array, key = SIGNING_KEY): string =>
  `sha256=${createHmac("sha256", key).update(body).digest("hex")}`

const send = async (
  handler: ServeHandler,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = { "x-ironflow-signature": sign(body) }
): Promise<{ readonly status: number; readonly body: any }> => {
  const response: Response = await handler(
    new Request("http://app/api/ironflow", { method: "POST", body, headers })
  )
  return { status: response.status, body: await response.json() }
}

const segment = (more: object = {}): string =>
  JSON.stringify({
    run_id: "run_1",
    function_id: "greet",
    attempt: 1,
    event: {
      id: "evt_1",
      name: "guest.arrived",
      data: { name: "ada" },
      timestamp: "2026-01-01T00:00:00.000Z"
    },
    ...more
  })

const turn = (jobId: string, sentAt = Date.now()): string =>
  JSON.stringify({
    type: "turn",
    sent_at: sentAt,
    job: {
      jobId,
      runId: "run_1",
      functionId: "greet",
      environment: "default",
      attempt: 1,
      generation: 0,
      event: { id: "evt_1", name: "guest.arrived", version: 1, data: '{"name":"ada"}', timestamp: 0 },
      journal: [],
      open: [],
      lingerMs: 50,
      createdAt: 0
    }
  })

afterEach(() => void vi.unstubAllEnvs())

/** A generator of numbers below 1 that depends on its seed only. */
const randomFrom = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A request whose body arrives in these chunks, with the signature of another body. */
const arriving = (kind: string, chunks: AsyncIterable<Uint8Array>): Request => {
  const headers = { "x-ironflow-signature": sign("another body") }
  const request =
    kind === "Node.js"
      ? Object.assign(Readable.from(chunks), { method: "POST", url: "/", headers })
      : new Request("http://app/", {
          method: "POST",
          body: ReadableStream.from(chunks),
          duplex: "half",
          headers
        } as RequestInit)
  // handlers accept both kinds of requests
  return request as Request
}

describe("the signature", () => {
  it("is required, and must be made with this key for the body", async () => {
    const handler = handlerWith()
    const body = segment()

    expect(await send(handler, body)).toMatchObject({
      status: 200,
      body: { status: "completed", result: "hello ada" }
    })
    expect(await send(handler, body, {})).toMatchObject({
      status: 401,
      body: { error: { code: "SIGNATURE_MISSING" } }
    })
    for (const signature of [
      sign(body, "another key"),
      sign(body).slice(7),
      sign(body).replace("sha256=", "SHA256="),
      sign(body).replace("sha256=", "sha1="),
      `${sign(body)}00`,
      sign(body).slice(0, -2),
      "sha256=",
      "",
      "sha256=zz"
    ]) {
      expect(await send(handler, body, { "x-ironflow-signature": signature })).toMatchObject({
        status: 401,
        body: { error: { code: "SIGNATURE_INVALID" } }
      })
    }
  })

  it("may be in upper case, and may be that of a body that is not UTF-8", async () => {
    const handler = handlerWith()
    const body = segment()
    const bytes = new Uint8Array([0xff, 0xfe, 0x00, 0x80])

    expect(
      await send(handler, body, {
        "x-ironflow-signature": sign(body).toUpperCase().replace("SHA256", "sha256")
      })
    ).toMatchObject({ status: 200 })
    expect(await send(handler, bytes)).toMatchObject({
      status: 400,
      body: { error: { code: "INVALID_JSON" } }
    })
  })

  it("is valid for its own body only, for 3000 random bodies with forged, bit-flipped and swapped signatures", async () => {
    const seed = randomBytes(4).readInt32LE()
    console.log(`seed ${seed}`)
    const random = randomFrom(seed)
    const handler = handlerWith()
    let accepted = 0
    for (let i = 0; i < 3000; i++) {
      const bytes = Uint8Array.from({ length: 1 + Math.floor(random() * 200) }, () =>
        Math.floor(random() * 256)
      )
      const signature = sign(bytes)
      const flipped = Uint8Array.from(bytes)
      const at = Math.floor(random() * bytes.length)
      flipped[at] = (flipped[at] ?? 0) ^ (1 << Math.floor(random() * 8))
      const digit = 7 + Math.floor(random() * 64)
      const wrong =
        signature.slice(0, digit) +
        ((parseInt(signature[digit] ?? "0", 16) + 1 + Math.floor(random() * 15)) % 16).toString(16) +
        signature.slice(digit + 1)
      const cases: ReadonlyArray<readonly [Uint8Array<ArrayBuffer>, string]> = [
        [flipped, signature],
        [bytes, wrong],
        [bytes, sign(bytes, `${SIGNING_KEY}${i}`)],
        [bytes.slice(0, -1), signature],
        [Uint8Array.from([...bytes, 0]), signature],
        [bytes, `sha256=${Array.from({ length: 64 }, () => Math.floor(random() * 16).toString(16)).join("")}`]
      ]
      const [body, header] = cases[i % cases.length] ?? [bytes, ""]
      const refused = await send(handler, body, { "x-ironflow-signature": header })
      expect(refused.status, `seed ${seed}, body ${i}`).toBe(401)
      // the right signature is accepted: then only the body is invalid
      if ((await send(handler, bytes)).status === 400) accepted++
    }
    expect(accepted).toBe(3000)
  })

  it("may be made with either of two keys while one replaces the other", async () => {
    vi.stubEnv("IRONFLOW_SIGNING_KEY", "new")
    vi.stubEnv("IRONFLOW_SIGNING_KEY_PREVIOUS", "old")
    const body = segment()
    for (const handler of [
      handlerWith({ signingKey: ["old", "new"] }),
      handlerWith({ signingKey: undefined })
    ]) {
      for (const [key, status] of [
        ["old", 200],
        ["new", 200],
        ["older", 401]
      ] as const) {
        expect(await send(handler, body, { "x-ironflow-signature": sign(body, key) })).toMatchObject({
          status
        })
      }
    }
  })

  it("is not required without a key, which logs a warning, or with skipVerification", async () => {
    const warnings: Array<string> = []
    const logger = {
      debug: () => {},
      info: () => {},
      warn: (line: string) => void warnings.push(line),
      error: () => {}
    }
    const open = serve({ functions: [greet], logger })
    expect(warnings).toEqual([expect.stringContaining("No signing key")])
    serve({ functions: [greet], logger, skipVerification: true })
    expect(warnings).toHaveLength(1)

    expect(await send(open, segment(), {})).toMatchObject({ status: 200 })
    expect(
      await send(handlerWith({ skipVerification: true }), segment(), { "x-ironflow-signature": "no" })
    ).toMatchObject({
      status: 200
    })
  })

  it("is too old after five minutes, when the body contains its time", async () => {
    const handler = handlerWith()

    for (const sentAt of [Date.now() - 301_000, Date.now() + 301_000]) {
      expect(await send(handler, turn("job_1", sentAt))).toMatchObject({
        status: 401,
        body: { error: { code: "SIGNATURE_EXPIRED" } }
      })
    }
    expect(await send(handler, turn("job_1", Date.now() - 200_000))).toMatchObject({ status: 200 })
  })

  it("is valid for a turn once", async () => {
    const handler = handlerWith()
    const body = turn("job_2")

    expect(await send(handler, body)).toMatchObject({ status: 200, body: { type: "turn" } })
    for (let i = 0; i < 10; i++) {
      expect(await send(handler, body)).toMatchObject({
        status: 401,
        body: { error: { code: "SIGNATURE_REPLAYED" } }
      })
    }
  })
})

describe("the body", () => {
  it.each([
    ["nothing", "", 400, "INVALID_JSON"],
    ["invalid JSON", "{oops", 400, "INVALID_JSON"],
    ["10,000 levels", `{"event":${"[".repeat(10_000)}${"]".repeat(10_000)}}`, 400, "LIMIT_EXCEEDED"],
    ["a list", "[]", 400, "VALIDATION_ERROR"],
    ["null", "null", 400, "VALIDATION_ERROR"],
    ["no fields", "{}", 400, "VALIDATION_ERROR"],
    [
      "a version 0",
      segment({ event: { id: "e", name: "n", data: 1, timestamp: "2026-01-01T00:00:00Z", version: 0 } }),
      400,
      "VALIDATION_ERROR"
    ],
    [
      "no event data",
      segment({ event: { id: "e", name: "n", timestamp: "2026-01-01T00:00:00Z" } }),
      400,
      "VALIDATION_ERROR"
    ],
    [
      "an invalid time",
      segment({ event: { id: "e", name: "n", data: 1, timestamp: "soon" } }),
      400,
      "VALIDATION_ERROR"
    ],
    [
      "a step with an unknown status",
      segment({ steps: [{ id: "a", name: "a", status: "done" }] }),
      400,
      "VALIDATION_ERROR"
    ],
    [
      "an error that is not a string",
      segment({ steps: [{ id: "a", name: "a", status: "failed", error: {} }] }),
      400,
      "VALIDATION_ERROR"
    ],
    ["null as `resume`", segment({ resume: null }), 400, "VALIDATION_ERROR"],
    ["secrets that are not strings", segment({ secrets: { a: 1 } }), 400, "VALIDATION_ERROR"],
    ["an unknown function", segment({ function_id: "leave" }), 404, "FUNCTION_NOT_FOUND"],
    ["a turn without a job", '{"type":"turn","sent_at":1}', 401, "SIGNATURE_EXPIRED"],
    [
      "a turn with an incomplete job",
      JSON.stringify({ type: "turn", sent_at: Date.now(), job: { jobId: "j" } }),
      400,
      "VALIDATION_ERROR"
    ]
  ])("with %s", async (_what, body, status, code) => {
    const answer = await send(handlerWith(), body)

    expect(answer).toMatchObject({ status, body: { error: { code } } })
    expect(JSON.stringify(answer.body)).not.toMatch(/\bat .*\.ts|node_modules/)
  })

  it("names every field that is wrong", async () => {
    const { body } = await send(handlerWith(), '{"run_id":1,"event":{}}')

    for (const field of [
      "run_id",
      "function_id",
      "attempt",
      "event.id",
      "event.name",
      "event.timestamp",
      "event.data"
    ]) {
      expect(body.error.message).toContain(`${field}:`)
    }
  })

  it("is not read past the limit", async () => {
    const handler = handlerWith({ maxBodyBytes: 1000 })

    expect(await send(handler, "x".repeat(1001))).toMatchObject({
      status: 413,
      body: { error: { code: "BODY_TOO_LARGE" } }
    })
    let pulled = 0
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        pulled++
        controller.enqueue(new Uint8Array(400))
      }
    })
    const response: Response = await handler(
      new Request("http://app/", {
        method: "POST",
        body: endless,
        duplex: "half",
        headers: { "x-ironflow-signature": sign("x") }
      } as RequestInit)
    )
    expect(response.status).toBe(413)
    expect(pulled).toBeLessThan(10)
  })

  it.each(["Fetch", "Node.js"])("waits in memory with others as long as there is room (%s)", async (kind) => {
    const handler = handlerWith()
    const megabyte = new Uint8Array(1024 * 1024)
    const begin = (megabytes: number) => {
      let end = (): void => undefined
      let arrive = (): void => undefined
      const arrived = new Promise<void>((resolve) => (arrive = resolve))
      const ended = new Promise<void>((resolve) => (end = resolve))
      const chunks = async function* () {
        for (let at = 0; at < megabytes; at++) yield megabyte
        arrive()
        await ended
      }
      const answer: Promise<Response> = Promise.resolve(handler(arriving(kind, chunks())))
      return { answer, arrived, end: () => end() }
    }
    const others = Array.from({ length: 4 }, () => begin(15))
    for (const { arrived } of others) await arrived

    const refused = await begin(15).answer
    expect(refused.status).toBe(503)
    expect(await refused.json()).toMatchObject({ error: { code: "SERVER_BUSY" } })
    expect((await send(handler, "{}")).status).toBe(400)

    for (const other of others) other.end()
    for (const { answer } of others) expect((await answer).status).toBe(401)
    const again = begin(15)
    again.end()
    expect((await again.answer).status).toBe(401)
  })

  it.each(["Fetch", "Node.js"])("has half a minute to arrive (%s)", async (kind) => {
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
    using _ = { [Symbol.dispose]: () => vi.useRealTimers() }
    const handler = handlerWith()
    let arrive = (): void => undefined
    const arrived = new Promise<void>((resolve) => (arrive = resolve))
    let isLeft = false
    const chunks = async function* () {
      yield new Uint8Array(1024 * 1024)
      arrive()
      await new Promise(() => undefined)
    }
    const answer = Promise.resolve(handler(arriving(kind, chunks()))).finally(() => (isLeft = true))
    await arrived
    await vi.advanceTimersByTimeAsync(29_000)
    expect(isLeft).toBe(false)
    await vi.advanceTimersByTimeAsync(1000)

    const response = await answer
    expect(response.status).toBe(408)
    expect(await response.json()).toMatchObject({ error: { code: "BODY_TIMEOUT" } })
  })

  it("that is truncated runs nothing", async () => {
    let ran = false
    const watch = createFunction({ id: "greet", triggers: [] }, async () => void (ran = true))
    const finished: Array<Promise<unknown>> = []
    const handler = handlerWith({ functions: [watch], skipVerification: true })
    await using server = Object.assign(
      await listen((request, response) => void finished.push(handler(request, response))),
      { [Symbol.asyncDispose]: () => server.close() }
    )
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1")
    await new Promise((resolve) => socket.once("connect", resolve))

    socket.write(`POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 5000\r\n\r\n${segment()}`)
    await vi.waitFor(() => expect(finished).toHaveLength(1))
    socket.destroy()

    await Promise.allSettled(finished)
    expect(ran).toBe(false)
  })
})

describe("a handler that throws", () => {
  it.each([
    ["text", "boom", "boom"],
    ["nothing", undefined, "undefined"],
    ["an object", { code: 7 }, "code"],
    [
      "an error whose message throws",
      Object.defineProperty(new Error(), "message", {
        get: () => {
          throw new Error()
        }
      }),
      ""
    ]
  ])("%s fails the segment, and the response has its message", async (_what, thrown, message) => {
    const throws = createFunction({ id: "greet", triggers: [], retry: { maxAttempts: 1 } }, async () => {
      throw thrown
    })

    const answer = await send(handlerWith({ functions: [throws] }), segment())

    expect(answer).toMatchObject({
      status: 200,
      body: { status: "failed", steps: [], error: { message: expect.stringContaining(message) } }
    })
  })

  it("in an upcaster fails the run, not the handler", async () => {
    const eventDefinitions = {
      upcastEvent: () => {
        throw new Error("no way up")
      }
    }
    const handler = handlerWith({
      eventDefinitions: eventDefinitions as unknown as NonNullable<ServeConfig["eventDefinitions"]>
    })

    expect(await send(handler, segment())).toMatchObject({
      status: 200,
      body: { status: "failed", error: { message: "no way up" } }
    })
  })
})

describe("a segment of a legacy server", () => {
  const all = createFunction({ id: "greet", triggers: [] }, async ({ step }) => {
    const a = await step.run("a", async () => 1)
    await step.sleep("nap", "1h")
    const event = await step.waitForEvent("answer", { event: "answered", match: "data.id", timeout: "90m" })
    const child = await step.invoke("ship", { a }, { timeout: "5s" })
    const { runId } = await step.invokeAsync("ship", 2)
    return { a, event: event.name, child, runId }
  })
  const steps: Array<object> = []
  const next = async (more: object = {}) => {
    const { body } = await send(handlerWith({ functions: [all] }), segment({ steps, ...more }))
    for (const { id, name, output } of body.steps) steps.push({ id, name, status: "completed", output })
    return body
  }
  const completed = (id: string, output: unknown) => steps.push({ id, name: id, status: "completed", output })

  it("ends with one yield, and continues where the server says", async () => {
    steps.length = 0
    const slept = await next()
    expect(slept).toMatchObject({
      status: "yielded",
      steps: [{ id: "run_1:a:0", name: "a", type: "invoke", status: "completed", output: 1 }],
      yield: { type: "sleep", step_id: "run_1:nap:0", until: expect.any(String) }
    })

    const waits = await next({ resume: { step_id: "run_1:nap:0", type: "sleep" } })
    completed("run_1:nap:0", null)
    expect(waits).toMatchObject({
      status: "yielded",
      steps: [],
      yield: {
        type: "wait_for_event",
        step_id: "run_1:answer:0",
        event_filter: { event: "answered", match: "data.id", timeout: expect.any(String) }
      }
    })

    const answered = { id: "evt_2", name: "answered", data: { id: 1 }, timestamp: "2026-01-01T00:00:00Z" }
    const invokes = await next({
      resume: { step_id: "run_1:answer:0", type: "wait_for_event", data: answered }
    })
    completed("run_1:answer:0", answered)
    expect(invokes.yield).toEqual({
      type: "invoke_function",
      step_id: "run_1:ship:0",
      function_id: "ship",
      input: { a: 1 },
      invoke_timeout_ms: 5000
    })

    completed("run_1:ship:0", "shipped")
    const async = await next()
    expect(async.yield).toEqual({
      type: "invoke_function_async",
      step_id: "run_1:ship:1",
      function_id: "ship",
      input: 2
    })

    completed("run_1:ship:1", { run_id: "run_7" })
    expect(await next()).toEqual({
      status: "completed",
      steps: [],
      result: { a: 1, event: "answered", child: "shipped", runId: "run_7" }
    })
  })

  it("rejects a failed invoke with the server's message", async () => {
    const invoke = createFunction({ id: "greet", triggers: [] }, async ({ step }) =>
      step.invoke("ship").catch((error: Error) => ({ name: error.name, message: error.message }))
    )
    const error = JSON.stringify({ function_id: "ship", child_run_id: "run_2", cause: "No van" })
    const { body } = await send(
      handlerWith({ functions: [invoke] }),
      segment({ steps: [{ id: "run_1:ship:0", name: "ship", status: "failed", error }] })
    )

    expect(body).toMatchObject({
      status: "completed",
      result: { name: "InvokeError", message: expect.stringContaining("No van") }
    })
  })

  it("does not publish without a server, and says what is missing", async () => {
    const publish = createFunction(
      { id: "greet", triggers: [], retry: { maxAttempts: 1 } },
      async ({ step }) => {
        await step.publish("orders", {})
      }
    )

    const { body } = await send(handlerWith({ functions: [publish] }), segment())

    expect(body).toMatchObject({ status: "failed", error: { message: expect.stringContaining("serverUrl") } })
  })

  it("publishes again after a failure of the server, and reports each step once", async () => {
    const publish = createFunction({ id: "greet", triggers: [] }, async ({ step }) => {
      await step.run("first", async () => 1)
      return step.publish("orders", { orderId: "o-1" })
    })
    const keys: Array<unknown> = []
    const server = await listen(async (request, response) => {
      const chunks: Array<Buffer> = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      keys.push(JSON.parse(Buffer.concat(chunks).toString()).idempotencyKey)
      if (keys.length < 3) response.writeHead(503).end()
      else response.end('{"eventId":"msg_1","sequence":"7"}')
    })
    try {
      const { body } = await send(handlerWith({ functions: [publish], serverUrl: server.url }), segment())

      expect(body).toMatchObject({ status: "completed", result: { eventId: "msg_1", sequence: 7 } })
      expect(body.steps.map(({ name }: { readonly name: string }) => name)).toEqual([
        "first",
        "publish:orders"
      ])
      expect(keys).toEqual(Array.from({ length: 3 }, () => "run_1:publish:orders:0"))
    } finally {
      await server.close()
    }
  })

  it("begins no further step after its budget, and asks for another segment", async () => {
    const log: Array<string> = []
    const names = ["part", "continue", "end"]
    const long = createFunction({ id: "greet", triggers: [] }, async ({ step }) => {
      for (const name of names) {
        await step.run(name, async () => {
          log.push(name)
          // wait until the budget is used up
          const begun = performance.now()
          await vi.waitFor(() => expect(performance.now() - begun).toBeGreaterThan(40))
        })
      }
      return "done"
    })
    const warnings: Array<string> = []
    const silent = () => undefined
    const logger = {
      debug: silent,
      info: silent,
      error: silent,
      warn: (message: string) => void warnings.push(message)
    }
    const handler = handlerWith({ functions: [long], turnBudget: "30ms", logger })
    const known: Array<object> = []
    for (let i = 0; i < 2; i++) {
      const { body } = await send(handler, segment({ steps: known }))
      expect(body).toMatchObject({
        status: "yielded",
        steps: [{ name: names[i], status: "completed" }],
        yield: { type: "sleep", step_id: expect.stringMatching(/^run_1:continue:/) }
      })
      known.push({ id: body.steps[0].id, name: body.steps[0].name, status: "completed" })
      known.push({ id: body.yield.step_id, name: "continue", status: "completed", output: null })
    }

    expect((await send(handler, segment({ steps: known }))).body).toMatchObject({
      status: "completed",
      result: "done"
    })
    expect(log).toEqual(names)
    expect(warnings).toEqual([])
  })
})

describe("configuration", () => {
  it.each<readonly [string, () => unknown, RegExp]>([
    ["no functions", () => serve({} as ServeConfig), /`functions` must be an array/],
    [
      "the same id twice",
      () => handlerWith({ functions: [greet, greet] }),
      /two functions have the id "greet"/
    ],
    ["an invalid function", () => handlerWith({ functions: [{} as typeof greet] }), /functions\[0\]/],
    ["an empty list of keys", () => handlerWith({ signingKey: [] }), /signingKey/],
    ["an empty key", () => handlerWith({ signingKey: [""] }), /signingKey/],
    ["an invalid URL", () => handlerWith({ serverUrl: "ftp://x" }), /serverUrl/],
    ["an invalid age", () => handlerWith({ maxRequestAge: "soon" }), /maxRequestAge|duration/i],
    ["an invalid size", () => handlerWith({ maxBodyBytes: -1 }), /maxBodyBytes/],
    ["an invalid webhook", () => handlerWith({ webhooks: [{} as never] }), /webhooks\[0\]/]
  ])("with %s is refused", (_what, make, message) => {
    expect(make).toThrow(ValidationError)
    expect(make).toThrow(message)
  })

  it("with projections is refused", () => {
    const warnings: Array<string> = []
    const logger = {
      debug: () => {},
      info: () => {},
      warn: (line: string) => void warnings.push(line),
      error: () => {}
    }

    const totals = createProjection({ name: "totals", events: ["order.placed"], handler: () => undefined })
    handlerWith({ projections: [totals, { name: "spending" }], logger })

    expect(warnings).toEqual([expect.stringMatching(/\(totals, spending\).*createWorker/)])
  })

  it("answers in its environment", async () => {
    const response: Response = await handlerWith({ environment: "staging" })(
      new Request("http://app/", { method: "POST", body: "{}" })
    )

    expect(response.headers.get("x-ironflow-environment")).toBe("staging")
  })
})

describe("a turn that no engine sends", () => {
  const job = JSON.parse(turn("job_1")).job
  const entry = {
    stepKey: "name:0",
    name: "name",
    kind: "run",
    attempt: 1,
    outcome: { _tag: "Success", value: '"hello ada"' }
  }
  const open = { stepKey: "name:0", name: "name", kind: "run", failures: 0, pending: false }
  const error = { name: "Error", message: "it broke" }

  it.each([
    ["an invalid entry", { journal: [null] }, "job.journal.0"],
    ["an entry without an outcome", { journal: [{ ...entry, outcome: undefined }] }, "job.journal.0.outcome"],
    ["an outcome without a kind", { journal: [{ ...entry, outcome: {} }] }, "job.journal.0.outcome._tag"],
    [
      "a value that is not a string",
      { journal: [{ ...entry, outcome: { _tag: "Success", value: { toString: 1 } } }] },
      "job.journal.0.outcome.value"
    ],
    [
      "a failure without an error",
      { journal: [{ ...entry, outcome: { _tag: "Failure" } }] },
      "job.journal.0.outcome.error"
    ],
    ["a step without a key", { journal: [{ ...entry, stepKey: { toString: 1 } }] }, "job.journal.0.stepKey"],
    ["an invalid open step", { open: [7] }, "job.open.0"],
    [
      "an open step whose failures are not a number",
      { open: [{ ...open, failures: "often" }] },
      "job.open.0.failures"
    ],
    ["an event without a time", { event: { ...job.event, timestamp: {} } }, "job.event.timestamp"],
    ["no generation", { generation: null }, "job.generation"],
    ["compensations without their list", { compensating: {} }, "job.compensating.compensations"],
    [
      "compensations that are not strings",
      { compensating: { error, compensations: [{ toString: 1 }] } },
      "job.compensating.compensations"
    ],
    ["invalid secrets", { secrets: { A: 1 } }, "job.secrets"]
  ])("is refused with a message: %s", async (_what, part, problem) => {
    const body = JSON.stringify({ type: "turn", sent_at: Date.now(), job: { ...job, ...part } })

    expect(
      await send(handlerWith({ signingKey: undefined, skipVerification: true }), body, {})
    ).toMatchObject({
      status: 400,
      body: { error: { code: "VALIDATION_ERROR", message: expect.stringContaining(problem) } }
    })
  })

  it("runs without fields that an engine may omit", async () => {
    const full = {
      ...job,
      journal: [entry],
      open: [open],
      compensating: undefined,
      secrets: { A: "b" },
      something: "new"
    }
    const body = JSON.stringify({ type: "turn", sent_at: Date.now(), job: { ...full, open: [] } })

    expect(await send(handlerWith(), body)).toMatchObject({
      status: 200,
      body: { type: "turn", ops: [{ _tag: "Complete", output: '"hello ada"' }] }
    })
  })
})
