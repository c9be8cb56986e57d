import { inspect } from "node:util"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import { Client, type ClientApi, type EffectKind, type PromiseKind } from "../../src/Client/Client.ts"
import { layer } from "../../src/Client/HttpServices.ts"
import { ConnectionError, IronflowError, TimeoutError, ValidationError } from "../../src/Errors.ts"
import { createClient, type IronflowClient } from "../../src/Promise/Client.ts"
import { type Reply, ScriptedServer, type Script, unusedPort } from "./ScriptedServer.ts"

const rejection = async (promise: Promise<unknown>): Promise<any> => {
  try {
    await promise
  } catch (error) {
    return error
  }
  return assert.fail("expected a rejection")
}

/** A client whose server follows a script. */
const scripted = async (script: Script | Reply) => {
  const server = await ScriptedServer.start(typeof script === "function" ? script : () => script)
  const client = createClient({ serverUrl: server.url, apiKey: "key-1", environment: "staging" })
  const dispose = async () => {
    await client.close()
    await server.stop()
  }
  return { server, client, [Symbol.asyncDispose]: dispose }
}

/** The client with answers that the test gives, on the clock of the test. */
const recorded = (
  answer: (request: HttpClientRequest, nth: number) => Response | undefined,
  use: (client: ClientApi<EffectKind>) => Effect.Effect<unknown, unknown>
) =>
  Effect.gen(function* () {
    const urls: Array<string> = []
    const http = HttpClient.make((request, url) =>
      Effect.suspend(() => {
        urls.push(url.pathname + url.search)
        const response = answer(request, urls.length)
        return response === undefined
          ? Effect.never
          : Effect.succeed(HttpClientResponse.fromWeb(request, response))
      })
    )
    const live = layer({ serverUrl: "http://ironflow.test" }).pipe(
      Layer.provide(Layer.succeed(HttpClient.HttpClient, http))
    )
    const fiber = yield* Effect.forkChild(
      Effect.flatMap(Client, use).pipe(Effect.result, Effect.provide(live))
    )
    return { urls, fiber }
  })

const service = "/ironflow.v1.IronflowService"

/** A run in the form of a legacy server: zero values are absent, and statuses are enum names. */
const wireRun = {
  id: "run_1",
  functionId: "process-order",
  eventId: "evt_1",
  executionMode: "EXECUTION_MODE_PULL",
  status: "RUN_STATUS_COMPLETED",
  maxAttempts: 3,
  output: { shipped: true },
  createdAt: "2026-01-02T03:04:05Z",
  updatedAt: "2026-01-02T03:04:06Z"
}

const run = {
  id: "run_1",
  functionId: "process-order",
  eventId: "evt_1",
  status: "completed",
  attempt: 0,
  maxAttempts: 3,
  output: { shipped: true },
  createdAt: "2026-01-02T03:04:05Z",
  updatedAt: "2026-01-02T03:04:06Z"
}

