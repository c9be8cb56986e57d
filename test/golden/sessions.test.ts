/**
 * Short sessions on everything that is more than a request and its answer: subscriptions, watches, the channel, workers of
 * every kind, and push. Recorded in `sessions.json`.
 */
import { fromBinary, toJson } from "@bufbuild/protobuf"
import { afterAll, assert, describe, it } from "vitest"
import { EngineMessageSchema, WorkerMessageSchema } from "../../src/Protocol/Connect/worker_pb.ts"
import { type CallName, callSpecs, type SocketName, sockets } from "../../src/Protocol/AllCalls.ts"
import type { Asked } from "../Client/ScriptedServer.ts"
import { RawEvents } from "../wire/RawEvents.ts"
import { int, message, RawStream, struct, text, timestamp } from "../wire/RawStream.ts"
import { complete, registrationOf, stepDone } from "../wire/RawTurnWorker.ts"
import { stepResult } from "../wire/RawWorker.ts"
import { answerOf, ok, requestOf, rpc } from "./Noun.ts"
import { Rig, type Sent } from "./Rig.ts"
import { Inbox, Session } from "./Session.ts"
import { type Entry, Names, Transcript } from "./Transcript.ts"

/** The sessions, with the sockets and streams that they use. */
const sessions = {
  "events over a WebSocket": ["subscriptions"],
  "a consumer group over a WebSocket": ["subscriptions"],
  "frames that are wrong": ["subscriptions"],
  "a watch of keys": ["watchKeys"],
  "a watch of a configuration": ["watchConfig"],
  "watches that are refused": ["watchKeys", "watchConfig"],
  "the channel": ["channel"],
  "events over ConnectRPC": ["subscribe"],
  "a consumer group over ConnectRPC": ["joinConsumerGroup"],
  "a worker that polls for turns": [],
  "a worker that polls for jobs": [],
  "a worker over rpc": ["workers"],
  "a worker over ConnectRPC": [],
  "a worker over ConnectRPC that speaks turns": [],
  "a push handler of this package": [],
  "another push handler": []
} as const satisfies Record<string, ReadonlyArray<SocketName | CallName>>
type SessionName = keyof typeof sessions

const transcript = new Transcript("sessions", Object.keys(sessions))
afterAll(() => transcript.finish())

const session = (
  name: SessionName,
  talk: (rig: Rig, names: Names) => Promise<ReadonlyArray<Entry>>
): void => {
  it(`${name} is as recorded`, async () => {
    await using rig = await Rig.start()
    transcript.check(name, await talk(rig, new Names()))
  })
}

it("every socket and every stream has a session", () => {
  const covered = new Set<string>(Object.values(sessions).flat())
  const streams = Object.entries(callSpecs).filter(([, spec]) => "streams" in spec)

  assert.sameMembers([...covered], [...Object.keys(sockets), ...streams.map(([name]) => name)])
})

const emit = (rig: Rig, event: string, data: unknown, more: object = {}) =>
  rpc(rig, "Trigger", { event, data, ...more })
const publish = (rig: Rig, topic: string, data: unknown) =>
  rpc(rig, "Publish", { topic, data }, "PubSubService")
const subscribe = (pattern: string, options: object = {}, more: object = {}) => ({
  type: "subscribe",
  subscription: { pattern, options, ...more }
})

