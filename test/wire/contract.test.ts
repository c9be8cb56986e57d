/** What both sides of the contract rely on: the encoding of runs, statuses and errors, and that the schemas are right. */
import { assert, describe, it } from "vitest"
import {
  ConnectionError,
  FunctionNotFoundError,
  InvalidStateError,
  IronflowError,
  LimitExceededError,
  RunNotFoundError,
  ServerError,
  StepNotFoundError,
  StoreError,
  TimeoutError,
  UnauthenticatedError,
  UnauthorizedError,
  ValidationError,
  VersionConflictError
} from "../../src/Errors.ts"
import { failureResponse, readFailure } from "../../src/Protocol/Http/Failures.ts"
import { RegisterFunction, callSpecs as functions } from "../../src/Protocol/Functions.ts"
import { readRun } from "../../src/Client/HttpAnswers.ts"
import { reader } from "../../src/Protocol/Codec.ts"
import { callSpecs as events } from "../../src/Protocol/Events.ts"
import { decoder, encoder } from "../../src/Protocol/ServerCodec.ts"
import type { CallSpec } from "../../src/Protocol/CallSpec.ts"
import { decodeRunStatus, encodeRun, callSpecs as runs } from "../../src/Protocol/Runs.ts"
import { callSpecs as server } from "../../src/Protocol/Server.ts"
import { API_ENDPOINTS, DEFAULT_WS_URL } from "../../src/Protocol/Paths.ts"
import { callSpecs } from "../../src/Protocol/AllCalls.ts"
import { sockets } from "../../src/Protocol/Subscriptions.ts"
import * as workers from "../../src/Protocol/Workers.ts"
import sessions from "../golden/sessions.json" with { type: "json" }
import { start } from "./Ironflow.ts"
import { rpc, send } from "./RawClient.ts"
import { RawWorker, stepResult } from "./RawWorker.ts"

const run = {
  id: "run_1",
  functionId: "ship-order",
  eventId: "evt_1",
  attempt: 1,
  maxAttempts: 3,
  createdAt: "2026-01-02T03:04:05.000Z",
  updatedAt: "2026-01-02T03:04:05.000Z"
} as const

describe("a run", () => {
  it.each([
    ["pending", "RUN_STATUS_PENDING"],
    ["running", "RUN_STATUS_RUNNING"],
    ["waiting", "RUN_STATUS_WAITING"],
    ["compensating", "RUN_STATUS_RUNNING"],
    ["paused", "RUN_STATUS_PAUSED"],
    ["completed", "RUN_STATUS_COMPLETED"],
    ["failed", "RUN_STATUS_FAILED"],
    ["cancelled", "RUN_STATUS_CANCELLED"]
  ] as const)("that is %s is sent as %s and read unchanged", (status, wire) => {
    const encoded = encodeRun({ ...run, status })

    assert.strictEqual(encoded.status, wire)
    assert.deepStrictEqual(readRun(encoded), { ...run, status })
  })

  it("without its exact state and a zero attempt is understood", () => {
    const { attempt: _, ...rest } = run

    const decoded = readRun({ ...rest, status: "RUN_STATUS_WAITING_FOR_CAPACITY" })

    assert.deepStrictEqual(decoded, { ...rest, attempt: 0, status: "pending" })
  })

  it.each([
    ["failed", "failed"],
    ["FAILED", "failed"],
    ["RUN_STATUS_FAILED", "failed"],
    ["run_status_waiting", "waiting"],
    ["toString", undefined],
    ["", undefined]
  ])("has the status %j read as %j", (text, status) => {
    assert.strictEqual(decodeRunStatus(text), status)
  })
})

describe("an error", () => {
  const errors: ReadonlyArray<readonly [error: IronflowError, connect: number, rest: number]> = [
    [new ValidationError("bad", { validationErrors: ["a: bad"] }), 400, 400],
    [new LimitExceededError("It", 2, 1, "bytes"), 400, 400],
    [new RunNotFoundError("run_1"), 404, 404],
    [new FunctionNotFoundError("f"), 404, 404],
    [new StepNotFoundError("run_1", "run_1:a:0"), 404, 404],
    [new InvalidStateError("not now"), 400, 409],
    [new VersionConflictError("order-1", 3, 4), 409, 409],
    [new VersionConflictError("order-1", "STREAM_EXISTS", 0), 409, 409],
    [new TimeoutError("late", 5), 504, 504],
    [new StoreError("full", { code: "STORE_UNAVAILABLE", retryable: true }), 503, 503],
    [new StoreError("damaged", { code: "STORE_CORRUPT" }), 500, 500],
    [new ConnectionError("gone"), 503, 503],
    [new UnauthenticatedError(), 401, 401],
    [new UnauthorizedError(), 403, 403],
    [new ServerError("odd", { code: "ODD", details: { a: 1 } }), 500, 500]
  ]

  it.each(errors.map(([error, ...statuses]) => [error.name, error, ...statuses] as const))(
    "%s keeps its class and fields in both dialects",
    (_, error, onConnect, onRest) => {
      for (const [dialect, expected] of [
        ["connect", onConnect],
        ["rest", onRest]
      ] as const) {
        const { status, body } = failureResponse(error, dialect)
        const read = readFailure(status, JSON.stringify(body), "emit")

        assert.strictEqual(status, expected)
        assert.strictEqual(body.message, error.message)
        assert.notInclude(JSON.stringify(body), "    at ")
        assert.strictEqual(read.constructor, error.constructor)
        assert.deepStrictEqual({ ...read, stack: "" }, { ...error, stack: "" })
      }
    }
  )

  it.each([
    [401, '{"code":"unauthenticated","message":"no key"}', UnauthenticatedError, "no key"],
    [403, '{"error":"no"}', UnauthorizedError, "no"],
    [503, "", ConnectionError, "emit failed with status 503, and the answer is empty"],
    [503, "Bad Gateway", ConnectionError, "emit failed with status 503: Bad Gateway"],
    [503, '{"error":"busy"}', ConnectionError, "emit failed with status 503: busy"],
    [
      502,
      "<html>",
      ConnectionError,
      "emit failed with status 502: something else, such as a gateway, has answered in place of an Ironflow server. " +
        'The answer is "<html>". Check the server URL'
    ],
    [404, '{"error":"bucket not found","code":"NOT_FOUND"}', IronflowError, "bucket not found"],
    [
      500,
      "<html>",
      IronflowError,
      "emit failed with status 500: something else, such as a gateway, has answered in place of an Ironflow server. " +
        'The answer is "<html>". Check the server URL'
    ],
    [500, '{"details":[5]}', IronflowError, 'emit failed with status 500: {"details":[5]}'],
    [500, "Internal Server Error", IronflowError, "Internal Server Error"]
  ])("of another server with status %d and body %j has its message", (status, body, Class, message) => {
    const error = readFailure(status, body, "emit")

    assert.instanceOf(error, Class)
    assert.strictEqual(error.message, message)
  })
})