describe("the client of a server", () => {
  it.each<{
    name: string
    call: (client: ClientApi<PromiseKind>) => Promise<unknown>
    line: string
    sent?: unknown
    reply: Reply
    result: unknown
  }>([
    {
      name: "emit",
      call: (client) =>
        client.emit(
          "order.placed",
          { orderId: "o-1" },
          { version: 2, idempotencyKey: "k", metadata: { a: 1 } }
        ),
      line: `POST ${service}/Trigger`,
      sent: {
        event: "order.placed",
        data: { orderId: "o-1" },
        version: 2,
        idempotencyKey: "k",
        metadata: { a: 1 }
      },
      reply: { body: { runIds: ["run_1"], eventId: "evt_1" } },
      result: { runIds: ["run_1"], eventId: "evt_1" }
    },
    {
      name: "emit of an event that starts nothing",
      call: (client) => client.emit("order.placed", undefined),
      line: `POST ${service}/Trigger`,
      sent: { event: "order.placed", data: {} },
      reply: { body: { eventId: "evt_1" } },
      result: { runIds: [], eventId: "evt_1" }
    },
    {
      name: "emit, answered in snake case",
      call: (client) => client.trigger("order.placed", null),
      line: `POST ${service}/Trigger`,
      sent: { event: "order.placed", data: null },
      reply: { body: { run_ids: ["run_1"], event_id: "evt_1" } },
      result: { runIds: ["run_1"], eventId: "evt_1" }
    },
    {
      name: "publish",
      call: (client) => client.publish("orders", null),
      line: "POST /ironflow.v1.PubSubService/Publish",
      sent: { topic: "orders", data: null },
      reply: { body: { eventId: "msg_1", sequence: "42" } },
      result: { eventId: "msg_1", sequence: 42 }
    },
    {
      name: "getRun",
      call: (client) => client.getRun("run_1"),
      line: `POST ${service}/GetRun`,
      sent: { id: "run_1" },
      reply: { body: wireRun },
      result: run
    },
    {
      name: "getRun of a failed run, in snake case, with a status in lower case",
      call: (client) => client.getRun("run_1"),
      line: `POST ${service}/GetRun`,
      reply: {
        body: {
          id: "run_1",
          function_id: "process-order",
          event_id: "evt_1",
          status: "failed",
          attempt: "3",
          max_attempts: 3,
          error: { message: "sold out", code: "SOLD_OUT" },
          created_at: "2026-01-02T03:04:05Z",
          ended_at: "2026-01-02T03:04:06Z"
        }
      },
      result: {
        id: "run_1",
        functionId: "process-order",
        eventId: "evt_1",
        status: "failed",
        attempt: 3,
        maxAttempts: 3,
        error: { message: "sold out", code: "SOLD_OUT" },
        createdAt: "2026-01-02T03:04:05Z",
        updatedAt: "2026-01-02T03:04:05Z",
        endedAt: "2026-01-02T03:04:06Z"
      }
    },
    {
      name: "getRun, whose `state` is more exact than its `status`",
      call: async (client) => (await client.getRun("run_1")).status,
      line: `POST ${service}/GetRun`,
      reply: { body: { ...wireRun, status: "RUN_STATUS_RUNNING", state: "compensating" } },
      result: "compensating"
    },
    {
      name: "getRun of a run that waits for capacity",
      call: async (client) => (await client.getRun("run_1")).status,
      line: `POST ${service}/GetRun`,
      reply: { body: { ...wireRun, status: "RUN_STATUS_WAITING_FOR_CAPACITY" } },
      result: "pending"
    },
    {
      name: "listRuns",
      call: (client) => client.listRuns({ functionId: "process-order", status: "failed", limit: 25 }),
      line: `POST ${service}/ListRuns`,
      sent: { functionId: "process-order", status: "failed", limit: 25 },
      reply: { body: { runs: [wireRun], nextCursor: "c", totalCount: 7 } },
      result: { runs: [run], totalCount: 7, nextCursor: "c" }
    },
    {
      name: "listRuns without any runs",
      call: (client) => client.listRuns(),
      line: `POST ${service}/ListRuns`,
      sent: {},
      reply: { body: {} },
      result: { runs: [], totalCount: 0 }
    },
    {
      name: "getRunSteps",
      call: (client) => client.getRunSteps("run_1"),
      line: `POST ${service}/GetRunSteps`,
      sent: { runId: "run_1" },
      reply: {
        body: {
          steps: [{ id: "run_1:charge:0", name: "charge", type: "invoke", status: "COMPLETED", output: 1 }]
        }
      },
      result: [
        { id: "run_1:charge:0", name: "charge", kind: "invoke", status: "completed", attempt: 0, output: 1 }
      ]
    },
    {
      name: "cancelRun",
      call: (client) => client.cancelRun("run_1"),
      line: `POST ${service}/CancelRun`,
      sent: { id: "run_1", reason: "" },
      reply: { body: wireRun },
      result: run
    },
    {
      name: "retryRun",
      call: (client) => client.retryRun("run_1", "charge"),
      line: `POST ${service}/RetryRun`,
      sent: { id: "run_1", fromStep: "charge" },
      reply: { body: wireRun },
      result: run
    },
    {
      name: "resumeRun",
      call: (client) => client.resumeRun("run_1"),
      line: "POST /api/v1/runs/resume",
      sent: { run_id: "run_1", from_step: "" },
      reply: { body: wireRun },
      result: run
    },
    {
      name: "patchStep, whose answer is not read",
      call: (client) => client.patchStep("run_1:charge:0", { ok: true }, "by hand"),
      line: "POST /api/v1/steps/patch",
      sent: { step_id: "run_1:charge:0", output: { ok: true }, reason: "by hand" },
      reply: { body: "patched" },
      result: undefined
    },
    {
      name: "listFunctions",
      call: (client) => client.listFunctions(),
      line: "GET /api/v1/functions",
      reply: {
        body: {
          functions: [
            {
              id: "process-order",
              triggers: [
                { event: "order.placed", cron: "" },
                { cron: "0 9 * * *", timezone: "Europe/Berlin", overlap: "skip" },
                { cron: "0 9 * * *", overlap: "as of some later server" }
              ],
              version: 2,
              metadata: { __ironflow_code_hash: "abc" },
              created_at: "t1",
              updated_at: "t2"
            }
          ]
        }
      },
      result: [
        {
          id: "process-order",
          name: "process-order",
          triggers: [
            { event: "order.placed" },
            { cron: "0 9 * * *", timezone: "Europe/Berlin", overlap: "skip" },
            { cron: "0 9 * * *" }
          ],
          version: 2,
          codeHash: "abc",
          codeVersion: "abc",
          versioning: "latest",
          createdAt: "t1",
          updatedAt: "t2"
        }
      ]
    },
    {
      name: "listWorkers",
      call: (client) => client.listWorkers(),
      line: "GET /api/v1/workers",
      reply: {
        body: {
          workers: [
            {
              id: "w-1",
              hostname: "north",
              function_ids: ["process-order"],
              max_concurrent: 10,
              labels: { region: "north" },
              transport: "polling",
              registered_at: "t1"
            }
          ]
        }
      },
      result: [
        {
          id: "w-1",
          hostname: "north",
          functionIds: ["process-order"],
          maxConcurrentJobs: 10,
          activeJobs: 0,
          labels: { region: "north" },
          transport: "polling",
          registeredAt: "t1"
        }
      ]
    },
    {
      name: "listWorkers without any workers",
      call: (client) => client.listWorkers(),
      line: "GET /api/v1/workers",
      reply: { body: {} },
      result: []
    },
    {
      name: "health",
      call: (client) => client.health(),
      line: `POST ${service}/Health`,
      sent: {},
      reply: { body: { status: "healthy" } },
      result: "healthy"
    }
  ])("$name sends a legacy server the request that it expects, and reads its answer", async (row) => {
    await using it = await scripted(row.reply)

    assert.deepStrictEqual(await row.call(it.client), row.result as any)

    assert.deepStrictEqual(it.server.lines, [row.line])
    const [asked] = it.server.asked
    if ("sent" in row) assert.deepStrictEqual(asked!.body, row.sent)
    assert.strictEqual(asked!.headers["authorization"], "Bearer key-1")
    assert.strictEqual(asked!.headers["x-ironflow-environment"], "staging")
    if (asked!.method === "POST") assert.strictEqual(asked!.headers["content-type"], "application/json")
  })

  it.each<[string, Reply, { name: string; code: string; retryable: boolean; message: RegExp }]>([
    [
      "400",
      { status: 400, body: { code: "invalid_argument", message: "bad event" } },
      { name: "ValidationError", code: "VALIDATION_ERROR", retryable: false, message: /^bad event$/ }
    ],
    [
      "400 for the state of the run",
      { status: 400, body: { code: "failed_precondition", message: "it has ended" } },
      { name: "InvalidStateError", code: "INVALID_STATE", retryable: false, message: /^it has ended$/ }
    ],
    [
      "401",
      { status: 401, body: { code: "unauthenticated", message: "no key" } },
      { name: "UnauthenticatedError", code: "UNAUTHENTICATED", retryable: false, message: /no key/ }
    ],
    [
      "402",
      { status: 402, body: { error: "enterprise" } },
      {
        name: "EnterpriseRequiredError",
        code: "ENTERPRISE_REQUIRED",
        retryable: false,
        message: /enterprise/
      }
    ],
    [
      "403",
      { status: 403, body: { code: "permission_denied", message: "viewer" } },
      { name: "UnauthorizedError", code: "UNAUTHORIZED", retryable: false, message: /viewer/ }
    ],
    [
      "404",
      { status: 404, body: { code: "not_found", message: "no rows" } },
      { name: "RunNotFoundError", code: "RUN_NOT_FOUND", retryable: false, message: /^Run not found: run_1$/ }
    ],
    [
      "409",
      { status: 409, body: { error: "version conflict" } },
      { name: "ServerError", code: "CONFLICT", retryable: false, message: /version conflict/ }
    ],
    [
      "412",
      { status: 412, body: { error: "revision" } },
      { name: "ServerError", code: "PRECONDITION_FAILED", retryable: false, message: /revision/ }
    ],
    [
      "429",
      { status: 429, body: { code: "resource_exhausted", message: "slow down" } },
      { name: "UnavailableError", code: "RATE_LIMITED", retryable: true, message: /slow down/ }
    ],
    [
      "403 with a page of something else",
      { status: 403, body: "<html>no</html>" },
      {
        name: "UnauthorizedError",
        code: "UNAUTHORIZED",
        retryable: false,
        message: /status 403: something else.* has answered.*<html>no/
      }
    ],
    [
      "404 with a page of something else",
      { status: 404, body: "<html>no</html>" },
      {
        name: "InvalidResponseError",
        code: "INVALID_RESPONSE",
        retryable: false,
        message: /status 404: something else.* has answered in place of an Ironflow server.*<html>no/
      }
    ],
    [
      "404 with nothing of something else",
      { status: 404, body: "" },
      {
        name: "InvalidResponseError",
        code: "INVALID_RESPONSE",
        retryable: false,
        message: /status 404: something else.* has answered in place of an Ironflow server.*is empty/
      }
    ],
    [
      "404 with text of something else",
      { status: 404, body: "404 page not found" },
      {
        name: "InvalidResponseError",
        code: "INVALID_RESPONSE",
        retryable: false,
        message:
          /status 404: something else.* has answered in place of an Ironflow server.*404 page not found/
      }
    ],
    [
      "404 with the word of a framework of something else",
      { status: 404, body: { message: "Route GET:/x not found", error: "Not Found", statusCode: 404 } },
      {
        name: "InvalidResponseError",
        code: "INVALID_RESPONSE",
        retryable: false,
        message: /status 404: something else.* has answered in place of an Ironflow server.*Route GET:/
      }
    ],
    [
      "404 with the word of a gateway of something else",
      { status: 404, body: { message: "no Route matched with those values" } },
      {
        name: "InvalidResponseError",
        code: "INVALID_RESPONSE",
        retryable: false,
        message: /status 404: something else.* has answered in place of an Ironflow server.*no Route matched/
      }
    ],
    [
      "500 with text",
      { status: 500, body: "Internal Server Error" },
      {
        name: "ServerError",
        code: "SERVER_ERROR",
        retryable: true,
        message: /failed with status 500: Internal Server Error$/
      }
    ],
    [
      "500 without a body",
      { status: 500 },
      { name: "ServerError", code: "SERVER_ERROR", retryable: true, message: /cancelRun\("run_1"\).*500/ }
    ],
    [
      "503",
      { status: 503, body: { code: "unavailable", message: "starting" } },
      { name: "ConnectionError", code: "CONNECTION_LOST", retryable: true, message: /503: starting/ }
    ],
    [
      "an error of our engine",
      {
        status: 404,
        body: {
          code: "not_found",
          message: "?",
          details: [
            {
              type: "ironflow.v1.ErrorDetail",
              value: "",
              debug: {
                name: "RunNotFoundError",
                message: "no such run",
                code: "RUN_NOT_FOUND",
                retryable: false
              }
            }
          ]
        }
      },
      { name: "RunNotFoundError", code: "RUN_NOT_FOUND", retryable: false, message: /no such run/ }
    ],
    [
      "a page instead of JSON",
      { status: 200, body: "<html>" },
      {
        name: "InvalidResponseError",
        code: "INVALID_RESPONSE",
        retryable: false,
        message: /not JSON. Is this the address of an Ironflow server\? .*"<html>"/
      }
    ],
    [
      "JSON that is not a run",
      { status: 200, body: [] },
      {
        name: "InvalidResponseError",
        code: "INVALID_RESPONSE",
        retryable: false,
        message: /lacks required fields/
      }
    ]
  ])("an answer of %s rejects with an error that describes it", async (_, reply, expected) => {
    await using it = await scripted(reply)

    const error = await rejection(it.client.cancelRun("run_1"))

    assert.instanceOf(error, IronflowError)
    assert.deepStrictEqual(
      { name: error.name, code: error.code, retryable: error.retryable },
      { name: expected.name, code: expected.code, retryable: expected.retryable }
    )
    assert.match(error.message, expected.message)
    // a call that may have had an effect is not repeated
    assert.strictEqual(it.server.asked.length, 1)
  })

  it.each<[string, (client: ClientApi<PromiseKind>) => Promise<unknown>, RegExp]>([
    ["explain", (client) => client.explain("run_1"), /explain\("run_1"\) is not possible/],
    ["pauseRun", (client) => client.pauseRun("run_1"), /pauseRun\("run_1"\) is not possible/],
    ["retryRun", (client) => client.retryRun("run_1"), /Use resumeRun/],
    ["getRunSteps", (client) => client.getRunSteps("run_1"), /getRunSteps\("run_1"\) is not possible/]
  ])("%s says so when the server lacks it", async (_, call, message) => {
    await using it = await scripted({ status: 404, body: "404 page not found" })

    const error = await rejection(call(it.client))

    assert.strictEqual(error.code, "UNIMPLEMENTED")
    assert.match(error.message, message)
  })

  it.each<[string, (client: ClientApi<PromiseKind>) => Promise<unknown>]>([
    ["explain", (client) => client.explain("run_1")],
    ["getRun", (client) => client.getRun("run_1")],
    ["listFunctions", (client) => client.listFunctions()],
    ["deleteFunction", (client) => client.deleteFunction("f")],
    ["streams.getInfo", (client) => (client as IronflowClient).streams.getInfo("order-1")],
    ["kv get", (client) => (client as IronflowClient).kv().bucket("b").get("k")],
    ["config get", (client) => (client as IronflowClient).config().get("c")]
  ])("%s names what has answered at a wrong URL", async (_, call) => {
    await using server = await ScriptedServer.start(() => ({
      status: 404,
      body: "<html>nothing here</html>",
      headers: { server: "nginx/1.27" }
    }))
    await using client = createClient({ serverUrl: `${server.url}/app` })

    const error = await rejection(call(client))

    assert.deepStrictEqual([error.code, error.status], ["INVALID_RESPONSE", 404])
    assert.match(
      error.message,
      /something else \(nginx\/1\.27\) has answered.*nothing here.*Check the server URL/
    )
  })

  it("a missing run is told from a missing call", async () => {
    await using it = await scripted({ status: 404, body: { code: "not_found", message: "run not found" } })

    for (const call of [it.client.retryRun("run_1"), it.client.getRunSteps("run_1")]) {
      assert.strictEqual((await rejection(call)).code, "RUN_NOT_FOUND")
    }
  })

  it("data that JSON cannot carry rejects before anything is sent", async () => {
    await using it = await scripted({ body: {} })

    const error = await rejection(it.client.emit("order.placed", { amount: 1n }))

    assert.instanceOf(error, ValidationError)
    assert.match(error.message, /\$\.amount is a BigInt/)
    assert.deepStrictEqual(it.server.lines, [])
  })

  it("the error for an unreachable server names it and says what to do", async () => {
    const port = await unusedPort()
    await using client = createClient({ serverUrl: `http://127.0.0.1:${port}`, apiKey: "very-secret" })

    const error = await rejection(client.emit("order.placed", {}))

    assert.instanceOf(error, ConnectionError)
    assert.match(
      error.message,
      new RegExp(`^emit\\("order.placed"\\) failed: .*http://127.0.0.1:${port} refuses`)
    )
    assert.match(error.message, /`serverUrl` or IRONFLOW_SERVER_URL/)
    assert.notInclude(inspect(error, { depth: 20, showHidden: true }), "very-secret")
    assert.isTrue(error.retryable)
  })

  it("a server that closes the connection is a lost connection", async () => {
    await using it = await scripted(() => "hang up")

    const error = await rejection(it.client.emit("order.placed", {}))

    assert.instanceOf(error, ConnectionError)
    assert.match(error.message, /closed the connection before it answered/)
    assert.strictEqual(it.server.asked.length, 1)
  })

  it("an aborted signal closes the connection and rejects with the reason of the signal", async () => {
    await using it = await scripted(() => new Promise<Reply>(() => undefined))
    const controller = new AbortController()
    const reason = new Error("the customer has left")

    const call = rejection(it.client.getRun("run_1", { signal: controller.signal }))
    await it.server.until(() => it.server.asked.length === 1)
    controller.abort(reason)

    assert.strictEqual(await call, reason)
    await it.server.asked[0]!.hungUp
  })

  it("closing the client closes the connection and rejects with code CLOSED", async () => {
    await using it = await scripted(() => new Promise<Reply>(() => undefined))

    const call = rejection(it.client.getRun("run_1"))
    await it.server.until(() => it.server.asked.length === 1)
    await it.client.close()

    assert.strictEqual((await call).code, "CLOSED")
    await it.server.asked[0]!.hungUp
  })

  it("waitForRun keeps asking until the run has ended", async () => {
    const replies: Array<Reply> = [{ status: 204 }, { body: wireRun }]
    await using it = await scripted(() => replies.shift()!)

    assert.deepStrictEqual(await it.client.waitForRun("run_1"), run as any)

    assert.deepStrictEqual(it.server.lines, [
      "GET /api/v1/runs/run_1/wait?timeout=30000",
      "GET /api/v1/runs/run_1/wait?timeout=30000"
    ])
  })
})

