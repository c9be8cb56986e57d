/**
 * Legacy streaming workers on this engine: the frames of the protocol, sent and read by a client that shares no code with this
 * package.
 */
import * as http2 from "node:http2"
import { createClient, type IronflowClient } from "@ironflow/node"
import { afterEach, assert, beforeEach, describe, it, vi } from "vitest"
import { type Ironflow, start } from "./Ironflow.ts"
import {
  CANCEL,
  envelope,
  type Fields,
  int,
  JOB,
  message,
  RawStream,
  REGISTERED,
  STEP_ACK,
  struct,
  text,
  timestamp
} from "./RawStream.ts"

let server: Ironflow
let client: IronflowClient
beforeEach(async () => {
  server = await start()
  client = createClient({ serverUrl: server.url })
  await registerFunction("ship", ["order.placed"])
})
afterEach(async () => {
  await client.close()
  await server.close()
})

const registerFunction = async (id: string, events: ReadonlyArray<string>): Promise<void> => {
  const response = await fetch(`${server.url}/ironflow.v1.IronflowService/RegisterFunction`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      id,
      triggers: events.map((event) => ({ event })),
      retry: { maxAttempts: 2, initialDelayMs: 1 },
      preferredMode: "EXECUTION_MODE_PULL"
    })
  })
  assert.strictEqual(response.status, 200)
}

/** Registers a worker. */
const startWorker = async (workerId = "w-1", max = 10, functionIds = ["ship"]): Promise<RawStream> => {
  const worker = new RawStream(server.url)
  worker.register(workerId, functionIds, max)
  await worker.next(REGISTERED)
  return worker
}

const place = async (data: Record<string, unknown> = { orderId: "o-1" }): Promise<string> => {
  const { runIds } = await client.emit("order.placed", data)
  return runIds[0]!
}

const completed = (job: Fields): ReadonlyArray<string> => job.all(5).map((step) => step.text(1))

