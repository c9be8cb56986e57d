/** Our tables for protocol buffers beside the code that is generated from `worker.proto`: each reads what the other writes. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import { assert, describe, it } from "vitest"
import { ValidationError } from "../../../src/Errors.ts"
import { engineMessage, workerMessage } from "../../../src/Protocol/Connect/Messages.ts"
import { decode, encode } from "../../../src/Protocol/Connect/Wire.ts"
import { EngineMessageSchema, WorkerMessageSchema } from "../../../src/Protocol/Connect/worker_pb.ts"

const json = {
  text: "grün",
  number: -1.5,
  large: 1e300,
  yes: true,
  no: false,
  nothing: null,
  list: [1, [], {}],
  deep: { a: { b: ["c"] } }
}

describe("messages of workers", () => {
  it.each([
    [
      "register",
      {
        workerId: "w-1",
        hostname: "h",
        functionIds: ["a", "b"],
        maxConcurrentJobs: 300,
        labels: { region: "south", "": "" },
        version: { sdk: "1", runtime: "node" },
        turns: "{}"
      }
    ],
    ["heartbeat", { workerId: "w-1", activeJobs: 1, jobs: [{ jobId: "j", startedAt: 1_700_000_000_123 }] }],
    ["stepCompleted", { jobId: "j", stepId: "s", output: json, durationMs: 5 }],
    [
      "jobFailed",
      {
        jobId: "j",
        error: { message: "m", code: "C", retryable: true },
        steps: [{ id: "s", name: "n", status: "failed", error: { message: "x" } }]
      }
    ],
    ["turnCall", { id: 2 ** 31 - 1, call: "report", body: "x".repeat(100_000) }]
  ] as const)("%s: reads what generated code writes", (kind, fields) => {
    const value = structuredClone(fields) as Record<string, unknown>
    for (const job of (value.jobs ?? []) as Array<Record<string, unknown>>) {
      job.startedAt = timestampFromMs(Number(job.startedAt))
    }
    // the generated types have these fields
    const bytes = toBinary(
      WorkerMessageSchema,
      create(WorkerMessageSchema, { payload: { case: kind, value } } as never)
    )

    assert.deepStrictEqual(decode(workerMessage, Buffer.from(bytes)), { [kind]: fields })
  })

  it("skips fields that it does not know", () => {
    const known = encode(workerMessage, { turnCall: { id: 1 } })
    const unknown = Buffer.from("ba3e03616263" + "d03e9601" + "d93e0000000000000000" + "dd3e00000000", "hex")

    assert.deepStrictEqual(decode(workerMessage, Buffer.concat([unknown, known, unknown])), {
      turnCall: { id: 1 }
    })
  })

  it("treats a key of any name as plain data", () => {
    const output = JSON.parse('{"__proto__": {"polluted": true}, "constructor": 1}')
    const { stepCompleted } = decode(
      workerMessage,
      encode(workerMessage, { stepCompleted: { jobId: "j", output } })
    )

    assert.deepStrictEqual(Object.keys(Object(stepCompleted).output), ["__proto__", "constructor"])
    assert.isUndefined(Object({}).polluted)
  })

  it.each([
    ["a length that exceeds the message", "0a10"],
    ["a number that is too long", "ffffffffffffffffffffff"],
    ["an unknown type of a field", "0b"],
    [
      "a number that JSON does not have",
      encode(workerMessage, { jobCompleted: { output: { n: Number.NaN } } }).toString("hex")
    ]
  ])("%s is refused", (_, hex) => {
    assert.throws(() => decode(workerMessage, Buffer.from(hex, "hex")), ValidationError)
  })

  it("refuses messages that are nested too deeply, and survives any bytes", () => {
    let deep: unknown = 1
    for (let i = 0; i < 500; i++) deep = [deep]
    const bytes = encode(workerMessage, { jobCompleted: { jobId: "j", output: { deep } } })
    assert.throws(() => decode(workerMessage, bytes), /levels deep/)

    let state = 7
    const next = () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 24
    for (let i = 0; i < 20_000; i++) {
      const junk = Buffer.from(Array.from({ length: next() % 64 }, next))
      try {
        decode(workerMessage, junk)
      } catch (error) {
        assert.instanceOf(error, ValidationError, `seed 7, round ${i}`)
      }
    }
  })
})

describe("messages of engines", () => {
  it("are read by generated code", () => {
    const bytes = encode(engineMessage, {
      job: {
        jobId: "j",
        runId: "r",
        functionId: "f",
        attempt: 2,
        event: { id: "e", name: "order.placed", data: json, timestamp: 1_700_000_000_123, version: 1 },
        completedSteps: [
          { stepId: "r:a:0", name: "a", output: { n: 1 } },
          { stepId: "r:nap:0", name: "nap" }
        ],
        context: { secrets: { KEY: "value" } }
      }
    })

    const { payload } = fromBinary(EngineMessageSchema, bytes)

    assert.strictEqual(payload.case, "job")
    if (payload.case !== "job") return
    const { completedSteps, context, event } = payload.value
    assert.deepStrictEqual(event?.data, json)
    assert.deepStrictEqual(event?.timestamp, timestampFromMs(1_700_000_000_123))
    assert.deepStrictEqual(
      completedSteps.map(({ output, stepId }) => [stepId, output]),
      [
        ["r:a:0", { n: 1 }],
        ["r:nap:0", undefined]
      ]
    )
    assert.deepStrictEqual({ ...context?.secrets }, { KEY: "value" })
  })
})