describe("retries and timeouts of the client", () => {
  const busy = (status: number) => new Response(null, { status })

  it.effect.each([429, 502, 503])("a read is repeated after %s, in 100 and then 200 ms", (status) =>
    Effect.gen(function* () {
      const { fiber, urls } = yield* recorded(
        (_, nth) => (nth < 3 ? busy(status) : Response.json(wireRun)),
        (client) => client.getRun("run_1")
      )
      const counts: Array<number> = []
      for (const [ms, asked] of [
        [0, 1],
        [99, 1],
        [1, 2],
        [199, 2],
        [1, 3]
      ] as const) {
        yield* TestClock.adjust(ms)
        // the first retry first loads the module for retries
        yield* Effect.promise(() => vi.waitFor(() => assert.isAtLeast(urls.length, asked)))
        counts.push(urls.length)
      }

      assert.deepStrictEqual(counts, [1, 1, 2, 2, 3])
      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Success")
    })
  )

  it.effect("a call gives up after three attempts", () =>
    Effect.gen(function* () {
      const { fiber, urls } = yield* recorded(
        () => busy(503),
        (client) => client.listRuns()
      )
      yield* TestClock.adjust("1 minute")

      const result = yield* Fiber.join(fiber)
      assert.strictEqual(urls.length, 3)
      assert.isTrue(result._tag === "Failure" && result.failure instanceof ConnectionError)
    })
  )

  it.effect.each<[string, (client: ClientApi<EffectKind>) => Effect.Effect<unknown, unknown>, number]>([
    ["emit without an idempotency key", (client) => client.emit("order.placed", {}), 1],
    ["emit with an idempotency key", (client) => client.emit("order.placed", {}, { idempotencyKey: "k" }), 3],
    ["publish without an idempotency key", (client) => client.publish("orders", {}), 1],
    ["publish with an idempotency key", (client) => client.publish("orders", {}, { idempotencyKey: "k" }), 3],
    ["cancelRun", (client) => client.cancelRun("run_1"), 1],
    ["patchStep", (client) => client.patchStep("run_1:charge:0", 1), 1],
    ["health", (client) => client.health(), 1],
    ["listWorkers", (client) => client.listWorkers(), 3]
  ])("%s is repeated only where a repetition does no harm", ([_, call, attempts]) =>
    Effect.gen(function* () {
      const { fiber, urls } = yield* recorded(() => busy(503), call)
      yield* TestClock.adjust("1 minute")

      assert.strictEqual((yield* Fiber.join(fiber))._tag, "Failure")
      assert.strictEqual(urls.length, attempts)
    })
  )

  it.effect("a request without an answer fails after 30 seconds", () =>
    Effect.gen(function* () {
      const { fiber } = yield* recorded(
        () => undefined,
        (client) => client.getRun("run_1")
      )
      yield* TestClock.adjust(29_999)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)

      const result = yield* Fiber.join(fiber)
      assert.isTrue(result._tag === "Failure" && result.failure instanceof TimeoutError)
    })
  )

  it.effect("waitForRun gives up at its timeout, and says what the run waits for", () =>
    Effect.gen(function* () {
      const { fiber, urls } = yield* recorded(
        (request) =>
          request.url.includes("/explain")
            ? Response.json({ runId: "run_1", status: "waiting", code: "SLEEPING", message: "It sleeps." })
            : new Response(null, { status: 204 }),
        (client) => client.waitForRun("run_1", { timeout: 0 })
      )

      const result = yield* Fiber.join(fiber)
      assert.isTrue(result._tag === "Failure" && result.failure instanceof TimeoutError)
      assert.match(
        String(result._tag === "Failure" && result.failure),
        /Run run_1 has not ended within 0ms\. Only the wait is over: the run itself is unchanged\. It sleeps\./
      )
      assert.deepStrictEqual(urls, ["/api/v1/runs/run_1/wait?timeout=0", "/api/v1/runs/run_1/explain"])
    })
  )

  it.effect("waitForRun polls a server that cannot wait for a run", () =>
    Effect.gen(function* () {
      let looks = 0
      const { fiber, urls } = yield* recorded(
        (request) => {
          if (request.url.includes("/wait")) return new Response("404 page not found", { status: 404 })
          return Response.json({
            ...wireRun,
            status: ++looks < 3 ? "RUN_STATUS_RUNNING" : "RUN_STATUS_FAILED"
          })
        },
        (client) => client.waitForRun("run_1")
      )
      yield* TestClock.adjust("10 seconds")

      const result = yield* Fiber.join(fiber)
      assert.strictEqual(result._tag, "Success")
      assert.strictEqual(urls.filter((url) => url.endsWith("/GetRun")).length, 3)
    })
  )
})

