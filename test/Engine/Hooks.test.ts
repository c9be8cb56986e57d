/**
 * Reports of runs and functions in trouble: to hooks, by signed requests, and to functions whose trigger is a system event.
 */
import type http from "node:http"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import path from "node:path"
import { DatabaseSync } from "node:sqlite"
import {
  createFunction,
  type HookCall,
  type HookOptions,
  type Logger,
  NonRetryableError,
  type RunnableFunction,
  ValidationError,
  verifyHook
} from "@ironflow/node"
import { startEngine } from "@ironflow/node/engine"
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest"
import { listen } from "../Serve/Hosts.ts"

const SECRET = "secret-of-the-hooks-of-the-tests"
const triggers = [{ event: "order.placed" }]

interface Taken {
  readonly headers: http.IncomingHttpHeaders
  readonly body: Buffer
  readonly call: HookCall
}

/** Receives calls. `answer` gives the status of each, by its number from 1; without a status there is no answer. */
const receiver = async (answer: (count: number) => number | undefined = () => 204) => {
  const taken: Array<Taken> = []
  let count = 0
  const { close, url } = await listen(async (request, response) => {
    const chunks: Array<Buffer> = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    const status = answer(++count)
    const { headers } = request
    if (status !== undefined && status < 300) {
      taken.push({ headers, body, call: verifyHook({ headers, body }, SECRET) })
    }
    if (status !== undefined) response.writeHead(status, status === 302 ? { location: url } : {}).end()
  })
  return { url: `${url}/token-in-the-path`, taken, close, requests: () => count }
}

const fails = createFunction({ id: "charge", triggers }, () => {
  throw new NonRetryableError("card declined", { code: "CARD_DECLINED" })
})

let folder = ""
let lines: Array<string> = []
const logger: Logger = Object.fromEntries(
  (["debug", "info", "warn", "error"] as const).map((level) => [
    level,
    (message: string) => void lines.push(`${level} ${message}`)
  ])
) as unknown as Logger

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "hooks-"))
  lines = []
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const engineWith = (
  hooks: ReadonlyArray<HookOptions>,
  functions: ReadonlyArray<RunnableFunction> = [fails],
  more: Parameters<typeof startEngine>[0] = {}
) =>
  startEngine({
    filename: ":memory:",
    push: { allowPrivateNetworks: true },
    logger,
    functions,
    hooks,
    ...more
  })

const quick = { maxAttempts: 3, initialDelayMs: 10, maxDelayMs: 10, jitter: 0 }

const until = <A>(check: () => A | Promise<A>) => vi.waitFor(check, { timeout: 20_000, interval: 10 })

const metric = (text: string, what: string): number =>
  Number(new RegExp(`ironflow_hook_calls_total\\{what="${what}"\\} (\\d+)`).exec(text)?.[1])