describe("subscriptions", () => {
  session("events over a WebSocket", async (rig, names) => {
    await emit(rig, "order.placed", { total: 1 }, { metadata: { by: "me" } })
    const socket = await Session.open(rig, "/ws", { names })

    const { results } = await socket.ask(subscribe("events:order.*", { replay: 1, includeMetadata: true }))
    await socket.next()
    await rig.pass(10)
    await emit(rig, "order.paid", { total: 2 }, { version: 2 })
    await socket.next()
    socket.send({ type: "unsubscribe", subscriptionId: results[0].subscriptionId })

    await socket.ask(subscribe("events:order.*", { filter: "event.data.total > 2" }, { resume: {} }))
    await emit(rig, "order.placed", { total: 2 })
    await emit(rig, "order.placed", { total: 3 }, { metadata: { by: "me" } })
    const { position } = await socket.next()
    await socket.ask(subscribe("events:order.*", { include_metadata: true }, { resume: { after: position } }))

    await socket.ask(subscribe("news"))
    await publish(rig, "news", { a: 1 })
    await socket.next()
    await socket.ask(subscribe("entity:o-1"))
    await socket.ask(subscribe("entity:order.o-1.>"))
    const appended = { entityId: "o-1", entityType: "order", eventName: "bill.sent", data: { b: 1 } }
    await rpc(rig, "AppendEvent", appended, "EntityStreamService")
    await socket.next()
    await socket.ask(subscribe("system.run.>"))
    await rpc(rig, "RegisterFunction", { id: "ship", triggers: [{ event: "mail.due" }] })
    const { runIds } = await emit(rig, "mail.due", {})
    await socket.next()
    await rpc(rig, "CancelRun", { id: runIds[0] })
    await socket.next()
    await socket.close()
    return socket.entries
  })

  session("a consumer group over a WebSocket", async (rig, names) => {
    const socket = await Session.open(rig, "/ws", { names })
    const options = { consumerGroup: "printers", ackMode: "manual", ackWait: 30_000, backpressure: "block" }

    const { results } = await socket.ask(subscribe("events:order.*", options, { resume: {}, capacity: 2 }))
    const { subscriptionId } = results[0]
    await emit(rig, "order.placed", { n: 1 })
    const first = await socket.next()
    await socket.ask({ type: "in_progress", subscriptionId, requestId: 1 })
    await socket.ask({
      type: "ack",
      eventId: first.eventId,
      ackType: "nak",
      redeliverDelay: 100,
      reason: "no paper",
      requestId: 2
    })
    await rig.passNext(100)
    const again = await socket.next()
    await socket.ask({ type: "ack", eventId: again.eventId, ackType: "ack", subscriptionId, requestId: 3 })
    await socket.ask({ type: "ack", eventId: again.eventId, ackType: "ack", requestId: 4 })
    await emit(rig, "order.placed", { n: 2 })
    const second = await socket.next()
    await socket.ask({
      type: "ack",
      eventId: second.eventId,
      ackType: "term",
      reason: "no such order",
      requestId: 5
    })
    await socket.ask({ type: "ack", eventId: "evt_none", ackType: "later", requestId: 6 })
    await ok(rig, "DELETE", "/api/v1/consumer-groups/printers")
    await socket.next()
    await socket.close()
    return socket.entries
  })

  session("frames that are wrong", async (rig, names) => {
    const socket = await Session.open(rig, "/ws", { names })
    for (const frame of [
      "{",
      [],
      {},
      { type: "dance" },
      { type: "subscribe" },
      { type: "subscribe", subscription: {} },
      subscribe("order..x"),
      subscribe("events:order.*", { filter: "event. >" }),
      subscribe("events:order.*", { replay: "many" }),
      subscribe("events:order.*", { replay: 100_000 }),
      subscribe("events:order.*", { ackMode: "never" }),
      subscribe("events:order.*", { backpressure: "push" }),
      subscribe("events:order.*", { buffer: { maxBytes: 1 } }),
      subscribe("events:order.*", { ackWait: 1 }),
      subscribe("events:order.*", { namespace: "shop" }),
      subscribe("events:order.*", { consumerGroup: "a b" }),
      subscribe("events:order.*", { unheardOf: 1 }),
      subscribe("events:order.*", {}, { resume: { after: "x.y" } }),
      { type: "unsubscribe", subscriptionId: "sub_none" },
      { type: "unsubscribe" },
      { type: "ack" },
      { type: "ack", eventId: "evt_none", ackType: "ack" },
      { type: "in_progress", subscriptionId: "sub_none", requestId: 1 }
    ]) {
      await socket.ask(frame)
    }
    await socket.ask(`{"type":${"[".repeat(200)}${"]".repeat(200)}}`)
    await socket.next()
    return socket.entries
  })

  /** The session of a subscriber over HTTP, with and without HTTP/2. */
  const overConnect = async (
    rig: Rig,
    names: Names,
    method: "Subscribe" | "JoinConsumerGroup",
    message: object,
    act: () => Promise<unknown>,
    count: number
  ): Promise<ReadonlyArray<Entry>> => {
    const entries: Array<Entry> = []
    for (const open of ["open", "openHttp2"] as const) {
      using events = await RawEvents[open](rig.url, message, { method })
      for (let i = 0; i < count; i++) await act()
      await events.take(count)
      if (method === "JoinConsumerGroup" && open === "openHttp2") {
        await ok(rig, "DELETE", "/api/v1/consumer-groups/printers")
        await events.over()
      }
      const headers = Object.fromEntries(
        [...events.headers].filter(([name]) => !/^(date|connection|keep-alive|transfer-encoding)$/.test(name))
      )
      entries.push({
        how: open,
        sent: message,
        status: events.status,
        headers,
        came: JSON.parse(names.in(JSON.stringify(events.events))),
        end: events.end === undefined ? undefined : JSON.parse(names.in(JSON.stringify(events.end)))
      })
    }
    return entries
  }

  session("events over ConnectRPC", async (rig, names) => {
    await emit(rig, "order.placed", { total: 1 }, { metadata: { by: "me" } })
    const options = { replay: 1, includeMetadata: true, filter: "event.data.total > 0" }
    const entries = [
      ...(await overConnect(
        rig,
        names,
        "Subscribe",
        { pattern: "events:order.*", options },
        () => emit(rig, "order.paid", { total: 2 }),
        2
      )),
      ...(await overConnect(
        rig,
        names,
        "Subscribe",
        { pattern: "news", options: { include_metadata: false } },
        () => publish(rig, "news", 5),
        1
      ))
    ]
    for (const wrong of [
      {},
      { pattern: 5 },
      { pattern: "order..x" },
      { pattern: "news", options: { filter: "event. >" } },
      { pattern: "news", options: { replay: "many" } },
      { pattern: "news", options: { ackMode: 9 } },
      { pattern: "news", options: { ackMode: "ACK_MODE_MANUAL" } }
    ]) {
      using events = await RawEvents.open(rig.url, wrong)
      await events.over()
      entries.push({ how: "open", sent: wrong, status: events.status, end: events.end })
    }
    using bare = await RawEvents.open(rig.url, {}, { body: Buffer.from("{}") })
    await bare.over()
    entries.push({ how: "without an envelope", status: bare.status, end: bare.end, text: bare.text })
    return entries
  })

  session("a consumer group over ConnectRPC", async (rig, names) => {
    await ok(rig, "POST", "/api/v1/consumer-groups", { name: "printers", pattern: "events:order.*" })
    const entries: Array<Entry> = []
    for (const wrong of [{}, { groupName: "nobody" }, { groupName: "printers", namespace: "nowhere" }]) {
      using events = await RawEvents.open(rig.url, wrong, { method: "JoinConsumerGroup" })
      await events.over()
      entries.push({ how: "open", sent: wrong, status: events.status, end: events.end })
    }
    const member = { group_name: "printers", consumer_id: "c-1", client_id: "m-1" }
    return [
      ...entries,
      ...(await overConnect(
        rig,
        names,
        "JoinConsumerGroup",
        member,
        () => emit(rig, "order.placed", { n: 1 }),
        1
      ))
    ]
  })
})