describe("a legacy streaming worker", () => {
  it("registers with the bytes of the protocol, and gets an answer in them", async () => {
    await using worker = new RawStream(server.url)

    // register { worker_id: "w-1", hostname: "h", function_ids: ["ship"], max_concurrent_jobs: 2 }
    worker.send(Buffer.from("0a10" + "0a03772d31" + "120168" + "1a0473686970" + "2002", "hex"))
    const answer = await worker.bytes()

    // registered { worker_id: "w-1", heartbeat_interval_ms: 30000 }
    assert.strictEqual(answer.toString("hex"), "0a09" + "0a03772d31" + "10b0ea01")
    const [listed] = await client.listWorkers()
    assert.deepInclude(listed, { id: "w-1", hostname: "h", functionIds: ["ship"], maxConcurrentJobs: 2 })
    assert.strictEqual(listed?.transport, "connect")
  })

  it("gets a job, and completes it", async () => {
    await using worker = await startWorker()
    const runId = await place({ orderId: "o-1", amount: 3 })

    const job = await worker.job()
    assert.strictEqual(job.text(2), runId)
    assert.strictEqual(job.text(3), "ship")
    assert.strictEqual(job.int(7), 1)
    assert.strictEqual(job.message(4).text(2), "order.placed")
    assert.deepStrictEqual(job.message(4).struct(3), { orderId: "o-1", amount: 3 })
    assert.isAbove(job.message(4).message(6).int(1), 1_600_000_000)
    worker.send(message(7, text(1, job.text(1)), struct(2, { shipped: "yes" }), int(3, 5)))

    assert.deepStrictEqual((await client.waitForRun(runId)).output, { shipped: "yes" })
  })

  it("completes a job without an output, which it sends for a result that is no object", async () => {
    await using worker = await startWorker()
    const runId = await place()

    const job = await worker.job()
    worker.send(message(7, text(1, job.text(1))))

    const run = await client.waitForRun(runId)
    assert.deepStrictEqual([run.status, run.output ?? null], ["completed", null])
  })

  it("has its reported steps passed to the next worker of the run", async () => {
    const worker = await startWorker()
    const runId = await place()
    const job = await worker.job()

    worker.send(message(3, text(1, job.text(1)), text(2, `${runId}:charge:0`), text(3, "charge"), int(4, 1)))
    assert.deepInclude(await ackOf(worker), { stepId: `${runId}:charge:0`, accepted: 1 })
    worker.send(message(4, text(1, job.text(1)), text(2, `${runId}:charge:0`), struct(3, { receipt: "r-1" })))
    assert.deepInclude(await ackOf(worker), { stepId: `${runId}:charge:0`, accepted: 1 })
    // the attempt fails, and the steps stay recorded
    worker.send(
      message(8, text(1, job.text(1)), message(2, text(1, "no carrier"), text(2, "ERROR"), int(4, 1)))
    )
    const again = await worker.job()

    assert.deepStrictEqual(completed(again), [`${runId}:charge:0`])
    assert.deepStrictEqual(again.all(5)[0]!.struct(3), { receipt: "r-1" })
    assert.strictEqual(again.int(7), 2)
    await worker[Symbol.asyncDispose]()
  })

  it("fails a run for good, with the steps that it has executed", async () => {
    await using worker = await startWorker()
    const runId = await place()

    const job = await worker.job()
    const steps = [
      message(
        4,
        text(1, `${runId}:charge:0`),
        text(2, "charge"),
        text(3, "invoke"),
        text(4, "completed"),
        struct(5, { n: 1 })
      ),
      message(
        4,
        text(1, `${runId}:ship:0`),
        text(2, "ship"),
        text(3, "invoke"),
        text(4, "failed"),
        message(6, text(1, "x"))
      )
    ]
    worker.send(
      message(8, text(1, job.text(1)), message(2, text(1, "no carrier"), text(2, "NO_CARRIER")), ...steps)
    )

    const run = await client.waitForRun(runId)
    assert.deepInclude(run.error, { message: "no carrier", code: "NO_CARRIER" })
    assert.deepStrictEqual(
      (await client.getRunSteps(runId)).map(({ name, status }) => `${name} ${status}`),
      ["charge completed", "ship failed"]
    )
  })

  it("gets a run that sleeps again, with the step completed", async () => {
    await using worker = await startWorker()
    const runId = await place()

    const job = await worker.job()
    const sleep = message(3, timestamp(1, Date.now() + 5))
    worker.send(message(6, text(1, job.text(1)), text(2, `${runId}:nap:0`), sleep))
    assert.deepInclude(await ackOf(worker), { accepted: 1 })

    const awake = await worker.job()
    assert.notStrictEqual(awake.text(1), job.text(1))
    assert.deepStrictEqual(completed(awake), [`${runId}:nap:0`])
  })

  it("gets a run that waits for an event again, with the event", async () => {
    await using worker = await startWorker()
    const runId = await place()

    const job = await worker.job()
    const wait = message(4, text(1, "order.paid"), text(2, "data.orderId"), timestamp(4, Date.now() + 60_000))
    worker.send(message(6, text(1, job.text(1)), text(2, `${runId}:paid:0`), wait))
    await ackOf(worker)
    await client.emit("order.paid", { orderId: "o-2" })
    await client.emit("order.paid", { orderId: "o-1" })

    const awake = await worker.job()
    assert.deepStrictEqual(completed(awake), [`${runId}:paid:0`])
    const event = awake.all(5)[0]!.message(3)
    assert.isTrue(
      event.all(1).some((entry) => entry.text(1) === "name" && entry.message(2).text(3) === "order.paid")
    )
  })

  it("invokes a function by the field that this engine adds", async () => {
    await registerFunction("label", [])
    await using worker = await startWorker("w-1", 10, ["ship", "label"])
    const runId = await place()

    const job = await worker.job()
    worker.send(
      message(
        6,
        text(1, job.text(1)),
        text(2, `${runId}:label:0`),
        message(100, text(1, "label"), int(3, 60_000))
      )
    )
    await ackOf(worker)
    const child = await worker.job()
    assert.strictEqual(child.text(3), "label")
    worker.send(message(7, text(1, child.text(1)), struct(2, { label: "l-1" })))

    const awake = await worker.job()
    assert.strictEqual(awake.text(2), runId)
    assert.deepStrictEqual(awake.all(5)[0]!.struct(3), { label: "l-1" })
  })

  it("never gets more jobs than its limit", async () => {
    await using worker = await startWorker("w-1", 2)
    const runIds = await Promise.all([place(), place(), place()])

    const first = await worker.job()
    const second = await worker.job()
    worker.heartbeat("w-1", [first.text(1), second.text(1)])
    // the answer shows that the engine has read everything before it
    worker.send(message(3, text(1, first.text(1)), text(2, `${first.text(2)}:a:0`)))
    await ackOf(worker)
    assert.strictEqual(worker.waiting, 0)
    worker.send(message(7, text(1, first.text(1))))
    const third = await worker.job()

    assert.sameMembers([first.text(2), second.text(2), third.text(2)], runIds)
  })

  it("gets a message when its run is cancelled", async () => {
    await using worker = await startWorker()
    const runId = await place()
    const job = await worker.job()

    await client.cancelRun(runId, "out of stock")

    const cancel = await worker.next(CANCEL)
    assert.strictEqual(cancel.text(1), job.text(1))
    assert.notStrictEqual(cancel.text(2), "")
  })

  it("registers again under its id after a lost stream, and completes its job", async () => {
    const worker = await startWorker()
    const runId = await place()
    const job = await worker.job()
    await worker[Symbol.asyncDispose]()

    await using again = await startWorker()
    again.heartbeat("w-1", [job.text(1)])
    again.send(message(7, text(1, job.text(1)), struct(2, { n: 1 })))

    assert.deepStrictEqual((await client.waitForRun(runId)).output, { n: 1 })
  })

  it("that ends a job without a report has its run paused, with the reason", async () => {
    await using worker = await startWorker()
    const runId = await place()
    await worker.job()

    // older SDKs do this when a function sleeps
    worker.heartbeat("w-1", [])

    await vi.waitFor(async () => assert.strictEqual((await client.getRun(runId)).status, "paused"))
    assert.match((await client.explain(runId)).message, /returned the run without a result/)
  })

  it("that drops an unacknowledged job gets it again", async () => {
    await using worker = await startWorker()
    const runId = await place()
    await worker.next(JOB)

    worker.heartbeat("w-1", [])
    worker.heartbeat("w-1", [])

    const again = await worker.job()
    assert.strictEqual(again.text(2), runId)
  })
})