describe("a lenient reader", () => {
  const read = decoder(RegisterFunction, "RegisterFunction")

  it.each([
    [
      { id: "f", timeout_ms: "5" },
      { id: "f", timeoutMs: 5 }
    ],
    [
      { id: "f", retry: { max_attempts: 2, backoffFactor: 1.5 } },
      { id: "f", retry: { maxAttempts: 2, backoffFactor: 1.5 } }
    ],
    [
      { id: "f", actorKey: null, triggers: [{ event: "a", more: 1 }] },
      { id: "f", triggers: [{ event: "a" }] }
    ],
    [
      { id: "f", timeoutMs: 1, timeout_ms: 2 },
      { id: "f", timeoutMs: 1 }
    ],
    [
      { id: "f", metadata: { some_key: 1, someKey: 2 } },
      { id: "f", metadata: { some_key: 1, someKey: 2 } }
    ]
  ])("reads %j as %j", (body, expected) => {
    assert.deepStrictEqual<unknown>(read(body), expected)
  })

  it("names every field that is wrong", () => {
    assert.throws(
      () => read({ id: "f", triggers: [{ event: 5 }] }),
      /^RegisterFunction: triggers\.0\.event: Expected string/
    )
  })
})

it("answers fit their schemas", async () => {
  await using ironflow = await start()
  const worker = new RawWorker(ironflow.url, [{ id: "ship-order", triggers: [{ event: "order.placed" }] }])
  await worker.register()
  const { body: triggered } = await rpc(ironflow.url, "Trigger", { event: "order.placed", data: {} })
  const [id] = triggered.runIds
  const job = await worker.take()
  await worker.update(job, { status: "completed", output: 1, steps: [stepResult(job, "charge")] })
  const rest = (path: string) => send(ironflow.url, "GET", path)
  const ofCalls: ReadonlyArray<readonly [spec: CallSpec, body: unknown]> = [
    [events.trigger, triggered],
    [runs.getRun, (await rpc(ironflow.url, "GetRun", { id })).body],
    [runs.listRuns, (await rpc(ironflow.url, "ListRuns")).body],
    [runs.restRuns, (await rest("/api/v1/runs")).body],
    [runs.getRunSteps, (await rpc(ironflow.url, "GetRunSteps", { id })).body],
    [runs.restRunSteps, (await rest(`/api/v1/runs/${id}/steps`)).body],
    [runs.explainRun, (await rest(`/api/v1/runs/${id}/explain`)).body],
    [functions.restFunctions, (await rest("/api/v1/functions")).body],
    [functions.listFunctions, (await rpc(ironflow.url, "ListFunctions")).body],
    [server.restCapabilities, (await rest("/api/v1/capabilities")).body],
    [server.info, (await rpc(ironflow.url, "Info")).body],
    [server.health, (await rpc(ironflow.url, "Health")).body],
    [server.restHealth, (await rest("/health")).body],
    [workers.callSpecs.restWorkers, (await rest("/api/v1/workers")).body]
  ]

  for (const [{ answer }, body] of ofCalls) {
    assert.deepStrictEqual(encoder(answer!)(reader(answer!)(body)), body)
  }
})

it("every frame of a subscription client is declared in the spec of its socket", () => {
  const { answer, body } = sockets.subscriptions
  const [read, decode] = [reader(answer!), decoder(body!, "Frame")]
  const frames = [...sessions["events over a WebSocket"], ...sessions["a consumer group over a WebSocket"]]
  const types = new Set<string>()
  for (const frame of frames) {
    if ("came" in frame && typeof frame.came === "object" && "type" in frame.came) {
      assert.deepStrictEqual<unknown>(read(frame.came), frame.came)
      types.add(frame.came.type)
    }
    if ("sent" in frame && typeof frame.sent === "object" && "type" in frame.sent) {
      const { sent } = frame
      // an ack type that no server knows
      if ("ackType" in sent && sent.ackType === "later") assert.throws(() => decode(sent), "Frame: ")
      else assert.deepInclude<object>(decode(sent), { type: sent.type })
      types.add(sent.type)
    }
  }

  assert.isAtLeast(types.size, 7)
})

it("the documented paths are paths of calls", () => {
  const paths = new Set(Object.values(callSpecs).map(({ path }) => path))

  for (const path of Object.values(API_ENDPOINTS)) assert.isTrue(paths.has(path), path)
  assert.strictEqual(new URL(DEFAULT_WS_URL).pathname, sockets.subscriptions.path)
})