describe("a hook", () => {
  it("is called for a failed run, with a signature and without the input of the run", async () => {
    const hook = await receiver()
    await using engine = await engineWith([{ url: hook.url, secret: SECRET, on: ["run.failed"] }])

    const { runIds } = await engine.client.emit("order.placed", { card: "4711" })
    await until(() => expect(hook.taken).toHaveLength(1))

    const { body, call, headers } = hook.taken[0]!
    expect(call).toEqual({
      id: expect.stringMatching(/^hook_/),
      type: "run.failed",
      at: (await engine.client.getRun(runIds[0]!)).endedAt,
      environment: "default",
      data: {
        functionId: "charge",
        runId: runIds[0],
        error: { name: "NonRetryableError", message: "card declined", code: "CARD_DECLINED" }
      }
    })
    expect(headers["content-type"]).toBe("application/json")
    expect(body.toString()).not.toContain("4711")
    expect(() => verifyHook({ headers, body }, "another secret")).toThrow("The signature does not match")
    await hook.close()
  })

  it("is called for a paused run, for its functions and environments only", async () => {
    const hook = await receiver()
    const shipping = createFunction({ id: "ship", triggers }, async ({ step }) => {
      await step.sleep("long", "1h")
    })
    await using engine = await engineWith(
      [
        { url: hook.url, secret: SECRET, on: ["run.paused"], functionId: "sh*" },
        { url: hook.url, secret: SECRET, functionId: "other*" },
        { url: hook.url, secret: SECRET, environment: "production" }
      ],
      [fails, shipping]
    )
    const { client } = engine

    const { runIds } = await client.emit("order.placed", {})
    const runs = await Promise.all(runIds.map((id) => client.getRun(id)))
    await until(async () => {
      const { runs } = await client.listRuns({ functionId: "ship", status: "waiting" })
      expect(runs).toHaveLength(1)
    })
    const { id } = runs.find(({ functionId }) => functionId === "ship")!
    await client.pauseRun(id)
    await until(() => expect(hook.taken).toHaveLength(1))
    await client.resumeRun(id)
    await client.pauseRun(id)
    await until(() => expect(hook.taken).toHaveLength(2))

    expect(hook.taken.map(({ call: { data, type } }) => ({ type, ...data }))).toMatchObject([
      { type: "run.paused", functionId: "ship", runId: id, reason: { code: expect.any(String) } },
      { type: "run.paused", functionId: "ship", runId: id }
    ])
    await hook.close()
  })

  it("is called again with the same id until it accepts the call", async () => {
    const hook = await receiver((count) => (count === 1 ? 500 : count === 2 ? 302 : 200))
    await using engine = await engineWith([
      { url: hook.url, secret: SECRET, on: ["run.failed"], retry: quick }
    ])

    await engine.client.emit("order.placed", {})
    await until(() => expect(hook.taken).toHaveLength(1))

    expect(hook.requests()).toBe(3)
    await until(() => expect(lines.filter((line) => line.includes("accepts calls again"))).toHaveLength(1))
    expect(lines.filter((line) => line.includes("did not accept the call"))).toHaveLength(1)
    await hook.close()
  })

  it("that accepts no call is given up after its attempts, with a log line and in a metric, both without secrets", async () => {
    const hook = await receiver(() => 503)
    await using engine = await engineWith(
      [{ url: hook.url, secret: SECRET, on: ["run.failed"], retry: quick }],
      [fails],
      { listen: { port: 0 } }
    )

    const { runIds } = await engine.client.emit("order.placed", {})
    await until(() => {
      const line = lines.find((line) => line.includes("was not told of"))
      expect(line).toMatch(
        new RegExp(
          `^error .*127\\.0\\.0\\.1:\\d+ was not told of run\\.failed of run ${runIds[0]} of function "charge": 3 attempts failed, the last one because it answered 503`
        )
      )
    })
    const text = await (await fetch(`${engine.url}/metrics`)).text()
    expect([metric(text, "abandoned"), metric(text, "retried"), metric(text, "delivered")]).toEqual([1, 2, 0])
    expect(lines.join("\n")).not.toMatch(/token-in-the-path|secret-of-the-hooks/)
    expect(text).not.toMatch(/token-in-the-path|secret-of-the-hooks/)
    await hook.close()
  })

  it("that never answers or always refuses delays neither runs nor another hook", async () => {
    const silent = await receiver(() => undefined)
    const good = await receiver()
    await using engine = await engineWith([
      { url: silent.url, secret: SECRET },
      { url: "http://127.0.0.1:9/refuses", secret: SECRET },
      { url: good.url, secret: SECRET, on: ["run.failed"] }
    ])
    const { client } = engine

    const runIds: Array<string> = []
    for (let i = 0; i < 100; i++) runIds.push(...(await client.emit("order.placed", {})).runIds)
    const ended = await Promise.all(runIds.map((id) => client.waitForRun(id, { timeout: 20_000 })))
    await until(() => expect(good.taken).toHaveLength(100))

    expect(new Set(ended.map(({ status }) => status))).toEqual(new Set(["failed"]))
    expect(new Set(good.taken.map(({ call }) => call.data.runId))).toEqual(new Set(runIds))
    // the engine makes at most eight calls at a time
    expect(silent.requests()).toBeLessThanOrEqual(8)
    await Promise.all([silent.close(), good.close()])
  })

  it("gets calls stored before the engine was closed, and the database has neither its URL nor its secret", async () => {
    const filename = path.join(folder, "orders.db")
    const down = await receiver(() => 503)
    const hooks = [
      { url: down.url, secret: SECRET, on: ["run.failed"], retry: { initialDelayMs: 200 } }
    ] as const
    const first = await engineWith(hooks, [fails], { filename })
    const { runIds } = await first.client.emit("order.placed", {})
    await until(() => expect(down.requests()).toBeGreaterThanOrEqual(1))
    await first.close()
    await down.close()

    const db = new DatabaseSync(filename, { readOnly: true })
    const stored = JSON.stringify(db.prepare("SELECT * FROM hook_calls").all())
    db.close()
    expect(stored).toContain(runIds[0])
    expect(stored).not.toMatch(/127\.0\.0\.1|token-in-the-path|secret-of-the-hooks/)

    const taken: Array<string> = []
    const again = await listen(
      (request, response) => {
        request.resume().on("end", () => {
          taken.push(request.url!)
          response.writeHead(204).end()
        })
      },
      Number(new URL(down.url).port)
    )
    const second = await engineWith(hooks, [fails], { filename })
    await until(() => expect(taken).toEqual(["/token-in-the-path"]))
    await second.close()
    await again.close()
  })

  it("that was removed loses its calls, with a log line", async () => {
    const filename = path.join(folder, "orders.db")
    const hook = { url: "http://127.0.0.1:9/", secret: SECRET }
    const first = await engineWith([hook], [fails], { filename })
    const { runIds } = await first.client.emit("order.placed", {})
    await first.client.waitForRun(runIds[0]!)
    await first.close()

    await using second = await engineWith([], [fails], { filename })

    expect(second).toBeDefined()
    expect(lines.join("\n")).toContain(
      "1 stored call of a hook was dropped: this engine does not have that hook"
    )
  })

  it.each([
    "http://127.0.0.1:9000/secret-path",
    "http://[::1]:9000/",
    "https://localhost/",
    "https://hooks.localhost/",
    "http://192.168.0.7/"
  ])("in a private network is refused at the start, unless that is allowed: %s", async (url) => {
    await using allowed = await engineWith([{ url, secret: SECRET }], [fails])
    expect(allowed).toBeDefined()

    const error = await engineWith([{ url, secret: SECRET }], [fails], { push: {} }).catch((e: unknown) => e)

    expect(error).toBeInstanceOf(ValidationError)
    expect(String(error)).toContain("`hooks[0]` would never be called: ")
    expect(String(error)).toContain("is not a public address. Allow endpoints and hooks in private networks")
    expect(String(error)).toContain("`ironflow serve --allow-private-endpoints`")
    expect(String(error)).not.toContain("secret-path")
  })

  it.each([
    [
      "whose host does not resolve",
      "https://hooks.invalid/",
      "cannot be called now: its name does not resolve"
    ],
    ["that is public and without TLS", "http://8.8.8.8/", "is called over plain http: "]
  ])("%s causes a warning at the start", async (_, url, warning) => {
    await using engine = await engineWith([{ url, secret: SECRET }], [fails], { push: {} })

    await until(() => expect(lines.join("\n")).toContain(warning))

    expect(engine).toBeDefined()
  })

  it.each([
    ["hooks that are not an array", "https://shop.example.com", "`hooks` must be an array"],
    ["no URL", [{ secret: SECRET }], "`url` of `hooks[0]` must be an HTTP URL"],
    [
      "a URL that is too long",
      [{ url: `https://shop.example.com/${"x".repeat(2048)}`, secret: SECRET }],
      "`url` of `hooks[0]` is too large: 2073 characters, and the limit is 2048 characters"
    ],
    [
      "credentials in its URL",
      [{ url: "https://a:b@shop.example.com", secret: SECRET }],
      "must have no user and password"
    ],
    [
      "a fragment in its URL",
      [{ url: "https://shop.example.com/#orders", secret: SECRET }],
      "must have no fragment"
    ],
    ["a short secret", [{ url: "https://shop.example.com", secret: "abc" }], "at least 16 characters"],
    [
      "an unknown event",
      [{ url: "https://shop.example.com", secret: SECRET, on: ["run.lost"] }],
      "`on` must be an array of"
    ],
    [
      "the same URL twice",
      [
        { url: "https://shop.example.com", secret: SECRET },
        { url: "https://shop.example.com", secret: SECRET }
      ],
      "`hooks[1]` has the same URL, functions and environment as `hooks[0]`: merge them"
    ],
    [
      "a misspelled option",
      [{ url: "https://shop.example.com", secret: SECRET, secrett: 1 }],
      "did you mean `secret`?"
    ]
  ])("is refused with %s", async (_, hooks, message) => {
    const started = startEngine({
      filename: ":memory:",
      hooks: hooks as unknown as ReadonlyArray<HookOptions>
    })
    await expect(started).rejects.toThrow(message)
    await expect(started).rejects.not.toThrow(SECRET)
  })
})