describe("watches", () => {
  const put = (rig: Rig, key: string, value: unknown) =>
    ok(rig, "PUT", `/api/v1/kv/buckets/carts/keys/${key}`, value)

  session("a watch of keys", async (rig, names) => {
    await ok(rig, "POST", "/api/v1/kv/buckets", { name: "carts", history: 3, ttlSeconds: 60 })
    await put(rig, "c-1", { a: 1 })
    await rig.pass(10)
    const socket = await Session.open(rig, "/api/v1/kv/buckets/carts/watch?key=c-*&revision=0", { names })
    await socket.next()
    await socket.next()
    await put(rig, "d-1", 1)
    await put(rig, "c-2", "2")
    await socket.next()
    await ok(rig, "DELETE", "/api/v1/kv/buckets/carts/keys/c-1")
    await socket.next()
    await ok(rig, "DELETE", "/api/v1/kv/buckets/carts")
    await socket.next()
    return socket.entries
  })

  session("a watch of a configuration", async (rig, names) => {
    await ok(rig, "POST", "/api/v1/config/prices", { vat: 0.1 })
    const socket = await Session.open(rig, "/api/v1/config/prices/watch?revision=now", { names })
    await socket.next()
    await rig.pass(10)
    await ok(rig, "PATCH", "/api/v1/config/prices", { fee: 1 })
    await socket.next()
    await ok(rig, "DELETE", "/api/v1/config/prices")
    await socket.next()
    await socket.close()
    return socket.entries
  })

  session("watches that are refused", async (rig, names) => {
    const entries: Array<Entry> = []
    for (const path of [
      "/api/v1/kv/buckets/a%20b/watch",
      "/api/v1/kv/buckets/carts/watch?revision=new",
      "/api/v1/kv/buckets/carts/watch?key=c..x",
      "/api/v1/config/prices/watch?revision=new"
    ]) {
      const headers = {
        connection: "Upgrade",
        upgrade: "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA=="
      }
      const got = await rig.send({ method: "GET", path, headers })
      entries.push({ request: `GET ${path}`, answer: answerOf(got, names) })
    }
    const socket = await Session.open(rig, "/api/v1/kv/buckets/nowhere/watch", { names })
    await socket.next()
    await socket.next()
    return [...entries, ...socket.entries]
  })
})