const ackOf = async (worker: RawStream) => {
  const ack = await worker.next(STEP_ACK)
  return { stepId: ack.text(1), accepted: ack.int(2), error: ack.text(3) }
}

describe("the port", () => {
  it.each<[string, Buffer, RegExp]>([
    ["begins with anything but a registration", envelope(message(2, text(1, "w-1"))), /first message/],
    ["sends bytes that are no message", envelope(Buffer.from("ffffffffffffffff", "hex")), /cannot be read/],
    [
      "sends a message that ends too early",
      envelope(Buffer.from("0a10", "hex")),
      /ends in the middle of a field/
    ],
    ["sends a compressed message", envelope(Buffer.from("00", "hex"), 1), /Compressed/],
    ["sends an envelope of another sort", envelope(Buffer.alloc(0), 4), /flags of a message must be 0/],
    ["announces too large a message", Buffer.from("00ffffffff", "hex"), /message of the worker/],
    ["has no id", envelope(message(1, text(2, "host"))), /worker id/]
  ])("ends the stream of a worker that %s, and says why", async (_, bytes, why) => {
    await using worker = new RawStream(server.url)
    worker.stream.write(bytes)

    await worker.closed()

    assert.match(worker.end?.error?.message ?? "", why)
    assert.strictEqual((await client.health()) !== undefined, true)
  })

  it("refuses a call of another content type", async () => {
    await using worker = new RawStream(server.url, { "content-type": "application/json" })
    const status = await new Promise((resolve) =>
      worker.stream.once("response", (headers) => resolve(headers[":status"]))
    )
    assert.strictEqual(status, 415)
  })

  it("answers plain requests over HTTP/2 as over HTTP/1.1", async () => {
    const session = http2.connect(server.url).on("error", () => undefined)
    const get = (path: string, headers: http2.OutgoingHttpHeaders = {}) =>
      new Promise<readonly [status: unknown, body: unknown]>((resolve, reject) => {
        const request = session.request({ ":path": path, ...headers })
        let status: unknown
        let body = ""
        request.on("response", (response) => (status = response[":status"]))
        request.on("data", (chunk) => (body += String(chunk)))
        request.on("end", () => resolve([status, JSON.parse(body)]))
        request.on("error", reject)
      })

    const [status, health] = await get("/health")
    assert.strictEqual(status, 200)
    assert.deepInclude(health, { status: "ok" })
    assert.strictEqual((await get("/nothing"))[0], 404)
    // a page of another site, whose host name points at this machine
    const page = { ":authority": "evil.example:9123", origin: "http://evil.example:9123" }
    assert.strictEqual((await get("/health", page))[0], 403)
    // a program that uses another host name
    assert.strictEqual((await get("/health", { ":authority": "ironflow:9123" }))[0], 200)
    assert.strictEqual((await fetch(`${server.url}/health`)).status, 200)
    session.close()
  })

  it("refuses the stream of a page with a foreign host name", async () => {
    await using worker = new RawStream(server.url, {
      ":authority": "evil.example",
      origin: "http://evil.example"
    })
    const status = await new Promise((resolve) =>
      worker.stream.once("response", (headers) => resolve(headers[":status"]))
    )
    assert.strictEqual(status, 403)
  })

  it("stops within about a second with open streams, and notifies their clients", async () => {
    await using worker = await startWorker()
    await using busy = await startWorker("w-2")
    await place()
    await Promise.race([worker.next(JOB), busy.next(JOB)])

    const begun = performance.now()
    await server.close()

    assert.isBelow(performance.now() - begun, 2500)
    await vi.waitFor(() => assert.isTrue(worker.sawGoAway && busy.sawGoAway))
    // a clean end, after which a legacy worker connects again at once
    assert.deepStrictEqual([worker.end, busy.end], [{}, {}])
    server = await start()
  })
})