describe("a function that fails", () => {
  it("is reported once to hooks and to functions, when enough of its runs have failed", async () => {
    const hook = await receiver()
    const alarm = createFunction(
      { id: "alarm", triggers: [{ event: "system.function.*.failing" }] },
      ({ event }) => ({ ...event.data, name: event.name })
    )
    await using engine = await engineWith(
      [{ url: hook.url, secret: SECRET, on: ["function.failing"] }],
      [fails, alarm],
      { failing: { runs: 3, rate: 0.75, window: "10m" } }
    )
    const { client } = engine

    for (let i = 0; i < 6; i++) await client.emit("order.placed", {})
    await until(() => expect(hook.taken).toHaveLength(1))
    const told = await until(async () => {
      const { runs } = await client.listRuns({ functionId: "alarm", status: "completed" })
      expect(runs).toHaveLength(1)
      return client.getRun(runs[0]!.id)
    })

    const figures = { functionId: "charge", ended: 6, failed: 6, windowMs: 600_000 }
    expect(hook.taken[0]!.call).toMatchObject({ type: "function.failing", data: figures })
    expect(told.output).toMatchObject({ ...figures, name: "system.function.charge.failing" })
  })

  it("is not reported while most of its runs complete", async () => {
    const hook = await receiver()
    const mostly = createFunction({ id: "charge", triggers }, ({ event }) => {
      if (event.data.fails) throw new NonRetryableError("no")
    })
    await using engine = await engineWith(
      [{ url: hook.url, secret: SECRET, on: ["function.failing"] }],
      [mostly]
    )
    const { client } = engine

    const runs: Array<string> = []
    for (const fails of [false, false, false, true, true]) {
      runs.push(...(await client.emit("order.placed", { fails })).runIds)
    }
    await Promise.all(runs.map((id) => client.waitForRun(id)))
    // with the next failure half of the runs have failed
    await client.emit("order.placed", { fails: true })
    await until(() => expect(hook.taken).toHaveLength(1))

    expect(hook.taken[0]!.call.data).toMatchObject({ ended: 6, failed: 3 })
  })

  it.each([
    [{ runs: 0 }, "`failing.runs` must be an integer, at least 1"],
    [{ rate: 2 }, "`failing.rate` must be a number above 0"],
    [{ window: "2h" }, "`failing.window` must be an hour at most"]
  ])("cannot be defined by %o", async (failing, message) => {
    await expect(startEngine({ filename: ":memory:", failing })).rejects.toThrow(message)
  })
})