session("the channel", async (rig, names) => {
  const socket = await Session.open(rig, sockets.channel.path, {
    names,
    headers: { "x-ironflow-environment": "default" }
  })
  const call = (id: number, line: string, body: string) => `${id} ${line} ${body.length}\n${body}`

  await socket.ask(call(1, "POST /ironflow.v1.IronflowService/Trigger", '{"event":"order.placed","data":1}'))
  await socket.ask(call(2, "GET /api/v1/runs?limit=1", ""))
  await socket.ask(call(3, "POST /ironflow.v1.IronflowService/GetRun", '{"id":"run_none"}'))
  await socket.ask(call(4, "GET /api/v1/runs/run_none/explain", ""))
  await socket.ask(call(5, "GET /api/v1/nothing", ""))
  await socket.ask(call(6, "PATCH /api/v1/runs", ""))
  await socket.ask(call(7, "DELETE /api/v1/secrets/NONE", ""))
  await socket.ask(call(8, "POST /ironflow.v1.IronflowService/Trigger", "{"))
  socket.send("9 CANCEL - 0\n")
  await socket.ask("no frame")
  return socket.entries
})

describe("workers", () => {
  /** Sends requests one after the other, and records them with their answers. */
  const talk = (rig: Rig, names: Names) => {
    const entries: Array<Entry> = []
    const ask = async (sent: Sent) => {
      const request = requestOf(sent, names)
      const got = await rig.send(sent)
      entries.push({ ...request, answer: answerOf(got, names) })
      // oxlint-disable-next-line typescript/no-explicit-any -- the tests check what the engine answers
      return (got.text === "" ? undefined : JSON.parse(got.text)) as any
    }
    return { entries, ask }
  }
  const order = (rig: Rig) => emit(rig, "order.placed", { id: "o-1" })
  const registering = (workerId: string) => ({
    worker_id: workerId,
    hostname: "host-1",
    function_ids: ["ship-order"],
    max_concurrent_jobs: 10,
    labels: {},
    version: { sdk: "0.0.1", runtime: "node" },
    capabilities: { turns: 1, renewals: true },
    registration: {
      ...registrationOf(workerId, [{ id: "ship-order", event: "order.placed" }]),
      pauses: true
    },
    instance: "instance-1",
    jobs: []
  })

  session("a worker that polls for turns", async (rig, names) => {
    const { ask, entries } = talk(rig, names)
    const post = (path: string, body: object, waitsMs?: number) =>
      ask({ method: "POST", path: `/api/v1/workers/worker-1/${path}`, body, waitsMs })
    const { session } = await post("register", registering("worker-1"))
    await order(rig)
    const first = await post("turns/poll", { session, asked: 1, seen: 0, waitMs: 1000 })
    const { jobId, runId } = first.deliveries[0].job
    await rig.pass(10)
    await post("turns/reports", {
      session,
      batch: 1,
      reports: [{ jobId, runId, ops: [stepDone("charge:0", { a: 1 })] }]
    })
    await rpc(rig, "PauseRun", { id: runId, reason: "look" })
    await post("turns/poll", { session, seen: 1, waitMs: 1000, holding: [jobId] })
    await rpc(rig, "CancelRun", { id: runId, reason: "over" })
    await post("turns/poll", { session, seen: 2, waitMs: 1000 })
    await post("turns/reports", { session, batch: 2, reports: [{ jobId, runId, ops: [complete(1)] }] })
    await order(rig)
    const second = await post("turns/poll", { session, asked: 2, seen: 3, waitMs: 1000 })
    const { job } = second.deliveries[0]
    await post("turns/reports", {
      session,
      batch: 3,
      reports: [
        { jobId: job.jobId, runId: job.runId, ops: [stepDone("charge:0", 1), complete({ ok: true })] }
      ]
    })
    await post("turns/late", { session, runId: job.runId, stepName: "pack", lingerMs: 0 })
    await post("turns/poll", { session, seen: 4, waitMs: 5 }, 5)
    await ask({ method: "DELETE", path: `/api/v1/workers/worker-1?session=${session}` })
    await post("turns/poll", { session, seen: 4, waitMs: 5 })
    return entries
  })

  session("a worker that polls for jobs", async (rig, names) => {
    const { ask, entries } = talk(rig, names)
    const at = "/api/v1/workers/worker-1"
    await ask({
      method: "POST",
      path: "/ironflow.v1.IronflowService/RegisterFunction",
      body: {
        id: "ship-order",
        triggers: [{ event: "order.placed" }],
        retry: { maxAttempts: 2, initialDelayMs: 10 }
      }
    })
    await ask({
      method: "POST",
      path: `${at}/register`,
      body: { worker_id: "worker-1", hostname: "h", function_ids: ["ship-order"] }
    })
    await ask({ method: "GET", path: `${at}/jobs` })
    await order(rig)
    const job = await ask({ method: "GET", path: `${at}/jobs` })
    const put = (id: string, body: object) => ask({ method: "PUT", path: `${at}/jobs/${id}`, body })
    await ask({ method: "PUT", path: `${at}/jobs/${job.job_id}/ack`, body: {} })
    await put(job.job_id, {
      status: "progress",
      steps: [stepResult(job, "charge", { output: { paid: true } })]
    })
    await ask({
      method: "POST",
      path: `${at}/heartbeat`,
      body: { worker_id: "worker-1", active_jobs: 1, jobs: [{ job_id: job.job_id }] }
    })
    await put(job.job_id, {
      status: "yielded",
      yield: {
        type: "wait_for_event",
        step_id: `${job.run_id}:paid:0`,
        event_filter: { event: "order.paid", timeout: "1h" }
      }
    })
    await emit(rig, "order.paid", { by: "card" })
    const again = await ask({ method: "GET", path: `${at}/jobs?available=2` })
    await put(again.jobs[0].job_id, {
      status: "failed",
      error: { message: "no paper", code: "PAPER", retryable: true }
    })
    await rig.pass(20)
    const last = await ask({ method: "GET", path: `${at}/jobs` })
    await put(last.job_id, { status: "completed", output: { ok: true } })
    await put(last.job_id, { status: "completed", output: { ok: true } })
    await ask({ method: "DELETE", path: at })
    return entries
  })

  session("a worker over rpc", async (rig, names) => {
    const socket = await Session.open(rig, sockets.workers.path, { names })
    const call = (id: number, tag: string, payload: object) => ({
      _tag: "Request",
      id: String(id),
      tag,
      payload,
      headers: []
    })
    const chunk = await socket.ask(call(1, "work", registering("worker-1")))
    const { session } = chunk.values[0].registered
    socket.send({ _tag: "Ack", requestId: "1" })
    await socket.ask(call(2, "room", { session, asked: 1, withdrawn: 0 }))
    await order(rig)
    const { values } = await socket.next()
    const { jobId, runId } = values[0].deliveries[0].job
    socket.send({ _tag: "Ack", requestId: "1" })
    await socket.ask(
      call(3, "report", { session, batch: 1, reports: [{ jobId, runId, ops: [stepDone("charge:0", 1)] }] })
    )
    await rpc(rig, "CancelRun", { id: runId, reason: "over" })
    await socket.next()
    socket.send({ _tag: "Ack", requestId: "1" })
    await socket.ask(
      call(4, "report", { session, batch: 2, reports: [{ jobId, runId, ops: [complete(1)] }] })
    )
    await socket.ask(call(5, "late", { session, runId, stepName: "pack", lingerMs: 0 }))
    await socket.ask(call(6, "report", { session }))
    await socket.ask(call(7, "leave", { session }))
    return socket.entries
  })

  /** A stream of protocol buffers, which records their content as JSON. */
  const stream = (rig: Rig, names: Names) => {
    const raw = new RawStream(rig.url)
    const entries: Array<Entry> = []
    return {
      raw,
      entries,
      send: (bytes: Buffer): void => {
        entries.push({
          sent: JSON.parse(
            names.in(JSON.stringify(toJson(WorkerMessageSchema, fromBinary(WorkerMessageSchema, bytes))))
          )
        })
        raw.send(bytes)
      },
      next: async () => {
        const timeout = new Promise<never>((_, reject) =>
          setTimeout(
            () => reject(new Error(`Nothing more comes after ${JSON.stringify(entries.slice(-4))}`)),
            10_000
          ).unref()
        )
        const engineMessage = fromBinary(EngineMessageSchema, await Promise.race([raw.bytes(), timeout]))
        entries.push({
          came: JSON.parse(names.in(JSON.stringify(toJson(EngineMessageSchema, engineMessage))))
        })
        return engineMessage.payload.value as never as Record<string, string>
      },
      over: async () => {
        raw.stream.end()
        await raw.closed()
        entries.push({ end: raw.end })
        await raw[Symbol.asyncDispose]()
      }
    }
  }
  const register = (more: ReadonlyArray<Buffer> = []) =>
    message(
      1,
      text(1, "worker-1"),
      text(2, "host-1"),
      text(3, "ship-order"),
      int(4, 2),
      message(6, text(1, "0.0.1"), text(2, "node")),
      ...more
    )

  session("a worker over ConnectRPC", async (rig, names) => {
    await rpc(rig, "RegisterFunction", {
      id: "ship-order",
      triggers: [{ event: "order.placed" }],
      retry: { maxAttempts: 2, initialDelayMs: 10 }
    })
    const { next, over, entries, send } = stream(rig, names)
    send(register())
    await next()
    const { runIds } = await order(rig)
    const { jobId = "" } = await next()
    send(message(9, text(1, jobId)))
    const step = `${runIds[0]}:charge:0`
    send(message(3, text(1, jobId), text(2, step), text(3, "charge"), int(4, 1)))
    await next()
    send(message(4, text(1, jobId), text(2, step), struct(3, { receipt: "r-1" })))
    await next()
    send(
      message(
        2,
        text(1, "worker-1"),
        int(2, 1),
        message(3, text(1, jobId), timestamp(2, Date.UTC(2030, 0, 1)))
      )
    )
    const nap = `${runIds[0]}:nap:0`
    send(message(6, text(1, jobId), text(2, nap), message(3, timestamp(1, Date.UTC(2030, 0, 1) + 5))))
    await next()
    await rig.passNext(5)
    const again = await next()
    send(
      message(8, text(1, again.jobId!), message(2, text(1, "no carrier"), text(2, "NO_CARRIER"), int(4, 1)))
    )
    await rig.passNext(10)
    const third = await next()
    await rpc(rig, "CancelRun", { id: runIds[0], reason: "over" })
    await next()
    send(message(7, text(1, third.jobId!), struct(2, { shipped: "yes" })))
    await over()
    return entries
  })

  session("a worker over ConnectRPC that speaks turns", async (rig, names) => {
    const { next, over, entries, send } = stream(rig, names)
    const turnCall = (id: number, call: string, body: object) =>
      message(100, int(1, id), text(2, call), text(3, JSON.stringify(body)))
    send(register([text(100, JSON.stringify(registering("worker-1")))]))
    const { turns = "" } = await next()
    const { session } = JSON.parse(turns)
    send(turnCall(1, "room", { session, asked: 1, withdrawn: 0 }))
    await next()
    await order(rig)
    const { body = "" } = await next()
    const { jobId, runId } = JSON.parse(body).deliveries[0].job
    send(turnCall(2, "report", { session, batch: 1, reports: [{ jobId, runId, ops: [complete(1)] }] }))
    await next()
    send(turnCall(3, "report", { session }))
    await next()
    send(turnCall(4, "leave", { session }))
    await over()
    return entries
  })
})