describe("createClient", () => {
  it.each<[string, Parameters<typeof createClient>[0], RegExp]>([
    ["an invalid URL", { serverUrl: "localhost 9123" }, /"localhost 9123" is not valid: it is not a URL/],
    ["another scheme", { serverUrl: "ws://localhost:9123" }, /it does not begin with "http:/],
    ["a host without a scheme", { serverUrl: "localhost:9123" }, /it does not begin with "http:/],
    ["a query", { serverUrl: "http://localhost:9123?x=1" }, /query or a fragment/],
    ["a timeout of zero", { timeout: 0 }, /`timeout` must be a positive number/],
    ["a key with a line break", { apiKey: "secret\nkey" }, /`apiKey` must be a string of printable ASCII/],
    ["a blank environment", { environment: " " }, /environment must not be empty or blank/],
    [
      "an environment that does not fit into a header",
      { environment: "größe" },
      /must consist of printable ASCII characters/
    ]
  ])("given %s, throws at once", (_, config, message) => {
    assert.throws(() => createClient(config), ValidationError, message)
  })

  it("shows no password and no key in its errors", () => {
    for (const config of [{ serverUrl: "http://ada:secret@host" }, { apiKey: "secret key" }]) {
      const shown = (() => {
        try {
          createClient(config)
        } catch (error) {
          return String(error)
        }
        return assert.fail("expected a throw")
      })()
      assert.notInclude(shown, "secret")
    }
  })

  it.each([
    ["http://host/", "http://host/ironflow.v1.IronflowService/Health"],
    ["http://host/base/", "http://host/base/ironflow.v1.IronflowService/Health"]
  ])("a path behind %s is appended with one slash", async (serverUrl, expected) => {
    const urls: Array<string> = []
    const http = HttpClient.make((request, url) => {
      urls.push(url.href)
      return Effect.succeed(HttpClientResponse.fromWeb(request, Response.json({ status: "ok" })))
    })
    const live = layer({ serverUrl }).pipe(Layer.provide(Layer.succeed(HttpClient.HttpClient, http)))

    await Effect.runPromise(
      Effect.provide(
        Effect.flatMap(Client, (client) => client.health()),
        live
      )
    )

    assert.deepStrictEqual(urls, [expected])
  })

  it("reads URL, key and environment from environment variables", async () => {
    await using server = await ScriptedServer.start(() => ({ body: { status: "ok" } }))
    vi.stubEnv("IRONFLOW_SERVER_URL", server.url)
    vi.stubEnv("IRONFLOW_API_KEY", "key-of-env")
    vi.stubEnv("IRONFLOW_ENV", "staging")
    try {
      await using client = createClient()
      assert.strictEqual(await client.health(), "ok")
    } finally {
      vi.unstubAllEnvs()
    }

    const [asked] = server.asked
    assert.strictEqual(asked!.headers["authorization"], "Bearer key-of-env")
    assert.strictEqual(asked!.headers["x-ironflow-environment"], "staging")
  })

  it("sends no environment unless one is configured", async () => {
    await using server = await ScriptedServer.start(() => ({ body: { status: "ok" } }))
    await using client = createClient({ serverUrl: server.url })

    await client.health()

    assert.notProperty(server.asked[0]!.headers, "x-ironflow-environment")
  })

  it("sends no key when there is none", async () => {
    await using server = await ScriptedServer.start(() => ({ body: { status: "ok" } }))
    await using client = createClient({ serverUrl: server.url })

    await client.health()

    assert.notProperty(server.asked[0]!.headers, "authorization")
  })
})