describe("functions whose trigger is a system event", () => {
  it("are started by system events that match their expression, and not by a trigger for all events", async () => {
    const seen = (id: string, event: string, expression?: string) =>
      createFunction(
        { id, triggers: [{ event, ...(expression === undefined ? {} : { expression }) }] },
        ({ event }) => ({ name: event.name, ...event.data })
      )
    const waits = createFunction({ id: "ship", triggers: [{ event: "order.paid" }] }, async ({ step }) => {
      await step.sleep("long", "1h")
    })
    await using engine = await engineWith(
      [],
      [
        fails,
        waits,
        seen("failures", "system.run.*.failed"),
        seen("of-others", "system.run.*.failed", 'event.data.functionId != "charge"'),
        seen("pauses", "system.run.*.paused"),
        seen("everything", ">")
      ]
    )
    const { client } = engine

    const { runIds } = await client.emit("order.placed", { card: "4711" })
    const failed = runIds[0]!
    const [ship] = (await client.emit("order.paid", {})).runIds
    await until(async () => expect((await client.getRun(ship!)).status).toBe("waiting"))
    await client.pauseRun(ship!)
    const pause = await until(async () => {
      const { runs } = await client.listRuns({ functionId: "pauses", status: "completed" })
      expect(runs).toHaveLength(1)
      return client.getRun(runs[0]!.id)
    })
    expect(pause.output).toMatchObject({
      name: `system.run.${ship}.paused`,
      runId: ship,
      functionId: "ship",
      reason: { code: expect.any(String), message: expect.any(String) }
    })
    const told = await until(async () => {
      const { runs } = await client.listRuns({ functionId: "failures", status: "completed" })
      expect(runs).toHaveLength(1)
      return client.getRun(runs[0]!.id)
    })

    expect(told.output).toMatchObject({
      name: `system.run.${failed}.failed`,
      runId: failed,
      functionId: "charge",
      attempts: 1,
      error: { message: "card declined" }
    })
    expect(JSON.stringify(told.output)).not.toContain("4711")
    expect((await client.listRuns({ functionId: "of-others" })).runs).toEqual([])
    const { runs } = await client.listRuns({ functionId: "everything" })
    const names = await Promise.all(runs.map(async ({ id }) => (await client.waitForRun(id)).output))
    expect(names.map((output) => (output as { name: string }).name).sort()).toEqual([
      "order.paid",
      "order.placed"
    ])
  })
})