describe("push", () => {
  /** A handler that records its requests, and gives the configured answers. */
  const handler = async (rig: Rig, names: Names, answers: ReadonlyArray<(asked: Asked) => object>) => {
    const entries: Array<Entry> = []
    const requests = new Inbox<Asked>()
    let i = 0
    const server = await rig.listen((request) => {
      const {
        "x-ironflow-signature": signature,
        host: _,
        connection: __,
        "content-length": ___,
        ...headers
      } = request.headers
      const body = answers[i++]!(request)
      entries.push({
        asked: `${request.method} ${request.path}`,
        headers: { ...headers, "x-ironflow-signature": String(signature).replace(/[0-9a-f]{64}/, "<hmac>") },
        body: JSON.parse(names.in(JSON.stringify(request.body))),
        answered: JSON.parse(names.in(JSON.stringify(body)))
      })
      requests.put(request)
      return { body }
    })
    const url = `${server.url}/handler`
    return { entries, asked: requests, url }
  }
  const fn = registrationOf("", [{ id: "send-mail", event: "mail.due" }]).functions
  const ended = async (rig: Rig, id: string) => {
    const got = await rig.send({ method: "GET", path: `/api/v1/runs/${id}/wait?timeout=30000` })
    return JSON.parse(got.text)
  }

  session("a push handler of this package", async (rig, names) => {
    const description = {
      type: "description",
      capabilities: { turns: 1 },
      environment: "default",
      functions: fn
    }
    const { asked, entries, url } = await handler(rig, names, [
      () => description,
      () => ({
        type: "turn",
        ops: [
          stepDone("charge:0", { a: 1 }),
          { _tag: "RetryRun", error: { name: "Error", message: "no", code: "ERROR" }, due: { afterMs: 10 } }
        ]
      }),
      () => ({ type: "turn", ops: [complete({ ok: true })] })
    ])
    const registered = await ok(rig, "POST", "/api/v1/push/endpoints", { url })
    entries.push({ registered: JSON.parse(names.in(JSON.stringify(registered))) })
    await asked.take()
    const { runIds } = await emit(rig, "mail.due", { to: "ada" })
    await asked.take()
    await rig.passNext(10)
    await asked.take()
    return [...entries, { run: JSON.parse(names.in(JSON.stringify(await ended(rig, runIds[0])))) }]
  })

  session("another push handler", async (rig, names) => {
    const { asked, entries, url } = await handler(rig, names, [
      () => ({ status: "completed", steps: [] }),
      ({ body }) => ({
        status: "yielded",
        steps: [stepResult(body, "charge", { output: { a: 1 } })],
        yield: {
          type: "wait_for_event",
          step_id: `${body.run_id}:read:0`,
          event_filter: { event: "mail.read", timeout: "1h" }
        }
      }),
      () => ({ status: "completed", steps: [], result: { ok: true } })
    ])
    await rpc(rig, "RegisterFunction", {
      id: "send-mail",
      triggers: [{ event: "mail.due" }],
      preferredMode: "EXECUTION_MODE_PUSH",
      endpointUrl: url
    })
    const { runIds } = await emit(rig, "mail.due", { to: "ada" })
    await asked.take()
    await asked.take()
    await emit(rig, "mail.read", { by: "ada" })
    await asked.take()
    return [...entries, { run: JSON.parse(names.in(JSON.stringify(await ended(rig, runIds[0])))) }]
  })
})
