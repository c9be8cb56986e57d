/** Writes of stale holders: every transport refuses them, they have no effect, and `/metrics` counts them. */
import { afterEach, beforeEach, expect, it, vi } from "vitest"
import { type Ironflow, start } from "./Ironflow.ts"
import { type Answer, rpc, send } from "./RawClient.ts"
import { complete, RawTurnWorker, stepDone } from "./RawTurnWorker.ts"

let server: Ironflow
beforeEach(async () => {
  server = await start()
})
afterEach(() => server.close())

/** The counters by the label `kind`. */
const refused = async (): Promise<Record<string, number>> => {
  const { text } = await send(server.url, "GET", "/metrics")
  const lines = text.matchAll(/^ironflow_stale_writes_refused_total\{kind="(\w+)"\} (\d+)$/gm)
  return Object.fromEntries(Array.from(lines, ([, kind, count]) => [kind, Number(count)]))
}

const none = { report: 0, renewal: 0, projection: 0, ack: 0 }

const steps = async (runId: string): Promise<ReadonlyArray<unknown>> =>
  (await send(server.url, "GET", `/api/v1/runs/${runId}/steps`)).body.steps

/** A worker with a run that has been cancelled since. */
const stale = async () => {
  const worker = new RawTurnWorker(server.url)
  await worker.register()
  await rpc(server.url, "Trigger", { event: "order.placed", data: {} })
  const { body } = await worker.poll({ asked: 1 })
  const { jobId, runId } = body.deliveries[0].job
  await rpc(server.url, "CancelRun", { id: runId })
  return { worker, jobId, runId }
}

it("writes of a current holder are not counted", async () => {
  const worker = new RawTurnWorker(server.url)
  await worker.register()
  await rpc(server.url, "Trigger", { event: "order.placed", data: {} })
  const { body } = await worker.poll({ asked: 1 })
  const { jobId, runId } = body.deliveries[0].job
  await worker.report(1, [{ jobId, runId, ops: [stepDone("charge:0", 1)] }])
  await worker.report(2, [{ jobId, runId, ops: [complete(1)] }])

  expect(await refused()).toEqual(none)
})

it.each<readonly [string, (job: Awaited<ReturnType<typeof stale>>) => Promise<Answer>, number]>([
  [
    "a report",
    ({ jobId, runId, worker }) => worker.report(1, [{ jobId, runId, ops: [stepDone("charge:0", 1)] }]),
    200
  ],
  [
    "a step.tx",
    ({ jobId, runId, worker }) =>
      worker.report(1, [
        {
          jobId,
          runId,
          ops: [
            {
              _tag: "Transact",
              stepKey: "pay:0",
              name: "pay",
              value: "1",
              writes: [],
              attempt: 1,
              startedAt: 1,
              endedAt: 2
            }
          ]
        }
      ]),
    200
  ],
  [
    "the report of a push handler",
    ({ jobId, runId }) =>
      send(server.url, "POST", `/api/v1/push/turns/${jobId}`, { runId, ops: [stepDone("charge:0", 1)] }),
    200
  ],
  ...["progress", "completed", "failed"].map(
    (status) =>
      [
        `"${status}" of a legacy worker`,
        ({ jobId, runId }: Awaited<ReturnType<typeof stale>>) =>
          send(server.url, "PUT", `/api/v1/workers/w-2/jobs/${jobId}~${runId}`, { status }),
        409
      ] as const
  )
])("%s is counted as a report", async (_, write, status) => {
  const job = await stale()

  expect((await write(job)).status).toBe(status)

  expect(await refused()).toEqual({ ...none, report: 1 })
  expect(await steps(job.runId)).toEqual([])
})

it("a batch of reports that comes after a later one is counted as a report", async () => {
  const { jobId, runId, worker } = await stale()
  await worker.report(2, [])
  expect((await worker.report(1, [{ jobId, runId, ops: [complete(1)] }])).body.code).toBe("STALE_BATCH")

  expect(await refused()).toEqual({ ...none, report: 1 })
})

it("a late start of a lost job is counted as a renewal", async () => {
  const { jobId, runId } = await stale()
  for (const id of [`${jobId}~${runId}`, "of-another-server"]) {
    const answer = await send(server.url, "PUT", `/api/v1/workers/w-2/jobs/${id}/ack`, {})
    expect([answer.status, answer.body.code]).toEqual([409, "STALE_EXECUTION"])
  }

  expect(await refused()).toEqual({ ...none, renewal: 2 })
})

it("a save of a projection that belongs to another is counted as a projection", async () => {
  const registration = { name: "totals", events: ["order.*"], mode: "managed" }
  const claim = (workerId: string) =>
    send(server.url, "POST", "/api/v1/projections/totals/owner/claim", { workerId, registration })
  await claim("worker-1")
  const saved = await rpc(
    server.url,
    "SaveProjectionState",
    { name: "totals", state: {}, lastEventId: "evt_1", lastEventSeq: "1" },
    "ProjectionService"
  )
  expect(saved.status).toBe(409)

  expect(await refused()).toEqual({ ...none, projection: 1 })
})

it("an ack of a message that a member no longer holds is counted as an ack", async () => {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/ws`)
  // oxlint-disable-next-line typescript/no-explicit-any -- the test checks the frames
  const frames: Array<any> = []
  socket.addEventListener("message", ({ data }) => frames.push(JSON.parse(String(data))))
  await new Promise((resolve) => socket.addEventListener("open", resolve))
  const sendFrame = (frame: object) => socket.send(JSON.stringify(frame))
  const options = { consumerGroup: "packers", ackMode: "manual" }
  sendFrame({ type: "subscribe", subscription: { pattern: "events:order.*", options } })
  await vi.waitFor(() => expect(frames).toHaveLength(1))
  await rpc(server.url, "Trigger", { event: "order.placed", data: {} })
  await vi.waitFor(() => expect(frames).toHaveLength(2))

  for (let i = 0; i < 2; i++)
    sendFrame({ type: "ack", eventId: frames[1].eventId, ackType: "ack", requestId: i })
  await vi.waitFor(() => expect(frames).toHaveLength(4))

  expect(frames.slice(2).map(({ code, status }) => code ?? status)).toEqual(["ok", "NOT_HELD"])
  expect(await refused()).toEqual({ ...none, ack: 1 })
  socket.close()
})