describe("verifyHook", () => {
  it("accepts any of several secrets, and explains what is wrong with a request", async () => {
    const hook = await receiver()
    await using engine = await engineWith([{ url: hook.url, secret: SECRET, on: ["run.failed"] }])
    await engine.client.emit("order.placed", {})
    await until(() => expect(hook.taken).toHaveLength(1))
    const { body, headers } = hook.taken[0]!

    const call = verifyHook({ headers, body: body.toString() }, ["an old secret", SECRET])
    expect(call.type).toBe("run.failed")
    const asFetch = new Headers(
      Object.entries(headers).flatMap(([name, value]) =>
        typeof value === "string" ? [[name, value]] : []
      ) as Array<[string, string]>
    )
    expect(verifyHook({ headers: asFetch, body }, SECRET)).toEqual(call)
    expect(() => verifyHook({ headers: {}, body }, SECRET)).toThrow("has no x-ironflow-timestamp")
    expect(() => verifyHook({ headers, body: `${body.toString()} ` }, SECRET)).toThrow(
      "or the body was changed"
    )
    const later = { ...headers, "x-ironflow-timestamp": String(Number(headers["x-ironflow-timestamp"]) + 1) }
    expect(() => verifyHook({ headers: later, body }, SECRET)).toThrow("does not match")
    vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 600_000 })
    try {
      expect(() => verifyHook({ headers, body }, SECRET)).toThrow(/was signed 6\d\d s away/)
      expect(verifyHook({ headers, body }, SECRET, { tolerance: "1h" })).toEqual(call)
    } finally {
      vi.useRealTimers()
    }
    expect(() => verifyHook({ headers, body: JSON.parse(body.toString()) as string }, SECRET)).toThrow(
      "raw body"
    )
    expect(() => verifyHook({ headers, body }, [])).toThrow("must be the secret")
  })
})
